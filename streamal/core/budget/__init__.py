"""The budget: how much may be asked."""
