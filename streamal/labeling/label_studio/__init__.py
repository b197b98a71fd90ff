"""The Label Studio bridge."""
