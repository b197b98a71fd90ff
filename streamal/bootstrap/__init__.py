"""From config to parts, once."""
