"""The examples that no model learns, since they kill the process that does: `Quarantine` records of ``training``.

Such a record stands behind the example that it names. So whoever folds looks for the records first, and folds then; a
fold that has learned the example already is of no use any more.
"""

from __future__ import annotations

from collections.abc import Iterable

from streamal.core.codec.events import decode_training
from streamal.core.records import Quarantine, Record

__all__ = ["find_quarantined"]

_BEGIN = b'{"kind":"quarantine"'


def find_quarantined(training: Iterable[Record]) -> dict[int, int]:
    """Return the offset of each quarantined example in the records of ``training``, and that of its `Quarantine`.

    >>> find_quarantined([Record("t", 0, 9, None, b'{"kind":"quarantine","of":4,"at":0.0,"why":"it crashes"}')])
    {4: 9}
    """
    found = {}
    for record in training:
        if record.value is not None and record.value.startswith(_BEGIN):
            match decode_training(record.value):
                case Quarantine(of=offset):
                    found[offset] = record.offset
                case _:
                    pass  # not ours: whoever folds it says so
    return found
