"""The bridge: open requests out to a labelling tool as tasks, its annotations back as replies, each exactly once.

It keeps nothing of its own. What was written is read from ``labels`` (and ``training``, where retention has taken it
from there), what was asked is read from the tool: a task carries its request's coordinates and time of asking. A reply
is named after the state of the annotation that it tells of, so that whoever starts after a kill -9 knows what is left.

* a first answer is a reply; a skip abstains;
* an edit that changes the label supersedes the reply before it, if that one was taken up (else it is an answer again);
* a deleted annotation is retracted: an abstention that supersedes it;
* a task whose request is closed, and that has no label, is withdrawn: nobody need answer it;
* a task of no request that we know (another database, by hand) is left alone.
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
from streamal.labeling.label_studio.bridge_state import Key, Known, Written
from streamal.ports import Log

__all__ = ["Bridge", "BridgeRules", "Counts", "Tasks"]

_OVERLAP = timedelta(seconds=30)
"""Changes are read again for so long: a change that was saved late may carry an earlier time."""
_UNCLEAR_MAX = 1_000
_RETRACTED = "-deleted"
Counts = Counter[str]


class Tasks(Protocol):
    """A project's tasks; `streamal.edge.label_studio.LabelStudio` says what each call does and raises."""

    def tasks(self, project: int, after: int, since: str | None, count: int) -> Sequence[Mapping[str, Any]]:
        """Return those beyond an id, that have changed."""
        ...

    def add_tasks(self, project: int, tasks: Sequence[Mapping[str, Any]]) -> Sequence[int]:
        """Import some and return their ids."""
        ...

    def remove_task(self, number: int) -> None:
        """Delete one."""
        ...


class BridgeRules(NamedTuple):
    """How much at once, and how often everything is compared.

    Attributes:
        project: the number of the project.
        labels: the topic of the replies.
        tasks_max: unanswered tasks that may be there.
        batch: tasks in one call.
        reconcile_s: after so many seconds everything is read, not only what has changed.
    """

    project: int
    labels: str
    tasks_max: int
    batch: int
    reconcile_s: float


class _Task(NamedTuple):
    key: Key | None
    labelled: bool


class Bridge:
    """One project. One thread uses it; `cycle` does all the work, a bounded amount of it."""

    def __init__(
        self,
        server: Tasks,
        log: Log,
        feed: Feed,
        rules: BridgeRules,
        task_of: Callable[[Request], dict[str, Any]],
        warn: Callable[..., object],
    ) -> None:
        """Read nothing yet. *feed* must begin with the first record of ``training``, and be nobody else's."""
        self._server, self._log, self._feed, self._rules = server, log, feed, rules
        self._task_of, self._warn = task_of, warn
        self._tasks: dict[int, _Task] = {}
        self._asked: dict[Key, list[int]] = {}
        self._known = Known(log, rules.labels, feed, self._asked)
        self._since: datetime | None = None
        self._reconciled_at = float("-inf")
        self._unclear: set[str] = set()

    def cycle(self, now: float) -> Counts:
        """Bring both sides together once and return what was done; *now* in seconds.

        Raises:
            Unreachable: the tool does not answer; what was not done is done by a later cycle.
            Uncommitted: the transport has a passing trouble; likewise.
        """
        counts: Counts = Counter()
        whole = now - self._reconciled_at >= self._rules.reconcile_s
        changed = self._changed(whole)
        self._known.read(now)
        self._answer(changed, counts)
        if whole:
            self._reconciled_at = now
        times = [datetime.fromisoformat(str(task["updated_at"])) for task in changed if task.get("updated_at")]
        self._since = max([*times, *([self._since] if self._since else [])], default=None)
        self._withdraw(counts)
        self._ask(now, counts)
        return counts

    def figures(self) -> Mapping[str, int]:
        """Return what stands on both sides: open requests, tasks, those that have a label."""
        ours = [task for task in self._tasks.values() if task.key is not None]
        return {
            "open_requests": len(self._feed.queue),
            "tasks": len(ours),
            "labelled_tasks": sum(task.labelled for task in ours),
        }

    # From the tool.

    def _changed(self, whole: bool) -> list[Mapping[str, Any]]:
        """Return the tasks that have changed, or all, and note which there are."""
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
            self._asked.clear()
        for task in found:
            self._note_task(int(task["id"]), _key_of(task), _labelled(task))
        return found

    def _note_task(self, number: int, key: Key | None, labelled: bool) -> None:
        before = self._tasks.get(number)
        if before is not None and before.key != key:  # SQLite gives ids out again
            self._forget_task(number)
        self._tasks[number] = _Task(key, labelled)
        if key is not None and number not in self._asked.setdefault(key, []):
            self._asked[key].append(number)

    def _forget_task(self, number: int) -> None:
        task = self._tasks.pop(number, None)
        if task is not None and task.key is not None:
            numbers = self._asked[task.key]
            numbers.remove(number)
            if not numbers:
                del self._asked[task.key]

    # To the topics.

    def _answer(self, changed: Sequence[Mapping[str, Any]], counts: Counts) -> None:
        """Write what the annotations of the *changed* tasks say and is not on ``labels`` yet."""
        outputs: list[OutputRecord] = []
        for task in changed:
            key = _key_of(task)
            if key is None or not self._known.has(key):
                continue
            request, seen = key[0], set[str]()
            for annotation in task.get("annotations") or ():
                seen.add(str(annotation["id"]))
                outputs += self._told(request, str(annotation["id"]), read_annotation(annotation), counts)
            for number, last in self._known.written(request).items():
                if number not in seen and not last.reply.endswith(_RETRACTED):
                    counts["retractions"] += 1
                    outputs.append(
                        self._output(request, Annotation(last.reply + _RETRACTED, None, None, None, ""), last)
                    )
        for begin in range(0, len(outputs), self._rules.batch):
            self._log.append_all(outputs[begin : begin + self._rules.batch])
        if outputs:
            self._known.read_labels()

    def _told(self, request: str, number: str, said: Annotation, counts: Counts) -> list[OutputRecord]:
        if said.flaw:
            if said.reply not in self._unclear:
                if len(self._unclear) >= _UNCLEAR_MAX:
                    self._unclear.clear()
                self._unclear.add(said.reply)
                self._warn("annotation unclear", request=request, annotation=number, why=said.flaw)
            return []
        last = self._known.written(request).get(number)
        if last is not None and last.label == said.label and not last.reply.endswith(_RETRACTED):
            return []
        if last is not None and last.reply == said.reply:
            return []
        superseded = last if request not in self._feed.queue else None
        counts["corrections" if superseded else "abstentions" if said.label is None else "answers"] += 1
        return [self._output(request, said, superseded)]

    def _output(self, request: str, said: Annotation, superseded: Written | None) -> OutputRecord:
        value: dict[str, Any] = {"request": request, "reply": said.reply}
        value |= {"abstain": True} if said.label is None else {"label": said.label}
        if said.annotator is not None:
            value["annotator"] = said.annotator
        if said.seconds is not None:
            value["seconds"] = said.seconds
        if superseded is not None:
            value["supersedes"] = superseded.reply
        return OutputRecord(self._rules.labels, 0, request.encode(), msgspec.json.encode(value))

    # To the tool.

    def _withdraw(self, counts: Counts) -> None:
        """Delete, of the tasks without a label, those whose request is closed or has another task."""
        useless = [
            number
            for number, task in self._tasks.items()
            if task.key is not None
            and not task.labelled
            and (self._known.closed(task.key) or number != min(self._asked[task.key]))
        ]
        for number in useless[: self._rules.batch]:
            if self._untouched(number):
                self._server.remove_task(number)
                self._forget_task(number)
                counts["withdrawn"] += 1

    def _untouched(self, number: int) -> bool:
        """Look once more: somebody may have answered meanwhile. That is told by the next cycle, and the task stays."""
        for task in self._server.tasks(self._rules.project, number - 1, None, 1):
            if int(task["id"]) == number:
                key = _key_of(task)
                told = self._known.written(key[0]) if key is not None else {}
                return not _labelled(task) and all(str(each["id"]) in told for each in task.get("annotations") or ())
        return True

    def _ask(self, now: float, counts: Counts) -> None:
        """Make tasks of the most valuable requests that have none."""
        room = self._rules.tasks_max - sum(task.key is not None and not task.labelled for task in self._tasks.values())
        wanted: list[Request] = []
        for entry in self._feed.queue.entries(now):
            if len(wanted) >= room:
                break
            if (entry.request, entry.asked_at) not in self._asked:
                request = self._feed.fetch(entry)
                if request is not None:
                    wanted.append(request)
        for begin in range(0, len(wanted), self._rules.batch):
            batch = wanted[begin : begin + self._rules.batch]
            try:
                numbers = self._server.add_tasks(self._rules.project, [self._task_of(request) for request in batch])
            except ServiceUnavailable:
                self._reconciled_at = float("-inf")  # they may be there all the same: look before asking again
                raise
            for number, request in zip(numbers, batch, strict=True):
                self._note_task(number, (request.request, request.asked_at), labelled=False)
            counts["asked"] += len(batch)


def _key_of(task: Mapping[str, Any]) -> Key | None:
    """Return what *task* asks, None if it is none of ours."""
    request, asked_at = (task.get("data") or {}).get("request"), (task.get("meta") or {}).get("asked_at")
    if not isinstance(request, str) or not isinstance(asked_at, int | float):
        return None
    return request, float(asked_at)


def _labelled(task: Mapping[str, Any]) -> bool:
    return any(not annotation.get("was_cancelled") for annotation in task.get("annotations") or ())
