"""Plans an import: which replies of a file to write, so that each is on ``labels`` once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from streamal.core.codec.events import decode_training
from streamal.core.codec.replies import decode_reply
from streamal.core.codec.wire_rules import WireRules
from streamal.core.records import Closing, OutputRecord, Refusal, Reply
from streamal.core.rules import TopicNames
from streamal.errors import InconsistentLog
from streamal.exchange.readers import RowFlaw, RowReply
from streamal.ports import Log, scan

__all__ = ["ImportPlan", "plan_import"]


@dataclass(slots=True)
class ImportPlan:
    """What an import will do.

    Attributes:
        outputs: the replies to write.
        flaws: the rows that are refused; with any, the caller writes nothing.
        counts: outcome -> number of rows.
    """

    outputs: list[OutputRecord] = field(default_factory=list)
    flaws: list[RowFlaw] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def plan_import(
    log: Log,
    topics: TopicNames,
    rules: WireRules,
    rows: Iterable[RowReply | RowFlaw | None],
    explain: Callable[[str], str | None],
) -> ImportPlan:
    """Return the replies to write so that every reply among *rows* is on ``labels`` once; write nothing.

    Args:
        log: any transport's topics; the daemon may be running.
        topics: their names.
        rules: the limits of a reply.
        rows: the file, see `streamal.exchange.readers`.
        explain: why the model cannot learn a label, or None.
    """
    result, first = ImportPlan(), dict[str, RowReply]()
    for row in rows:
        if row is None:
            result.counts["no answers"] += 1
        elif isinstance(row, RowFlaw):
            result.flaws.append(row)
        elif row.reply.label is not None and (reason := explain(row.reply.label)) is not None:
            result.flaws.append(RowFlaw(row.row, reason))
        elif (before := first.setdefault(row.reply.request, row)) is row:
            continue
        elif before.reply.label != row.reply.label:
            result.flaws.append(RowFlaw(row.row, f"request {row.reply.request} has another answer in row {before.row}"))
        else:
            result.counts["repeated in the file"] += 1
    _plan_rows(result, topics.labels, first, *_read_topics(log, topics, rules, set(first)))
    return result


def _plan_rows(
    result: ImportPlan,
    topic: str,
    rows: dict[str, RowReply],
    waiting: set[str],
    closed: dict[str, Closing],
    written: set[tuple[str, str]],
) -> None:
    for request, row in rows.items():
        closing = closed.get(request)
        if (request, str(row.reply.reply)) in written or (closing is not None and _is_same_answer(closing, row.reply)):
            result.counts["there already"] += 1
        elif closing is not None:
            result.counts["closed otherwise"] += 1
        elif request in waiting:
            result.counts["answers"] += 1
            result.outputs.append(OutputRecord(topic, 0, request.encode(), row.value))
        else:
            result.flaws.append(RowFlaw(row.row, f"there is no request {request} here"))
    result.flaws.sort()
    result.counts["refused"] = len(result.flaws)


def _is_same_answer(record: Closing, reply: Reply) -> bool:
    """Whether *record* closed its request with the answer that *reply* gives."""
    return record.has_reply and record.label == reply.label


def _read_topics(
    log: Log, topics: TopicNames, rules: WireRules, wanted: set[str]
) -> tuple[set[str], dict[str, Closing], set[tuple[str, str]]]:
    """Return, of the requests *wanted*, the open ones, the closing records, and each (request, reply) on ``labels``."""
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
    for record in scan(log, topics.labels, 0, unreadable=[]):
        reply = decode_reply(record.value, rules, None)
        if isinstance(reply, Reply) and reply.request in wanted and reply.reply is not None:
            written.add((reply.request, reply.reply))
    return asked, closed, written
