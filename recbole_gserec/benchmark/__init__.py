"""The comparison of models on datasets over seeds: runs that are stored one by one, and reports made from them."""
