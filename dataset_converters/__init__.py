"""Converters from raw data to search-extended atomic files."""
