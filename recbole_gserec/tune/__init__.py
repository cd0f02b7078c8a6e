"""``gserec tune``: hyper-parameter sweeps on Ray Tune."""
