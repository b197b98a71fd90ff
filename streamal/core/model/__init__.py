"""The model and what guards it."""
