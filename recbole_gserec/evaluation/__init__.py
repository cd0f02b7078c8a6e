"""Ranking of targets: candidates drawn once, ties never in favour of the target (docs/evaluation.md)."""
