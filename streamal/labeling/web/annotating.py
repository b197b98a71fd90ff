"""What an annotator does with the open queue: take the next request, answer it, skip it.

Every function here runs on the topics thread, so each is one step for all annotators together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from msgspec import UNSET

from streamal.bootstrap.rules import wire_rules
from streamal.config import Config
from streamal.core.codec.events import decode_event
from streamal.core.codec.replies import decode_reply
from streamal.core.labels import explain_unknown
from streamal.core.records import FeatureValue, Refusal, Reply
from streamal.labeling.queue import Entry
from streamal.labeling.web.bodies import Answer, AnswerResult, FoundEvent, OpenRequest, OpenRequests
from streamal.labeling.web.rendering import Template, render
from streamal.labeling.web.topics_thread import TopicsThread

__all__ = ["Annotators", "Denied"]

_RECENT_MAX = 10_000
"""Answers that are remembered: a browser sends one again when it did not hear from us."""


class Denied(Exception):
    """The request is refused; *status* is HTTP's, the text is for people."""

    def __init__(self, status: int, reason: str) -> None:
        """Take HTTP's status and the reason."""
        super().__init__(reason)
        self.status = status


class _RecentAnswer(NamedTuple):
    annotator: str
    reply: str | None
    result: AnswerResult


class Annotators:
    """What all annotators can do, over one topics thread."""

    def __init__(self, config: Config, topics_thread: TopicsThread) -> None:
        """Take the parts; *topics_thread* has to be started before the first call."""
        page = config.label_page
        self._topics, self._wire, self._page = topics_thread, wire_rules(config), page
        self._template = Template(**page.template.model_dump(), image_hosts=page.image_hosts)
        self._learn_new = config.labels.learn_new
        self._recent: dict[str, _RecentAnswer] = {}

    def lease_next(self, annotator: str, without: list[str]) -> dict[str, Any]:
        """Lease the most valuable request to *annotator*; return it as the page shows it, with its surroundings."""
        now, queue = self._topics.clock(), self._topics.queue
        item = None
        while item is None and (entry := queue.lease(annotator, now, without)) is not None:
            item = self._item(entry.request)
            if item is None:  # the log no longer has it
                queue.apply_closing(entry.request)
        return {"item": item, **self.surroundings(annotator)}

    def surroundings(self, annotator: str) -> dict[str, Any]:
        """Return what the page shows around a question: queue, classes, the annotator's figures, budget."""
        return {
            "waiting": len(self._topics.queue),
            "trouble": self._topics.trouble,
            "classes": self._topics.status.classes,
            "new_classes": self._learn_new,
            "budget": self._topics.status.budget(),
            "mine": self._topics.status.annotator(annotator),
        }

    def open_requests(self, limit: int) -> OpenRequests:
        """Return the *limit* most valuable open requests."""
        found = OpenRequests(len(self._topics.queue), [])
        for entry in self._topics.queue.entries(self._topics.clock()):
            if len(found.requests) == limit:
                break
            request = self._open_request(entry)
            if request is not None:
                found.requests.append(request)
        return found

    def skip(self, request: str, annotator: str) -> None:
        """Release *request* for the other annotators."""
        self._topics.queue.skip(request, annotator)

    def respond(self, annotator: str, answer: Answer) -> AnswerResult:
        """Write the reply that *annotator* gives; the same answer with the same `reply` may come again.

        Raises:
            Denied: the request is not open or is leased to somebody else, or the daemon would refuse the reply.
        """
        request, queue = answer.request, self._topics.queue
        recent = self._recent.get(request)
        if recent and answer.reply is not None and (recent.annotator, recent.reply) == (annotator, answer.reply):
            return recent.result
        value, label = self._encode_reply(annotator, answer)
        if request not in queue:
            raise Denied(409, "this request is not open: it was answered, has expired, or never was")
        if not queue.hold(request, annotator, self._topics.clock()):
            raise Denied(409, "somebody else is answering this request")
        asked = self._topics.request(request)
        self._topics.feed.write_reply(request, value)
        guess = None if asked is None else asked.label
        result = AnswerResult(request, guess, None if label is None else label == guess)
        self._recent[request] = _RecentAnswer(annotator, answer.reply, result)
        if len(self._recent) > _RECENT_MAX:
            del self._recent[next(iter(self._recent))]
        return result

    def event(self, coordinates: str) -> FoundEvent | None:
        """Return the event at *coordinates* and its request while that is open; None if the log has no such event."""
        record, entry = self._topics.event(coordinates), self._topics.queue.entry(coordinates)
        if record is None:
            return None
        event = decode_event(record.partition, record.offset, record.value, self._wire, None)
        request = None if entry is None else self._open_request(entry)
        found = FoundEvent(coordinates, request=UNSET if request is None else request)
        if isinstance(event, Refusal):
            found.refused = event.reason.value
        else:
            found.features, found.id, found.time = self._visible(event.features), event.id, event.time
        return found

    def _item(self, coordinates: str) -> dict[str, Any] | None:
        request, entry = self._topics.request(coordinates), self._topics.queue.entry(coordinates)
        if request is None or entry is None:
            return None
        item = render(request, self._template) | {"priority": entry.priority}
        if self._page.show_prediction:
            item |= {"guess": request.label, "probabilities": request.probabilities}
        return item

    def _open_request(self, entry: Entry) -> OpenRequest | None:
        """Return the request of *entry* without hidden features, None if the log no longer has it."""
        request = self._topics.feed.fetch(entry)
        if request is None:
            return None
        guess = self._page.show_prediction
        return OpenRequest(
            request=request.request,
            priority=entry.priority,
            features=self._visible(request.features),
            id=request.id,
            time=request.time,
            asked_at=request.asked_at,
            expires_at=request.expires_at,
            held_by=self._topics.queue.holder(request.request, self._topics.clock()),
            guess=request.label if guess else UNSET,
            probabilities=request.probabilities if guess else UNSET,
        )

    def _visible(self, features: Mapping[str, FeatureValue]) -> dict[str, FeatureValue]:
        """Return *features* without those that the template hides."""
        return {name: value for name, value in features.items() if name not in self._template.hide}

    def _encode_reply(self, annotator: str, answer: Answer) -> tuple[bytes, str | None]:
        """Return the reply's bytes and its label.

        Raises:
            Denied: the daemon would refuse the reply.
        """
        value = answer.to_reply(annotator)
        reply = decode_reply(value, self._wire, None)
        if not isinstance(reply, Reply):
            raise Denied(422, reply.detail if isinstance(reply, Refusal) else "field 'request' is missing")
        if reply.label is not None and not self._topics.status.accepts(reply.label):
            raise Denied(409, explain_unknown(reply.label, self._topics.status.classes))
        return value, reply.label
