"""streamal: online active learning on message streams."""

__all__ = ["INSTALL", "__version__"]

__version__ = "0.1.0"

INSTALL = "pip install '.[{extra}]'"
"""The command that installs an extra, in a clone of the repository. Error messages and documents take it from here."""
