"""Raw data to search-extended atomic files."""
