"""streamal: online active learning on message streams."""

__all__ = ["__version__"]

__version__ = "0.1.0"
