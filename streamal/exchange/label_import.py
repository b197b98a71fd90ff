"""What to do with each answer of a file: whether its request waits for it, and whether it was written before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from streamal.core.codec.events import WireRules, decode_training
from streamal.core.codec.replies import decode_reply
from streamal.core.records import Abstention, Closing, Example, OutputRecord, Refusal, Reply
from streamal.core.rules import TopicNames
from streamal.errors import InconsistentLog
from streamal.exchange.readers import Answer, Flaw
from streamal.ports import Log, scan

__all__ = ["Plan", "plan"]


@dataclass(slots=True)
class Plan:
    """What an import would do.

    Attributes:
        outputs: the replies to be written.
        flaws: the rows that are refused; nothing should be written then.
        counts: of the rows, by what becomes of them.
    """

    outputs: list[OutputRecord] = field(default_factory=list)
    flaws: list[Flaw] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def plan(
    log: Log,
    topics: TopicNames,
    rules: WireRules,
    rows: Iterable[Answer | Flaw | None],
    accepts: Callable[[str], bool],
) -> Plan:
    """Return what to write so that every answer among *rows* is on ``labels`` once; writes nothing.

    Args:
        log: any transport's topics; the daemon may be running.
        topics: their names.
        rules: what a reply may look like.
        rows: the file, see `streamal.exchange.readers`.
        accepts: whether a label may be learned.
    """
    made, first = Plan(), dict[str, Answer]()
    for row in rows:
        if row is None:
            made.counts["no answers"] += 1
        elif isinstance(row, Flaw):
            made.flaws.append(row)
        elif row.reply.label is not None and not accepts(row.reply.label):
            made.flaws.append(Flaw(row.row, f"label {row.reply.label!r} is not among labels.classes"))
        elif (before := first.setdefault(row.reply.request, row)) is row:
            continue
        elif before.reply.label != row.reply.label:
            made.flaws.append(Flaw(row.row, f"request {row.reply.request} has another answer in row {before.row}"))
        else:
            made.counts["repeated in the file"] += 1
    _decide(made, topics.labels, first, *_known(log, topics, rules, set(first)))
    return made


def _decide(
    made: Plan,
    topic: str,
    answers: dict[str, Answer],
    waiting: set[str],
    closed: dict[str, Closing],
    written: set[tuple[str, str]],
) -> None:
    for request, answer in answers.items():
        how = closed.get(request)
        if (request, str(answer.reply.reply)) in written or (how is not None and _says(how, answer.reply)):
            made.counts["there already"] += 1
        elif how is not None:
            made.counts["closed otherwise"] += 1
        elif request in waiting:
            made.counts["answers"] += 1
            made.outputs.append(OutputRecord(topic, 0, request.encode(), answer.value))
        else:
            made.flaws.append(Flaw(answer.row, f"there is no request {request} here"))
    made.flaws.sort()
    made.counts["refused"] = len(made.flaws)


def _says(record: Closing, reply: Reply) -> bool:
    """Whether *record* closed its request with the very answer that *reply* gives."""
    if reply.label is None:
        return isinstance(record, Abstention)
    return isinstance(record, Example) and record.label == reply.label


def _known(
    log: Log, topics: TopicNames, rules: WireRules, wanted: set[str]
) -> tuple[set[str], dict[str, Closing], set[tuple[str, str]]]:
    """Return of the requests *wanted*: which were asked, how they were closed, and (request, reply) on ``labels``."""
    asked, closed, written = set[str](), dict[str, Closing](), set[tuple[str, str]]()
    for partition in range(log.partitions(topics.requests)):
        for record in scan(log, topics.requests, partition):
            key = (record.key or b"").decode(errors="replace")
            if key in wanted:
                (asked.add if record.value is not None else asked.discard)(key)
    for record in scan(log, topics.training, 0):
        training = decode_training(record.value)
        if isinstance(training, Refusal):
            raise InconsistentLog(f"training offset {record.offset}: {training.detail}")
        if isinstance(training, Closing) and training.request in wanted:
            closed[training.request] = training
    for record in scan(log, topics.labels, 0):
        reply = decode_reply(record.value, rules, None)
        if isinstance(reply, Reply) and reply.request in wanted and reply.reply is not None:
            written.add((reply.request, reply.reply))
    return asked, closed, written
