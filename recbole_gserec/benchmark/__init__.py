"""Compares models on datasets over several seeds. Runs are stored one by one, and reports are made from them."""
