"""Search-extended datasets: atomic files, compact per-user arrays, batches."""
