"""Recorded streams as rows; nothing here knows the loop that replays them."""
