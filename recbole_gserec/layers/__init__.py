"""Neural building blocks: one class per equation, with explicit arguments, independent of settings."""
