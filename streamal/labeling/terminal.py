"""A session at a terminal: one key for each class, skip, cannot tell, undo. The command draws it and reads the keys.

A reply on ``labels`` is final. So the session holds an answer back until the next one, or for some seconds, and undo
drops it. A crash in these seconds loses the answer, and the request is asked again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from streamal.core.records import Request
from streamal.labeling.feed import Feed
from streamal.labeling.keys import FIND, find_classes, keys_of
from streamal.labeling.queue import Entry

__all__ = ["CANNOT_TELL", "QUIT", "SKIP", "UNDO", "Session"]

SKIP, CANNOT_TELL, UNDO, QUIT = "s", "x", "u", "q"
_MATCHES_SHOWN = 10


@dataclass(frozen=True, slots=True)
class _UnsentAnswer:
    """An answer that undo can still drop; a label of None is an abstention."""

    entry: Entry
    label: str | None
    seconds: float
    at: float


class Session:
    """One annotator at one terminal."""

    def __init__(self, feed: Feed, annotator: str, classes: Sequence[str], undo_s: float) -> None:
        """Ask nothing yet. Undo works for *undo_s* seconds."""
        self._feed, self._annotator, self._undo_s = feed, annotator, undo_s
        self.keys = keys_of(classes)
        self.classes = tuple(classes)
        self._entry: Entry | None = None
        self._shown_at = 0.0
        self._unsent: _UnsentAnswer | None = None
        self.answered = 0
        """Answers given, the unsent one included."""

    def question(self, now: float) -> Request | None:
        """Return the request to show now, None if none waits; *now* in seconds.

        Raises:
            Uncommitted: a passing trouble of the transport; call again.
        """
        self._feed.read(now)
        if self._unsent is not None and now - self._unsent.at >= self._undo_s:
            self._send()
        without = (self._unsent.entry.request,) if self._unsent is not None else ()
        if self._entry is not None and not self._feed.queue.hold(self._entry.request, self._annotator, now):
            self._entry = None  # closed meanwhile, or answered elsewhere
        if self._entry is None:
            self._entry = self._feed.queue.lease(self._annotator, now, without)
            self._shown_at = now
        if self._entry is None:
            return None
        request = self._feed.fetch(self._entry)
        if request is None:
            self._entry = None
        return request

    def press(self, key: str, now: float) -> str:
        """Do what *key* means and return a line for the annotator, "" if the key means nothing now.

        A key that begins with `FIND` goes on with the name of a class, or with a part of a name that only one has.

        Raises:
            Uncommitted: the answer before could not be written; the session keeps it, call again.
        """
        if key == UNDO:
            return self._undo()
        if self._entry is None:
            return ""
        request = self._entry.request
        if key == SKIP:
            self._feed.queue.skip(request, self._annotator)
            self._entry = None
            return f"{request}: skipped"
        if key == CANNOT_TELL:
            return self._answer(self._entry, None, now)
        if key.startswith(FIND):
            found = find_classes(self.classes, key[len(FIND) :])
            return self._answer(self._entry, found[0], now) if len(found) == 1 else _describe_matches(key, found)
        return self._answer(self._entry, self.keys[key], now) if key in self.keys else ""

    def finish(self) -> None:
        """Write the unsent answer; raises what `press` raises."""
        self._send()

    def _answer(self, entry: Entry, label: str | None, now: float) -> str:
        self._send()
        self._unsent = _UnsentAnswer(entry, label, max(0.0, now - self._shown_at), now)
        self._entry = None
        self.answered += 1
        return f"{entry.request}: {'cannot tell' if label is None else label}   ({UNDO}: undo)"

    def _undo(self) -> str:
        if self._unsent is None:
            return "nothing to undo: the answer before is written"
        if self._entry is not None:
            self._feed.queue.release(self._entry.request, self._annotator)
        self._entry, self._unsent = self._unsent.entry, None
        self.answered -= 1
        return f"{self._entry.request}: taken back"

    def _send(self) -> None:
        if self._unsent is None:
            return
        unsent = self._unsent
        value = {"request": unsent.entry.request, "annotator": self._annotator, "seconds": round(unsent.seconds, 3)}
        verdict = {"abstain": True} if unsent.label is None else {"label": unsent.label}
        self._feed.write_reply(unsent.entry.request, json.dumps({**value, **verdict}).encode())
        self._unsent = None


def _describe_matches(key: str, found: Sequence[str]) -> str:
    if not found:
        return f"no class has {key[len(FIND) :]!r} in its name"
    more = f" and {len(found) - _MATCHES_SHOWN} more" if len(found) > _MATCHES_SHOWN else ""
    return f"{len(found)} classes match: {', '.join(found[:_MATCHES_SHOWN])}{more}"
