"""The spellings of a missing value: guessed only where a format has no types (CSV, columns of texts)."""

from __future__ import annotations

from collections.abc import Collection, Iterable

__all__ = ["SPELLINGS", "Missing", "is_infinite"]

_OF_SHEETS = {"#n/a", "#na", "#div/0!", "#value!", "#ref!", "#name?", "#num!", "#null!"}
SPELLINGS = frozenset(
    {"", "na", "n/a", "<na>", "null", "nil", "none", "nan", "nat", "-", "--", "?", ".", "missing", *_OF_SHEETS}
)
"""In lower case; what statistics packages, spreadsheets (their errors too), data bases and people write."""
_LENGTH_MAX = max(map(len, SPELLINGS))
_INFINITE = frozenset({"inf", "infinity", "∞"})


class Missing:
    """Tells which texts stand for a missing value.

    >>> missing = Missing(more=["9999"], never=["none"])
    >>> [text for text in ("NA", " - ", "9999", "none", "0") if missing.is_missing(text)]
    ['NA', ' - ', '9999']
    """

    def __init__(self, more: Iterable[str] = (), never: Collection[str] = (), *, guesses: bool = True) -> None:
        """Take the usual spellings if one *guesses*, and *more*; those in *never* are values, whatever the case."""
        self._never = {text.strip() for text in never}
        self._more = {text.strip() for text in more}
        self._guessed = SPELLINGS if guesses else frozenset({""})

    @property
    def has_numbers(self) -> bool:
        """Whether some spelling is a number, such as -9999."""
        return any(any(map(str.isdigit, text)) for text in self._more)

    def is_missing(self, text: str) -> bool:
        """Return whether *text* stands for a missing value."""
        stripped = text.strip()
        if stripped in self._more:
            return True
        if len(stripped) > _LENGTH_MAX:
            return False
        return stripped.casefold() in self._guessed and stripped not in self._never


def is_infinite(text: str) -> bool:
    """Return whether *text* spells an infinite number, which is no value of a feature."""
    return text.strip().lstrip("+-").casefold() in _INFINITE
