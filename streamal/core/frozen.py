"""A fold as bytes and back, for the snapshot cache: a pickle of our own making behind a fingerprint.

A snapshot of another model configuration, River, Python or hash seed is not taken (F41): the log is folded afresh
instead. Nothing is lost by refusing one, so there is no doubt to be given the benefit of.
"""

from __future__ import annotations

import gc
import pickle

from streamal.core.fold import Fold

__all__ = ["freeze", "thaw"]

_FORMAT = 3


def freeze(fold: Fold, fingerprint: str) -> bytes:
    """Return *fold* as bytes that only a worker with the same *fingerprint* will take."""
    return pickle.dumps((_FORMAT, fingerprint, fold), protocol=5)


def thaw(data: bytes, fingerprint: str) -> Fold | None:
    """Return the fold in *data*, or None if it is of another make or cannot be read.

    *data* must come from our own directory and have passed its checksum: unpickling runs what it names.
    """
    enabled = gc.isenabled()
    gc.disable()  # 1.5 to 7 times faster for forests, which are millions of small objects
    try:
        snapshot_format, made_by, fold = pickle.loads(data)
    except Exception:
        return None
    finally:
        if enabled:
            gc.enable()
    return fold if (snapshot_format, made_by) == (_FORMAT, fingerprint) and isinstance(fold, Fold) else None
