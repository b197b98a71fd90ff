"""The books: which requests are open, what labels have cost, how fast annotators answer, how far the logs were read.

They are always folded to the head of the log. The trainer joins by them, and the budget counts by them, whatever
version of the model predicts.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import assert_never

from streamal.core.budget.answer_rate import AnswerRate
from streamal.core.budget.money import Settlements
from streamal.core.new_classes import NewClasses
from streamal.core.pending import Pending
from streamal.core.records import (
    Abstention,
    Example,
    Expiry,
    FeatureValue,
    NaturalExample,
    Quarantine,
    Request,
    SchemaSet,
    Training,
    Version,
    WarmStart,
)

__all__ = ["Books"]


@dataclass(slots=True)
class Books:
    """What a worker knows besides the model; a fold of ``training`` and ``requests``.

    Attributes:
        pending: the open requests, and the memory of the closed ones.
        infer_from: after so many requests the trainer fixes the schema.
        samples: features of the first *infer_from* requests, from which the trainer infers the schema; None once
            there is one.
        version: how far ``training`` was folded.
        last: the last folded record of ``training``; a snapshot whose last record the log does not have is of
            another log.
        now: the latest time at which a training record was written; the next one is never older.
        asked_at: the latest time at which any request was asked.
        positions: partition -> next offset of ``requests`` to be read.
        new_classes: how many classes each annotator has created today.
        checksums: partition -> checksum of the last record of ``requests`` that was read.
    """

    pending: Pending
    infer_from: int
    samples: list[dict[str, FeatureValue]] | None = None
    version: Version = field(default_factory=lambda: Version(0, 0))
    last: bytes | None = None
    now: float = 0.0
    asked_at: float = 0.0
    positions: dict[int, int] = field(default_factory=dict)
    checksums: dict[int, int] = field(default_factory=dict)
    settlements: Settlements = field(default_factory=Settlements)
    answer_rate: AnswerRate = field(default_factory=AnswerRate)
    new_classes: NewClasses = field(default_factory=NewClasses)

    def apply(self, record: Training, offset: int, value: bytes | None) -> None:
        """Take in *record*, which stands as *value* at *offset* of ``training``."""
        self.version, self.last = self.version.after(offset), value
        self.now = max(self.now, record.at)
        match record:
            case Example() | Abstention() | Expiry():
                self.pending.close(record)
                self.settlements.fold(record)
                self.answer_rate.fold(record)
            case NaturalExample():
                if record.event is not None:
                    self.pending.note_natural(record.event, record.label)
            case SchemaSet():
                self.samples = None
            case WarmStart() | Quarantine():
                pass
            case _:
                assert_never(record)

    def note_request(self, partition: int, offset: int, key: bytes | None, value: bytes | None) -> None:
        """Note that the record at *offset* of ``requests`` was read."""
        self.positions[partition] = offset + 1
        self.checksums[partition] = self.checksum(key, value)

    @staticmethod
    def checksum(key: bytes | None, value: bytes | None) -> int:
        """Return the checksum of a record."""
        return zlib.crc32(value or b"", zlib.crc32(key or b""))

    def apply_request(self, request: Request) -> None:
        """Take in *request*; one that was seen already changes nothing."""
        if request.request in self.pending:
            return
        self.asked_at = max(self.asked_at, request.asked_at)
        self.pending.add(request)
        if self.samples is not None and len(self.samples) < self.infer_from:
            self.samples.append(request.features)
