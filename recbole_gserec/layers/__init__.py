"""Neural building blocks: each equation once, explicit constructor arguments, no knowledge of settings."""
