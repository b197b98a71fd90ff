"""Labels: one spelling for each class, whatever the format that a label comes in, and the class that was meant.

The rule of `class_name` holds for replies and natural labels, recordings, imports, warm starts and ``labels.classes``
alike. It joins what formats tell apart (1, 1.0, "1", "1.0"; True, "True", true), never what a person may have meant
as two classes ("US", "us"): such near-misses are no class, and whoever refuses them says which one was probably meant.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from streamal.core.schema import quote

__all__ = ["class_name", "explain_unknown", "find_meant", "group_alike"]

_TRUTHS = frozenset({"true", "false"})
_WHOLE = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.0+)?", re.ASCII)
"""A whole number, as CSV files, spreadsheets and JSON write one; 007 is a code."""
_WHOLE_MAX = 2.0**63
_CLASSES_SHOWN = 10
_KNOWN_MAX = 50
"""Beside the class that was meant so many characters of the others have room in a dead letter."""
_INVISIBLE = frozenset({"Cc", "Cf", "Zl", "Zp", "Zs"})
"""Categories of Unicode: controls, marks of format, and spaces of every kind."""


def class_name(label: Any) -> str:
    """Return the one spelling of *label*: River would take 1, True and 1.0 for one class but "1" for another.

    Spaces around a text do not count, in Unicode's sense of space. A truth value is "true" or "false", as is a text
    that spells one in any case. A whole number has no decimals; any other number is written as Python does. Bytes are
    read as UTF-8.

    >>> [class_name(label) for label in (1, 1.0, "1", "1.0", " 1 ")]
    ['1', '1', '1', '1', '1']
    >>> class_name(True), class_name("TRUE"), class_name(" wet "), class_name(b"dry"), class_name(0.5)
    ('true', 'true', 'wet', 'dry', '0.5')
    >>> class_name("007"), class_name("1.50"), class_name("Wet")
    ('007', '1.50', 'Wet')
    """
    if isinstance(label, float) and label.is_integer() and abs(label) < _WHOLE_MAX:
        label = int(label)
    text = (label.decode(errors="replace") if isinstance(label, bytes) else str(label)).strip()
    if len(text) <= len("false") and text.lower() in _TRUTHS:
        return text.lower()
    whole = _WHOLE.fullmatch(text)
    if whole is None:
        return text
    sign, digits = whole.groups()
    return digits if digits == "0" else sign + digits


def find_meant(label: str, classes: Iterable[str]) -> str | None:
    """Return the class that *label* probably means: it differs in case, spaces or Unicode form only; None: no such.

    >>> find_meant("Not  Spam", ["spam", "not spam"])
    'not spam'
    """
    letters = _letters(label)
    return next((each for each in classes if each != label and _letters(each) == letters), None)


def group_alike(classes: Iterable[str]) -> list[list[str]]:
    """Return the *classes* that differ from each other in case, spaces or Unicode form only, together.

    >>> group_alike(["spam", "ham", "Spam"])
    [['spam', 'Spam']]
    """
    groups: dict[str, list[str]] = {}
    for each in classes:
        groups.setdefault(_letters(each), []).append(each)
    return [group for group in groups.values() if len(group) > 1]


def explain_unknown(label: str, classes: Sequence[str]) -> str:
    """Return why *label* cannot be learned, with the class that was probably meant or some of those there are.

    >>> explain_unknown("WET", ["dry", "wet"])
    "label 'WET' is not among the classes (dry, wet): 'wet' was probably meant, which differs in case"
    >>> explain_unknown("maybe", ["dry", "wet"])
    "label 'maybe' is not among the classes (dry, wet)"
    """
    meant, known = find_meant(label, classes), f" ({', '.join(classes[:_CLASSES_SHOWN])})"
    if meant is None:
        return f"label {quote(label)} is not among the classes{known}"
    if len(known) > _KNOWN_MAX:
        known = ""
    return (
        f"label {quote(label)} is not among the classes{known}: {quote(meant)} was probably meant, "
        f"which differs in {_difference(label, meant)}"
    )


def _letters(label: str) -> str:
    """Return *label* without what a near-miss may differ in."""
    folded = unicodedata.normalize("NFKC", label).casefold()
    seen = "".join(letter for letter in folded if unicodedata.category(letter) not in _INVISIBLE)
    return unicodedata.normalize("NFKC", seen)


def _difference(label: str, meant: str) -> str:
    """Return what tells *label* from *meant*, which have the same letters."""
    if unicodedata.normalize("NFC", label) == unicodedata.normalize("NFC", meant):
        return "Unicode form (write NFC)"
    if label.casefold() == meant.casefold():
        return "case"
    if "".join(label.split()) == "".join(meant.split()):
        return "spaces"
    return "case, spaces or Unicode form"
