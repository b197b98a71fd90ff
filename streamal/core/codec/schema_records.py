"""The schema in the training log."""

from __future__ import annotations

from collections.abc import Iterable

from streamal.core.codec.events import decode_training
from streamal.core.records import Record, SchemaSet

__all__ = ["find_schema"]

_BEGIN = b'{"kind":"schema"'


def find_schema(training: Iterable[Record]) -> dict[str, str]:
    """Return name -> kind as the records of *training* set it, {} if none of them does."""
    kinds: dict[str, str] = {}
    for record in training:
        if (record.value or b"").startswith(_BEGIN):
            found = decode_training(record.value)
            if isinstance(found, SchemaSet):
                kinds |= found.features
    return kinds
