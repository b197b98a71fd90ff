"""Comparing and tuning on recordings."""
