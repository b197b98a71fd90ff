"""The keys of the classes, the same on the label page and in the terminal, and the choice of a class by its name."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["CLASS_KEYS", "FIND", "find_classes", "keys_of"]

CLASS_KEYS = "1234567890abcdefhijklmnoprtvwyz"
"""In the order of the classes. Left out: S, X, U, G (guidelines, on the page) and Q (quit, in the terminal)."""
FIND = "/"
"""Begins the name of a class: that is how people reach the classes that have no key."""


def keys_of(classes: Sequence[str]) -> dict[str, str]:
    """Return key -> class; when there are more classes than keys, the last ones have none.

    >>> keys_of(["ham", "spam"])
    {'1': 'ham', '2': 'spam'}
    """
    return dict(zip(CLASS_KEYS, classes, strict=False))


def find_classes(classes: Sequence[str], typed: str) -> list[str]:
    """Return the classes that *typed* means: the one of that name, else those that begin with it, else contain it.

    >>> find_classes(["ham", "spam", "spam or ham"], "Spam")
    ['spam']
    >>> find_classes(["ham", "spam", "spam or ham"], "spa")
    ['spam', 'spam or ham']
    """
    wanted = typed.strip().casefold()
    if not wanted:
        return []
    if typed.strip() in classes:  # two names may differ in their case alone
        return [typed.strip()]
    folded = [(name, name.casefold()) for name in classes]
    for matches in (wanted.__eq__, lambda name: name.startswith(wanted), lambda name: wanted in name):
        if found := [name for name, text in folded if matches(text)]:
            return found
    return []
