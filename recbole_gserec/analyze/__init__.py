"""Figures and tables of GSERec's paper, made from existing runs, sweeps, checkpoints and datasets."""
