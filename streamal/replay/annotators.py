"""Simulated annotators of a recorded stream: they know the truth, and reply late, wrongly, unsurely, or never.

Every random draw is a keyed hash of (seed, purpose, coordinates), so that two replays differ only by what was changed.
"""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from streamal.core.codec.events import decode_request
from streamal.core.coins import HashedUniform
from streamal.core.records import OutputRecord, Request
from streamal.ports import Log, scan
from streamal.recordings.reading import Recorded, Stream

__all__ = ["Annotators", "AnnotatorsRules"]


@dataclass(frozen=True, slots=True)
class AnnotatorsRules:
    """How the annotators reply.

    Attributes:
        delay_s: median delay in seconds, where the stream records none; 0 replies at once.
        spread: standard deviation of the delay's logarithm: 1 makes one in six wait more than e times the median.
        error: share of wrong labels.
        abstain: share of "cannot tell".
        silence: share of requests without a reply.
    """

    delay_s: float = 0.0
    spread: float = 1.0
    error: float = 0.0
    abstain: float = 0.0
    silence: float = 0.0
    seed: int = 1


class Annotators:
    """Reads ``requests``, and appends a reply to ``labels`` when it is due."""

    def __init__(self, log: Log, requests: str, labels: str, stream: Stream, rules: AnnotatorsRules) -> None:
        """Reply with the labels of *stream*; `assign` says which event is which row."""
        self._log, self._requests, self._labels, self._stream, self._rules = log, requests, labels, stream, rules
        purposes = ("delay", "error", "wrong", "abstain", "silence")
        self._coins = {purpose: HashedUniform(rules.seed, purpose) for purpose in purposes}
        self._rows: dict[str, Recorded] = {}
        self._positions = dict.fromkeys(range(log.partitions(requests)), 0)
        self._due: list[tuple[float, str, Recorded]] = []
        self.seen = 0
        """Requests for our rows so far."""

    @property
    def next_due(self) -> float | None:
        """When the next reply is due, in seconds; None if no request is open that will get one."""
        return self._due[0][0] if self._due else None

    def assign(self, request: str, row: Recorded) -> None:
        """Note that *row* is the event that *request* asks about."""
        self._rows[request] = row

    def forget(self, request: str) -> None:
        """Answer *request* only if it was made already: its row is needed no more."""
        del self._rows[request]

    def read(self) -> None:
        """Read the requests that were written since the last call."""
        for partition, position in self._positions.items():
            for record in scan(self._log, self._requests, partition, position):
                self._positions[partition] = record.offset + 1
                request = None if record.value is None else decode_request(record.value)
                if isinstance(request, Request):
                    self._take(request)

    def respond(self, now: float) -> int:
        """Append the replies that are due at *now*; return how many."""
        replies = []
        while self._due and self._due[0][0] <= now:
            _, request, row = heapq.heappop(self._due)
            reply = json.dumps(self._reply(request, row.label)).encode()
            replies.append(OutputRecord(self._labels, 0, request.encode(), reply))
        self._log.append_all(replies)
        return len(replies)

    def _take(self, request: Request) -> None:
        row = self._rows.get(request.request)
        if row is None:
            return
        self.seen += 1
        if self._coins["silence"].uniform(request.request) < self._rules.silence:
            return
        heapq.heappush(self._due, (self._due_at(request, row), request.request, row))

    def _due_at(self, request: Request, row: Recorded) -> float:
        if row.label_time is not None:
            return max(request.asked_at, row.label_time)
        if not self._rules.delay_s:
            return request.asked_at
        z = NormalDist().inv_cdf(min(1 - 1e-9, max(1e-9, self._coins["delay"].uniform(request.request))))
        return request.asked_at + self._rules.delay_s * math.exp(self._rules.spread * z)

    def _reply(self, request: str, truth: str) -> dict[str, object]:
        if self._coins["abstain"].uniform(request) < self._rules.abstain:
            return {"request": request, "abstain": True, "annotator": "oracle"}
        if self._coins["error"].uniform(request) < self._rules.error:
            return {"request": request, "label": self._wrong(request, truth), "annotator": "oracle"}
        return {"request": request, "label": truth, "annotator": "oracle"}

    def _wrong(self, request: str, truth: str) -> str:
        others: Sequence[str] = [label for label in self._stream.classes if label != truth] or [truth]
        return others[int(self._coins["wrong"].uniform(request) * len(others))]
