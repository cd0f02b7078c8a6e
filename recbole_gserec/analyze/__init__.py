"""The figures and tables of GSERec's paper that are made of finished work: runs, sweeps, checkpoints, datasets."""
