"""Recommendations and vectors from trained models, in original ids."""
