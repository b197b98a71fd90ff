"""The user's own code, named as ``package.module:name``: imported, with errors that say what went wrong and where."""

from __future__ import annotations

import importlib
import sys
from typing import Any

__all__ = ["describe_error", "load_own"]

_FOLDERS_SHOWN = 5


def load_own(path: str) -> Any:
    """Return what *path* names, for example the function ``build`` of the module ``mine`` for "mine:build".

    Raises:
        Exception: whatever the import raises; `describe_error` explains it.
    """
    module_name, _, name = path.partition(":")
    return getattr(importlib.import_module(module_name), name)


def describe_error(error: BaseException, path: str) -> str:
    """Return what went wrong with the code that *path* names: the error, where it was raised, where it was looked for.

    >>> try:
    ...     load_own("no_such_module:build")
    ... except ImportError as error:
    ...     describe_error(error, "no_such_module:build")[:54]
    "ModuleNotFoundError: No module named 'no_such_module';"
    """
    module_name, _, name = path.partition(":")
    said = f"{type(error).__name__}: {error}".rstrip(": ")
    if isinstance(error, ModuleNotFoundError) and error.name and f"{module_name}.".startswith(f"{error.name}."):
        return (
            f"{said}; it was looked for in {_folders()}: start `python -m streamal` in the folder that holds it, or "
            "name that folder in PYTHONPATH"
        )
    module = sys.modules.get(module_name)
    file = getattr(module, "__file__", None)
    if isinstance(error, AttributeError) and module is not None and not hasattr(module, name):
        return f"{said}; it was looked for in {file or 'that module'}"
    line = _line_in(error, module_name)
    return said if line is None else f"{said} (line {line} of {module_name})"


def _folders() -> str:
    """Return where modules are looked for, without the folders of Python itself and of what is installed."""
    own = [path or "the present folder" for path in sys.path if not path.startswith((sys.prefix, sys.base_prefix))]
    return ", ".join(own[:_FOLDERS_SHOWN]) or "no folder but those of installed packages"


def _line_in(error: BaseException, module_name: str) -> int | None:
    """Return the last line of the module that *error* came through."""
    line, frame = None, error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_globals.get("__name__") == module_name:
            line = frame.tb_lineno
        frame = frame.tb_next
    return line
