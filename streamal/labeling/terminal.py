"""A labeller for the terminal: one key per class, skip, cannot tell, undo. It draws nothing and reads no keys.

A reply cannot be taken back once it is on ``labels``. So the last answer is held until the next one is given, or for
some seconds: undo takes it back. A crash in these seconds loses it, and the request is asked again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from streamal.core.records import Request
from streamal.labeling.feed import Feed
from streamal.labeling.queue import Entry

__all__ = ["CANNOT_TELL", "QUIT", "SKIP", "UNDO", "Session", "keys_of"]

SKIP, CANNOT_TELL, UNDO, QUIT = "s", "x", "u", "q"
_KEYS = "123456789abcdefghijklmnoprtvwyz"


def keys_of(classes: Sequence[str]) -> dict[str, str]:
    """Return key -> class; those beyond the keys there are have none.

    >>> keys_of(["ham", "spam"])
    {'1': 'ham', '2': 'spam'}
    """
    return dict(zip(_KEYS, classes, strict=False))


@dataclass(frozen=True, slots=True)
class _Held:
    entry: Entry
    label: str | None
    seconds: float
    at: float


class Session:
    """One annotator at one terminal."""

    def __init__(self, feed: Feed, annotator: str, classes: Sequence[str], undo_s: float) -> None:
        """Ask nothing yet. *undo_s*: for so many seconds an answer can be taken back."""
        self._feed, self._annotator, self._undo_s = feed, annotator, undo_s
        self.keys = keys_of(classes)
        self._entry: Entry | None = None
        self._shown_at = 0.0
        self._held: _Held | None = None
        self.answered = 0
        """Answers given, the held one included."""

    def question(self, now: float) -> Request | None:
        """Return what is to be answered now, None if nothing waits; *now* in seconds.

        Raises:
            Uncommitted: a passing trouble of the transport; call again.
        """
        self._feed.read(now)
        if self._held is not None and now - self._held.at >= self._undo_s:
            self._send()
        held = (self._held.entry.request,) if self._held is not None else ()
        if self._entry is not None and not self._feed.queue.hold(self._entry.request, self._annotator, now):
            self._entry = None  # closed meanwhile, or answered elsewhere
        if self._entry is None:
            self._entry = self._feed.queue.lease(self._annotator, now, held)
            self._shown_at = now
        if self._entry is None:
            return None
        request = self._feed.fetch(self._entry)
        if request is None:
            self._entry = None
        return request

    def press(self, key: str, now: float) -> str:
        """Do what *key* stands for and return what to tell, "" if it stands for nothing now.

        Raises:
            Uncommitted: the answer before could not be written; it is still held, call again.
        """
        if key == UNDO:
            return self._undo()
        if self._entry is None:
            return ""
        request = self._entry.request
        if key == SKIP:
            self._feed.queue.skip(request, self._annotator)
            self._entry = None
            return f"{request}: put aside"
        if key != CANNOT_TELL and key not in self.keys:
            return ""
        self._send()
        label = None if key == CANNOT_TELL else self.keys[key]
        self._held = _Held(self._entry, label, max(0.0, now - self._shown_at), now)
        self._entry = None
        self.answered += 1
        return f"{request}: {'cannot tell' if label is None else label}   ({UNDO}: undo)"

    def finish(self) -> None:
        """Write the answer that is still held; raises what `press` raises."""
        self._send()

    def _undo(self) -> str:
        if self._held is None:
            return "nothing to undo: the answer before is written"
        if self._entry is not None:
            self._feed.queue.release(self._entry.request, self._annotator)
        self._entry, self._held = self._held.entry, None
        self.answered -= 1
        return f"{self._entry.request}: taken back"

    def _send(self) -> None:
        if self._held is None:
            return
        held = self._held
        value = {"request": held.entry.request, "annotator": self._annotator, "seconds": round(held.seconds, 3)}
        said = {"abstain": True} if held.label is None else {"label": held.label}
        self._feed.answer(held.entry.request, json.dumps({**value, **said}).encode())
        self._held = None
