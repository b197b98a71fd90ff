"""Events to be sent: JSON lines as they are, rows of CSV as events. Each is checked as the daemon would check it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import msgspec

from streamal.core.codec.events import decode_events
from streamal.core.codec.wire_rules import WireRules
from streamal.core.records import Record
from streamal.core.schema import Schema
from streamal.exchange.lines import Line

__all__ = [
    "EventLine",
    "EventReader",
    "Events",
    "JsonEvents",
    "LineFlaw",
    "check_events",
    "partition_of_key",
    "read_events",
]


class EventLine(NamedTuple):
    """An event; *line* is the last line that it stands on, *value* the record for ``events``."""

    line: int
    value: bytes
    key: bytes | None


class LineFlaw(NamedTuple):
    """The reason why a line is no event."""

    line: int
    reason: str


@dataclass(slots=True)
class Events:
    """What some lines hold.

    Attributes:
        ready: events that may be sent.
        flaws: lines that are no events, or that the daemon would refuse.
        dropped: how many features of *ready* the schema does not know: the daemon drops them.
    """

    ready: list[EventLine] = field(default_factory=list)
    flaws: list[LineFlaw] = field(default_factory=list)
    dropped: int = 0


class EventReader(Protocol):
    """Reads events out of lines; it may keep some for later."""

    def feed(self, lines: Sequence[Line]) -> Events:
        """Return the events that *lines* complete."""
        ...

    def finish(self) -> Events:
        """Return the events that were waiting for further lines."""
        ...

    def notes(self) -> Sequence[str]:
        """Return what a person should know of what was read so far."""
        ...


def read_events(
    batches: Iterable[Sequence[Line]], reader: EventReader, check: Callable[[Events], Events]
) -> Iterator[Events]:
    """Yield the events of *batches* of lines as they come, each batch as *check* returns it."""
    for batch in batches:
        yield check(reader.feed(batch))
    yield check(reader.finish())


def check_events(events: Events, rules: WireRules, schema: Schema | None) -> Events:
    """Return *events* as a daemon with *rules* and *schema* would judge them."""
    by_line = {each.line: each for each in events.ready}
    decoded = decode_events((Record("", 0, line, None, each.value) for line, each in by_line.items()), rules, schema)
    refused = {record.offset: refusal for record, refusal in decoded.refused}
    flaws = [*events.flaws, *(LineFlaw(line, f"{each.reason}: {each.detail}") for line, each in refused.items())]
    return Events([each for each in events.ready if each.line not in refused], sorted(flaws), decoded.dropped)


class JsonEvents:
    """Reads events out of JSON lines; blank lines are none."""

    def __init__(self, key: str | None) -> None:
        """Take the key of a record from the field *key* of its event, or from the feature of that name."""
        self._key = key

    def feed(self, lines: Sequence[Line]) -> Events:
        """Return the events in *lines*."""
        found = Events()
        for line in lines:
            if not line.text or line.text.isspace():
                continue
            key = None if self._key is None else _key_in(line.text, self._key)
            if self._key is not None and key is None:
                found.flaws.append(LineFlaw(line.number, f"there is no field or feature {self._key!r} for the key"))
            else:
                found.ready.append(EventLine(line.number, line.text, key))
        return found

    def finish(self) -> Events:
        """Return what waits for further lines: nothing does."""
        return Events()

    def notes(self) -> Sequence[str]:
        """Return what a person should know of the lines so far: nothing."""
        return ()


def _key_in(text: bytes, name: str) -> bytes | None:
    """Return the field *name* of an event, or its feature of that name, as the key of a record."""
    try:
        event = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return b""  # the check says what is wrong
    if not isinstance(event, dict):
        return b""
    features = event.get("features")
    value = event.get(name, features.get(name) if isinstance(features, dict) else None)
    if isinstance(value, str):
        return value.encode()
    return None if value is None else msgspec.json.encode(value)


def partition_of_key(key: bytes, partitions: int) -> int:
    """Return the partition in which Kafka's own producers put a record of that *key*.

    They hash it by MurmurHash2 with a seed of their own (``org.apache.kafka.common.utils.Utils.murmur2``).

    >>> partition_of_key(b"foobar", 12), partition_of_key(b"customer-1845", 12)
    (6, 2)
    """
    return (_murmur2(key) & 0x7FFFFFFF) % partitions


def _murmur2(data: bytes) -> int:
    mix, word = 0x5BD1E995, 0xFFFFFFFF
    hashed = 0x9747B28C ^ len(data)
    whole = len(data) & ~3
    for begin in range(0, whole, 4):
        part = int.from_bytes(data[begin : begin + 4], "little") * mix & word
        part = (part ^ part >> 24) * mix & word
        hashed = hashed * mix & word ^ part
    if whole < len(data):
        hashed = (hashed ^ int.from_bytes(data[whole:], "little")) * mix & word
    hashed = (hashed ^ hashed >> 13) * mix & word
    return hashed ^ hashed >> 15
