"""Evaluation by leave-one-out ranking: candidates drawn once, ranks that never favour the target (docs/evaluation.md)."""
