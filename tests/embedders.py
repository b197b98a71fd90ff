"""Functions for `features.embed`: one that works, and some that do not."""

from __future__ import annotations

from typing import Any

import numpy as np

CALLS: list[list[str]] = []
"""What `letters` was called with."""


def letters(texts: list[str]) -> Any:
    """Count the letters of each text: a vector of 26 numbers."""
    CALLS.append(texts)
    return [[float(text.count(chr(97 + i))) for i in range(26)] for text in texts]


letters.version = "1.0"  # type: ignore[attr-defined]


def beside(texts: list[str]) -> Any:
    """Depend on the other texts of the call, as a padded batch does in the last bits."""
    return np.array(letters(texts)) + 1e-9 * len(texts)


def never_alike(texts: list[str]) -> Any:
    """Give another vector in each call."""
    return np.array(letters(texts)) + len(CALLS)


def too_few(texts: list[str]) -> Any:
    """Give one vector, however many texts come."""
    return letters(texts)[:1]


def nan_for_secrets(texts: list[str]) -> Any:
    """Give no numbers for one text."""
    return [[float("nan") if "secret" in text else 1.0, 2.0] for text in texts]


def fails_later(texts: list[str]) -> Any:
    """Work for the probes alone."""
    if texts[0] != "the quick brown fox":
        raise OSError("the model is gone")
    return letters(texts)
