"""Objects as bytes and back, for our own use: models, and all that is kept with them.

See `SlimPickler` for what is left out: a forest of ten trees is a twenty-fifth of its size.
"""

from __future__ import annotations

import gc
import io
import pickle
from typing import Any

from streamal.core.model.river_fast import SlimPickler

__all__ = ["dumps", "loads"]


def dumps(thing: object) -> bytes:
    """Return *thing* as bytes; raises what pickle raises."""
    buffer = io.BytesIO()
    SlimPickler(buffer, protocol=5).dump(thing)
    return buffer.getvalue()


def loads(data: bytes) -> Any:
    """Return what `dumps` was given; *data* must be our own: unpickling runs what it names."""
    enabled = gc.isenabled()
    gc.disable()  # the collector would walk through a forest, millions of small objects, again and again
    try:
        return pickle.loads(data)
    finally:
        if enabled:
            gc.enable()
