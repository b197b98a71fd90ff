"""What an annotator can do with the open queue: take the next request, answer it, put it aside.

Every function here runs on the desk's thread, so that each is one step for all annotators together.
"""

from __future__ import annotations

from typing import Any

import msgspec

from streamal.bootstrap.assembly import wire_rules
from streamal.config import Config
from streamal.core.codec.events import decode_event
from streamal.core.codec.replies import decode_reply
from streamal.core.records import Refusal, Reply
from streamal.labeling.topics_thread import Desk
from streamal.labeling.web.rendering import Template, shown

__all__ = ["Answer", "Answering", "Denied"]

_SENT_MAX = 10_000
"""Answers that are remembered, so that a browser may send one again when it did not hear from us."""


class Answer(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """An answer as it comes in over HTTP: exactly one of *label* and *abstain*."""

    request: str
    label: str | bool | int | None = None
    abstain: bool = False
    seconds: float | None = None
    annotator: str | None = None
    reply: str | None = None


class Denied(Exception):
    """The answer was not taken; *status* is HTTP's."""

    def __init__(self, status: int, reason: str) -> None:
        """Say why, for people."""
        super().__init__(reason)
        self.status = status


class Answering:
    """The work of all annotators at one desk."""

    def __init__(self, config: Config, desk: Desk) -> None:
        """Take the parts; *desk* has to be started before anything is asked of it."""
        page = config.label_page
        self._desk, self._wire, self._page = desk, wire_rules(config), page
        self._template = Template(**page.template.model_dump(), image_hosts=page.image_hosts)
        self._learn_new = config.labels.learn_new
        self._sent: dict[str, tuple[str, str | None, dict[str, Any]]] = {}

    def next(self, annotator: str, without: list[str]) -> dict[str, Any]:
        """Lease the most valuable request to *annotator* and return it as it is shown, with what stands around it."""
        now, queue = self._desk.clock(), self._desk.queue
        item = None
        while item is None and (entry := queue.lease(annotator, now, without)) is not None:
            item = self._item(entry.request)
            if item is None:  # the log has it no more
                queue.closed(entry.request)
        return {"item": item, **self.around(annotator)}

    def around(self, annotator: str) -> dict[str, Any]:
        """Return what stands around the question: the queue, the classes, the annotator's figures, the budget."""
        return {
            "waiting": len(self._desk.queue),
            "trouble": self._desk.trouble,
            "classes": self._desk.standing.classes,
            "new_classes": self._learn_new,
            "budget": self._desk.standing.budget(),
            "mine": self._desk.standing.annotator(annotator),
        }

    def waiting(self, most: int) -> list[dict[str, Any]]:
        """Return the *most* valuable open requests."""
        found: list[dict[str, Any]] = []
        now = self._desk.clock()
        for entry in self._desk.queue.waiting(now):
            if len(found) == most:
                break
            request = self._desk.feed.fetch(entry)
            if request is not None:
                holder = self._desk.queue.holder(entry.request, now)
                asked = {"features": request.features, "id": request.id, "time": request.time}
                found.append(entry._asdict() | asked | {"held_by": holder} | self._guess(entry.request))
        return found

    def skip(self, request: str, annotator: str) -> None:
        """Put *request* aside: somebody else may have it."""
        self._desk.queue.skip(request, annotator)

    def answer(self, annotator: str, answer: Answer) -> dict[str, Any]:
        """Write a reply.

        Raises:
            Denied: the request is not open, somebody else has it in hand, or the reply would be refused.
        """
        request, queue = answer.request, self._desk.queue
        sent = self._sent.get(request)
        if sent is not None and answer.reply is not None and sent[:2] == (annotator, answer.reply):
            return sent[2]
        value, label = self._checked(annotator, answer)
        if request not in queue:
            raise Denied(409, "this request is not open: it was answered, has expired, or never was")
        if not queue.hold(request, annotator, self._desk.clock()):
            raise Denied(409, "somebody else is answering this request")
        known = self._desk.fetch(request)
        self._desk.feed.answer(request, value)
        guess = None if known is None else known.label
        said = {"request": request, "guess": guess, "agrees": None if label is None else label == guess}
        self._sent[request] = (annotator, answer.reply, said)
        if len(self._sent) > _SENT_MAX:
            del self._sent[next(iter(self._sent))]
        return said

    def event(self, coordinates: str) -> dict[str, Any] | None:
        """Return the event at *coordinates* and whether its label is asked for; None if the log has none."""
        record, request = self._desk.event(coordinates), self._desk.fetch(coordinates)
        if record is None:
            return None
        event = decode_event(record.partition, record.offset, record.value, self._wire, None)
        found: dict[str, Any] = {"event": coordinates}
        if isinstance(event, Refusal):
            found["refused"] = event.reason.value
        else:
            found |= {"features": event.features, "id": event.id, "time": event.time}
        return found if request is None else found | {"request": msgspec.to_builtins(request)}

    def _item(self, request: str) -> dict[str, Any] | None:
        known, entry = self._desk.fetch(request), self._desk.queue.entry(request)
        if known is None or entry is None:
            return None
        item = shown(known, self._template) | {"priority": entry.priority}
        return item | self._guess(request) if self._page.show_prediction else item

    def _guess(self, request: str) -> dict[str, Any]:
        known = self._desk.fetch(request)
        return {} if known is None else {"guess": known.label, "probabilities": known.probabilities}

    def _checked(self, annotator: str, answer: Answer) -> tuple[bytes, str | None]:
        """Return the reply's bytes and its label; Denied if the daemon would refuse it."""
        body: dict[str, Any] = {"request": answer.request, "annotator": annotator}
        given = {"reply": answer.reply, "seconds": answer.seconds, "label": answer.label}
        body |= {name: value for name, value in given.items() if value is not None}
        if answer.abstain:
            body["abstain"] = True
        value = msgspec.json.encode(body)
        reply = decode_reply(value, self._wire, None)
        if not isinstance(reply, Reply):
            raise Denied(422, reply.detail if isinstance(reply, Refusal) else "field 'request' is missing")
        if reply.label is not None and not self._desk.standing.accepts(reply.label):
            known = ", ".join(self._desk.standing.classes[:20])
            raise Denied(422, f"label {reply.label!r} is not among the classes ({known})")
        return value, reply.label
