"""Recorded streams as rows: reading and writing."""
