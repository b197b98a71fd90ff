"""Dead letters: what is kept of a refused record, and why it was refused."""

from __future__ import annotations

import base64
import hashlib

import msgspec

from streamal.core.codec.events import encode
from streamal.core.records import Reason, Refusal

__all__ = ["DeadLetter", "dead_letter"]

_HEAD_BYTES = 256
"""How much of a refused record its dead letter keeps: enough to recognise it, never enough to fill a disk."""


class DeadLetter(msgspec.Struct, frozen=True, omit_defaults=True):
    """A refused input on ``dead-letters``: where it was, why, its SHA-256 and its first 256 bytes (base64)."""

    topic: str
    partition: int
    offset: int
    reason: Reason
    detail: str
    at: float
    bytes: int
    sha256: str
    head: str


def dead_letter(topic: str, partition: int, offset: int, value: bytes | None, refusal: Refusal, at: float) -> bytes:
    """Return the dead letter for a refused record, at most about 1 kB whatever came in."""
    body = value or b""
    return encode(
        DeadLetter(
            topic=topic,
            partition=partition,
            offset=offset,
            reason=refusal.reason,
            detail=refusal.detail.encode(errors="replace")[:_HEAD_BYTES].decode(errors="ignore"),
            at=at,
            bytes=len(body),
            sha256=hashlib.sha256(body).hexdigest(),
            head=base64.b64encode(body[:_HEAD_BYTES]).decode(),
        )
    )
