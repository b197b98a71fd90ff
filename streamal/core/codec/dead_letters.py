"""Dead letters: what is kept of a refused record, and why it was refused."""

from __future__ import annotations

import base64
import hashlib

import msgspec

from streamal.core.codec.events import encode
from streamal.core.records import Reason, Refusal

__all__ = ["DeadLetter", "dead_letter"]

_DETAIL_BYTES = 256


class DeadLetter(msgspec.Struct, frozen=True, omit_defaults=True):
    """A refused input on ``dead-letters``: where it was, why, its SHA-256 and its first bytes (base64).

    As many of these as ``limits.dead_letter_bytes`` says: enough to mend most records, never enough to fill a disk.
    """

    topic: str
    partition: int
    offset: int
    reason: Reason
    detail: str
    at: float
    bytes: int
    sha256: str
    head: str


def dead_letter(
    topic: str, partition: int, offset: int, value: bytes | None, refusal: Refusal, at: float, head_bytes_max: int = 256
) -> bytes:
    """Return the dead letter for a refused record: below 1 kB and 4/3 of *head_bytes_max*, whatever came in."""
    body = value or b""
    return encode(
        DeadLetter(
            topic=topic,
            partition=partition,
            offset=offset,
            reason=refusal.reason,
            detail=refusal.detail.encode(errors="replace")[:_DETAIL_BYTES].decode(errors="ignore"),
            at=at,
            bytes=len(body),
            sha256=hashlib.sha256(body).hexdigest(),
            head=base64.b64encode(body[:head_bytes_max]).decode(),
        )
    )
