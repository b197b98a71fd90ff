"""A fold as bytes and back, for the snapshot cache: a pickle of our own making behind a fingerprint.

A snapshot of another model configuration, River, Python or hash seed is not taken (F41): the log is folded afresh
instead. Nothing is lost by refusing one, so there is no doubt to be given the benefit of.
"""

from __future__ import annotations

from streamal.core.fold import Fold
from streamal.core.model.slim_pickle import dumps, loads

__all__ = ["decode_snapshot", "encode_snapshot"]

_FORMAT = 8


def encode_snapshot(fold: Fold, fingerprint: str) -> bytes:
    """Return *fold* as bytes that only a worker with the same *fingerprint* will take."""
    return dumps((_FORMAT, fingerprint, fold))


def decode_snapshot(data: bytes, fingerprint: str) -> Fold | None:
    """Return the fold in *data*, or None if it is of another make or cannot be read.

    *data* must come from our own directory and have passed its checksum: unpickling runs what it names.
    """
    try:
        snapshot_format, made_by, fold = loads(data)
    except Exception:
        return None
    return fold if (snapshot_format, made_by) == (_FORMAT, fingerprint) and isinstance(fold, Fold) else None
