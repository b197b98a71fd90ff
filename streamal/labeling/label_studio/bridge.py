"""The bridge: makes a task in a labelling tool of each open request and a reply of each annotation, exactly once.

The bridge keeps no state of its own. It reads from ``labels`` which replies it has written (and from ``training``, when
retention has deleted them there), and from the tool which requests have a task: a task carries its request's
coordinates and its time of asking. The name of a reply contains the state of its annotation. So a bridge that starts
after a kill -9 finds out what is left to do.

* A first annotation becomes a reply; a skip becomes an abstention.
* An edit that changes the label supersedes the reply before it, if that reply closed the request; otherwise the edit is
  a first answer again.
* A deleted annotation becomes an abstention that supersedes its reply.
* The bridge deletes a task without a label when its request is closed: nobody need answer it.
* The bridge leaves a task of an unknown request alone (another database, made by hand).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

import msgspec

from streamal.core.records import OutputRecord, Request
from streamal.errors import ServiceUnavailable
from streamal.exchange.label_studio import Annotation, read_annotation
from streamal.labeling.feed import Feed
from streamal.labeling.label_studio.bridge_state import BridgeState, Key, WrittenReply
from streamal.ports import Log

__all__ = ["Bridge", "BridgeRules", "Counts", "Tasks"]

_OVERLAP = timedelta(seconds=30)
"""A cycle reads the changes of so long before the last one again: a change saved late may carry an earlier time."""
_UNCLEAR_MAX = 1_000
_DELETED = "-deleted"
"""The suffix of the name of a reply that retracts a deleted annotation."""
Counts = Counter[str]


class Tasks(Protocol):
    """The tasks of a project; see `streamal.edge.label_studio.LabelStudio` for what each call does and raises."""

    def tasks(self, project: int, after: int, since: str | None, count: int) -> Sequence[Mapping[str, Any]]:
        """Return *count* tasks whose id is greater than *after*, changed since *since*."""
        ...

    def add_tasks(self, project: int, tasks: Sequence[Mapping[str, Any]]) -> Sequence[int]:
        """Import *tasks* and return their ids."""
        ...

    def remove_task(self, number: int) -> None:
        """Delete a task."""
        ...


class BridgeRules(NamedTuple):
    """Limits and intervals of a bridge.

    Attributes:
        project: the number of the project.
        labels: the topic of the replies.
        tasks_max: tasks without a label that may exist.
        batch: tasks in one call.
        reconcile_s: seconds between two cycles that read every task, not only the changed ones.
    """

    project: int
    labels: str
    tasks_max: int
    batch: int
    reconcile_s: float


class _Task(NamedTuple):
    """A task of the project; *key* is None if no request of ours is known by it."""

    key: Key | None
    has_label: bool


class Bridge:
    """The bridge to one project. One thread uses it and calls `cycle` again and again."""

    def __init__(
        self,
        server: Tasks,
        log: Log,
        feed: Feed,
        rules: BridgeRules,
        task_of: Callable[[Request], dict[str, Any]],
        warn: Callable[..., object],
    ) -> None:
        """Read nothing yet. *feed* begins with the first record of ``training``, and belongs to this bridge alone."""
        self._server, self._log, self._feed, self._rules = server, log, feed, rules
        self._task_of, self._warn = task_of, warn
        self._tasks: dict[int, _Task] = {}
        self._task_ids: dict[Key, list[int]] = {}
        self._state = BridgeState(log, rules.labels, feed, self._task_ids)
        self._since: datetime | None = None
        self._reconciled_at = float("-inf")
        self._unclear: set[str] = set()

    def cycle(self, now: float) -> Counts:
        """Bring tasks and replies up to date once and return counts of what was done; *now* in seconds.

        Raises:
            ServiceUnavailable: the tool does not answer; a later cycle does the rest.
            Uncommitted: the transport has a passing trouble; a later cycle does the rest.
        """
        counts: Counts = Counter()
        whole = now - self._reconciled_at >= self._rules.reconcile_s
        changed = self._read_tasks(whole)
        self._state.read(now)
        self._write_replies(changed, counts)
        if whole:
            self._reconciled_at = now
        times = [datetime.fromisoformat(str(task["updated_at"])) for task in changed if task.get("updated_at")]
        self._since = max([*times, *([self._since] if self._since else [])], default=None)
        self._delete_tasks(counts)
        self._create_tasks(now, counts)
        return counts

    def figures(self) -> Mapping[str, int]:
        """Return the number of open requests, of their tasks, and of the tasks that have a label."""
        our_tasks = [task for task in self._tasks.values() if task.key is not None]
        return {
            "open_requests": len(self._feed.queue),
            "tasks": len(our_tasks),
            "labelled_tasks": sum(task.has_label for task in our_tasks),
        }

    # Reading from the tool.

    def _read_tasks(self, whole: bool) -> list[Mapping[str, Any]]:
        """Return the changed tasks, or all if *whole*, and note the id of each."""
        since = (
            None
            if whole or self._since is None
            else (self._since - _OVERLAP).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        )
        found: list[Mapping[str, Any]] = []
        after = 0
        while page := self._server.tasks(self._rules.project, after, since, self._rules.batch):
            found += page
            after = max(int(task["id"]) for task in page)
        if since is None:
            self._tasks.clear()
            self._task_ids.clear()
        for task in found:
            self._note_task(int(task["id"]), _key_of(task), _has_label(task))
        return found

    def _note_task(self, number: int, key: Key | None, has_label: bool) -> None:
        before = self._tasks.get(number)
        if before is not None and before.key != key:  # Label Studio over SQLite uses the id of a deleted task again
            self._forget_task(number)
        self._tasks[number] = _Task(key, has_label)
        if key is not None and number not in self._task_ids.setdefault(key, []):
            self._task_ids[key].append(number)

    def _forget_task(self, number: int) -> None:
        task = self._tasks.pop(number, None)
        if task is not None and task.key is not None:
            numbers = self._task_ids[task.key]
            numbers.remove(number)
            if not numbers:
                del self._task_ids[task.key]

    # Writing to the topics.

    def _write_replies(self, changed: Sequence[Mapping[str, Any]], counts: Counts) -> None:
        """Write the replies that the annotations of the *changed* tasks give and that are not on ``labels`` yet."""
        outputs: list[OutputRecord] = []
        for task in changed:
            key = _key_of(task)
            if key is None or not self._state.knows(key):
                continue
            request, seen = key[0], set[str]()
            for annotation in task.get("annotations") or ():
                seen.add(str(annotation["id"]))
                outputs += self._replies_to(request, str(annotation["id"]), read_annotation(annotation), counts)
            for number, last in self._state.written_replies(request).items():
                if number not in seen and not last.reply.endswith(_DELETED):
                    counts["retractions"] += 1
                    retraction = Annotation(last.reply + _DELETED, None, None, None, "")
                    outputs.append(self._encode_reply(request, retraction, last))
        for begin in range(0, len(outputs), self._rules.batch):
            self._log.append_all(outputs[begin : begin + self._rules.batch])
        if outputs:
            self._state.read_labels()

    def _replies_to(self, request: str, number: str, annotation: Annotation, counts: Counts) -> list[OutputRecord]:
        """Return the reply that annotation *number* gives, none if it is unclear or its reply is on ``labels``."""
        if annotation.flaw:
            self._warn_unclear(request, number, annotation)
            return []
        last = self._state.written_replies(request).get(number)
        if last is not None and last.label == annotation.label and not last.reply.endswith(_DELETED):
            return []
        if last is not None and last.reply == annotation.reply:
            return []
        superseded = last if request not in self._feed.queue else None
        counts["corrections" if superseded else "abstentions" if annotation.label is None else "answers"] += 1
        return [self._encode_reply(request, annotation, superseded)]

    def _warn_unclear(self, request: str, number: str, annotation: Annotation) -> None:
        """Warn of an unclear annotation once."""
        if annotation.reply in self._unclear:
            return
        if len(self._unclear) >= _UNCLEAR_MAX:
            self._unclear.clear()
        self._unclear.add(annotation.reply)
        self._warn("annotation unclear", request=request, annotation=number, why=annotation.flaw)

    def _encode_reply(self, request: str, annotation: Annotation, superseded: WrittenReply | None) -> OutputRecord:
        value: dict[str, Any] = {"request": request, "reply": annotation.reply}
        value |= {"abstain": True} if annotation.label is None else {"label": annotation.label}
        if annotation.annotator is not None:
            value["annotator"] = annotation.annotator
        if annotation.seconds is not None:
            value["seconds"] = annotation.seconds
        if superseded is not None:
            value["supersedes"] = superseded.reply
        return OutputRecord(self._rules.labels, 0, request.encode(), msgspec.json.encode(value))

    # Writing to the tool.

    def _delete_tasks(self, counts: Counts) -> None:
        """Delete each task without a label whose request is closed or has another task."""
        useless = [
            number
            for number, task in self._tasks.items()
            if task.key is not None
            and not task.has_label
            and (self._state.is_closed(task.key) or number != min(self._task_ids[task.key]))
        ]
        for number in useless[: self._rules.batch]:
            if self._is_unanswered(number):
                self._server.remove_task(number)
                self._forget_task(number)
                counts["withdrawn"] += 1

    def _is_unanswered(self, number: int) -> bool:
        """Read the task again; return whether it still has no label, and no annotation that waits for its reply."""
        for task in self._server.tasks(self._rules.project, number - 1, None, 1):
            if int(task["id"]) == number:
                key = _key_of(task)
                written = self._state.written_replies(key[0]) if key is not None else {}
                return not _has_label(task) and all(
                    str(annotation["id"]) in written for annotation in task.get("annotations") or ()
                )
        return True

    def _create_tasks(self, now: float, counts: Counts) -> None:
        """Create tasks for the most valuable requests that have none."""
        unanswered = sum(task.key is not None and not task.has_label for task in self._tasks.values())
        room = self._rules.tasks_max - unanswered
        wanted: list[Request] = []
        for entry in self._feed.queue.entries(now):
            if len(wanted) >= room:
                break
            if (entry.request, entry.asked_at) not in self._task_ids:
                request = self._feed.fetch(entry)
                if request is not None:
                    wanted.append(request)
        for begin in range(0, len(wanted), self._rules.batch):
            batch = wanted[begin : begin + self._rules.batch]
            try:
                numbers = self._server.add_tasks(self._rules.project, [self._task_of(request) for request in batch])
            except ServiceUnavailable:
                self._reconciled_at = float("-inf")  # the tasks may exist all the same: read all before creating again
                raise
            for number, request in zip(numbers, batch, strict=True):
                self._note_task(number, (request.request, request.asked_at), has_label=False)
            counts["asked"] += len(batch)


def _key_of(task: Mapping[str, Any]) -> Key | None:
    """Return the request that *task* asks, None if it asks none of ours."""
    request, asked_at = (task.get("data") or {}).get("request"), (task.get("meta") or {}).get("asked_at")
    if not isinstance(request, str) or not isinstance(asked_at, int | float):
        return None
    return request, float(asked_at)


def _has_label(task: Mapping[str, Any]) -> bool:
    return any(not annotation.get("was_cancelled") for annotation in task.get("annotations") or ())
