"""Ranks targets: candidates are drawn once, and ties never favour the target (docs/evaluation.md)."""
