"""Annotators that cannot be trusted: they answer late, twice, otherwise, about what they cannot know, or rubbish.

They read the requests as anybody does, committed ones only, and note for the checks what they have seen when.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from streamal.core.codec.events import decode_request
from streamal.core.records import Request, coordinates
from streamal.edge.memory import Broker
from tests.simulation.fakes import FakeClock
from tests.simulation.scenario import CLASSES, TOPICS


@dataclass(frozen=True, slots=True)
class Posted:
    """A reply as it was posted, and what was to be seen at that moment.

    Attributes:
        number: written into the reply, so that a training record can be traced back to it.
        label: None for an abstention.
        seen: whether the request was committed and readable; else the annotator has only guessed its name.
        in_time: whether no clock had shown the request's deadline yet.
    """

    number: int
    offset: int
    request: str
    label: str | None
    seen: bool
    in_time: bool


@dataclass(frozen=True, slots=True)
class Told:
    """A natural label as it was posted; without an *event* it is self-contained."""

    number: int
    offset: int
    event: str | None
    label: str


class Annotators:
    """All annotators together."""

    def __init__(self, broker: Broker, clock: FakeClock, say: Callable[[str], None]) -> None:
        self.broker, self.clock, self.say = broker, clock, say
        self.partitions = broker.partitions(TOPICS.events)
        self.requests: dict[str, Request] = {}
        self.posted: list[Posted] = []
        self.told: list[Told] = []
        self._read = [0] * self.partitions

    def reply(self, kind: str, number: int, value: bytes | None = None) -> None:
        """Append a reply of *kind* to the request that *number* points to, if there is any to reply to so."""
        self._look()
        if kind == "bad":
            self.broker.append(TOPICS.labels, 0, None, value)
            return
        if kind in {"natural", "self-contained"}:
            self.tell(kind == "natural", number)
            return
        names = self._names(kind, number)
        if not names:
            return
        # mostly the newest: a fast annotator is the one that overtakes
        name = names[-1 - number % min(len(names), 3)] if number % 4 else names[number % len(names)]
        self.post(name, self._label(kind, number, name))

    def post(self, name: str, label: str | None) -> None:
        """Append a well-formed reply."""
        number = len(self.posted)
        body: dict[str, object] = {"request": name, "reply": str(number), "annotator": "simulated"}
        body |= {"seconds": number * 7 % 70} if number % 5 else {}
        body |= {"abstain": True} if label is None else {"label": label}
        offset = self.broker.append(TOPICS.labels, 0, None, json.dumps(body).encode())
        request = self.requests.get(name)
        in_time = request is not None and self.clock.latest < request.expires_at
        self.posted.append(Posted(number, offset, name, label, request is not None, in_time))
        self.say(f"reply {number} to {name}: {label}")

    def tell(self, named: bool, number: int) -> None:
        """Append a natural label: of an event that is there, or will be, or is refusable; or of features it brings."""
        partition = number % self.partitions
        there = self.broker.end(TOPICS.events, partition)
        event = coordinates(partition, number % (there + 2)) if named else None
        body = {"event": event} if named else {"features": {"x": number % 7}}
        told = Told(len(self.told), self.broker.end(TOPICS.labels, 0), event, CLASSES[number % 3 == 0])
        reply = json.dumps({**body, "label": told.label, "reply": f"n{told.number}"}).encode()
        assert self.broker.append(TOPICS.labels, 0, None, reply) == told.offset
        self.told.append(told)
        self.say(f"natural label {told.number} of {event}: {told.label}")

    def _names(self, kind: str, number: int) -> list[str]:
        if kind in {"duplicate", "conflicting"}:
            return [posted.request for posted in self.posted if posted.label is not None]
        if kind == "forged":
            partition = number % (self.partitions + 1)
            return ["nonsense", coordinates(partition, number % 11), coordinates(partition, 10**6)]
        return list(self.requests)

    def _label(self, kind: str, number: int, name: str) -> str | None:
        if kind in {"duplicate", "conflicting"}:
            before = next(p.label for p in reversed(self.posted) if p.request == name)
            return before if kind == "duplicate" else CLASSES[before == CLASSES[0]]
        if kind == "new_class":
            return f"new{number % 3}"
        return None if kind == "abstain" else CLASSES[number % 2]

    def _look(self) -> None:
        """Read the new requests, as an annotator does: committed ones only."""
        for partition in range(self.partitions):
            for record in self.broker.read(TOPICS.requests, partition, self._read[partition], 1000):
                self._read[partition] = record.offset + 1
                if record.value is not None:
                    request = decode_request(record.value)
                    assert isinstance(request, msgspec.Struct)
                    self.requests[request.request] = request
