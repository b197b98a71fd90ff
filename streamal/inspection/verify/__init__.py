"""Verify: what the topics tell, without the daemon."""
