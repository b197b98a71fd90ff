"""`Replay`: the figures of a replay, read back from the topics, and what a person should know of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import msgspec

from streamal.core.codec.dead_letters import DeadLetter
from streamal.core.learned import Learned
from streamal.core.quality.estimates import Estimate
from streamal.core.quality.quality import log_loss
from streamal.core.records import Lane, Prediction
from streamal.core.rules import TopicNames
from streamal.daemon.daemon import Daemon
from streamal.errors import ConfigError
from streamal.ports import Log, scan
from streamal.recordings.html import html_table
from streamal.recordings.reading import Stream
from streamal.replay.scores import balanced_accuracy, confusion, majority_accuracy, no_change_accuracy, recalls

__all__ = ["Replay", "outcome", "read_predictions"]

_NO_FIGURES = frozenset(
    {"reasons", "correct", "asked", "truths", "predicted", "uncertainties", "log_loss", "estimated_log_loss"}
)
_NAME_SHOWN = 40
_SHOWN = 5
"""So many classes or reasons stand in a remark."""


@dataclass(frozen=True, slots=True, repr=False)
class Replay:
    """The figures of a replay, and its sequences event by event.

    Attributes:
        stream: its name.
        events, requests, labels: accepted events, labels asked for, labels that came and were learned.
        share: requests / events.
        accuracy: share of *all* events that were predicted rightly, each before its label was known (prequential).
        balanced_accuracy: the mean of *recall*.
        recall: class -> share of its events that were predicted rightly.
        confusion: true class -> predicted class -> events; "" where nothing was predicted.
        estimated_accuracy: the estimate of accuracy from the labels that were bought, with its 95 % interval.
        naive_accuracy: share of right predictions among the labels bought; biased: they are no random sample.
        log_loss: mean over all events, in nats, as `Labelled.loss` counts it; estimated_log_loss: the same from the
            labels that quality still has in its window.
        no_change_accuracy: of predicting the previous event's label; majority_accuracy: the commonest label.
        refused: reason -> how many rows were no acceptable events; none of the figures counts them.
        refused_labels: reason -> how many replies were refused; their requests stay open.
        abstained, expired, unanswered: requests that were closed by "cannot tell", by ``labels.ttl_s``, not at all.
        never_labelled: classes that occur, but of which the model has learned no label.
        learning_failures: examples at which the model raised an error.
        quarantined: examples that were left out because they broke the model.
        sick: the model's answers are no probabilities, and no single example explains it.
        reasons: reason of a refusal -> the first explanation.
        correct: for each event in order of arrival, whether its prediction was right.
        asked: for each event, the lane that asked, or None.
        truths, predicted: for each event, its label and what was predicted.
        uncertainties: for each event, how uncertain the model was, in [0, 1].
    """

    stream: str
    events: int
    requests: int
    labels: int
    share: float
    accuracy: float
    balanced_accuracy: float
    recall: Mapping[str, float]
    confusion: Mapping[str, Mapping[str, int]]
    estimated_accuracy: Estimate | None
    naive_accuracy: float | None
    log_loss: float
    estimated_log_loss: Estimate | None
    no_change_accuracy: float
    majority_accuracy: float
    events_per_second: float
    refused: Mapping[str, int]
    refused_labels: Mapping[str, int]
    abstained: int
    expired: int
    unanswered: int
    never_labelled: Sequence[str]
    learning_failures: int
    quarantined: int
    sick: bool
    correct: Sequence[bool]
    asked: Sequence[Lane | None]
    truths: Sequence[str]
    predicted: Sequence[str | None]
    uncertainties: Sequence[float]
    reasons: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """Return the figures that a person reads (not the sequences) as JSON-ready values."""
        figures: dict[str, object] = {name: getattr(self, name) for name in self.__slots__ if name not in _NO_FIGURES}
        estimate = self.estimated_accuracy
        figures["estimated_accuracy"] = None if estimate is None else estimate._asdict()
        return figures

    def remarks(self) -> list[str]:
        """Return one sentence for each thing that makes the figures mean less than they seem to."""
        found = []
        if self.refused:
            total = sum(self.refused.values())
            found.append(f"{total} of {total + self.events} rows were refused: {self._why(self.refused)}")
        if self.refused_labels:
            found.append(f"{sum(self.refused_labels.values())} labels were refused: {self._why(self.refused_labels)}")
        if self.expired:
            text = f"{self.expired} of {self.requests} requests expired before their label came"
            found.append(f"{text}: labels.ttl_s is shorter than labels take here")
        if self.unanswered > sum(self.refused_labels.values()):
            found.append(f"{self.unanswered} of {self.requests} requests had no answer when the stream ended")
        if not self.labels:
            found.append("no label was learned: the accuracy is that of a model that knows nothing")
        elif self.never_labelled:
            names = _listed(self.never_labelled)
            found.append(f"never labelled, so never predicted: {names}; ask more (budget.share), or budget.quotas")
        if self.learning_failures:
            text = f"the model raised an error at {self.learning_failures} of {self.labels} labels"
            found.append(f"{text}: `streamal check` says what is wrong with it")
        if self.quarantined:
            found.append(f"{self.quarantined} of {self.labels} labels were left out: they broke the model")
        if self.sick:
            found.append("the model is sick: what it predicts are no probabilities; `streamal check` says more")
        if self.labels and self.accuracy < max(self.majority_accuracy, self.no_change_accuracy):
            if self.majority_accuracy >= self.no_change_accuracy:
                other = f"always predicting the commonest class ({self.majority_accuracy:.3f})"
            else:
                other = f"predicting the label before ({self.no_change_accuracy:.3f}), which needs every label"
            found.append(f"the accuracy ({self.accuracy:.3f}) is below that of {other}")
        return found

    def _why(self, counts: Mapping[str, int]) -> str:
        """Return the reasons, each with its count, the commonest with its explanation."""
        ranked = sorted(counts, key=lambda reason: (-counts[reason], reason))
        text = ", ".join(f"{reason} {counts[reason]}" for reason in ranked)
        return f"{text} ({self.reasons[ranked[0]]})" if ranked[0] in self.reasons else text

    def __repr__(self) -> str:
        """Return the main figures on one line."""
        return (
            f"Replay({self.stream}: {self.events} events, {self.labels} labels ({self.share:.1%} asked), "
            f"accuracy {self.accuracy:.4f}, balanced {self.balanced_accuracy:.4f})"
        )

    def _repr_html_(self) -> str:
        """Return the figures as a table for a notebook."""
        estimate = self.estimated_accuracy
        interval = "-" if estimate is None else f"{estimate.value:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]"
        rows = [
            ("events", f"{self.events:,}"),
            ("asked", f"{self.requests:,} ({self.share:.2%})"),
            ("labels learned", f"{self.labels:,}"),
            ("accuracy", f"{self.accuracy:.4f}"),
            ("balanced accuracy", f"{self.balanced_accuracy:.4f}"),
            ("accuracy as streamal estimates it", interval),
            ("the label before", f"{self.no_change_accuracy:.4f}"),
            ("commonest class", f"{self.majority_accuracy:.4f}"),
        ]
        rows += [(f"recall of {label}", f"{share:.4f}") for label, share in list(self.recall.items())[: 4 * _SHOWN]]
        return html_table(f"Replay of {self.stream}", ("", ""), rows, self.remarks())


def read_predictions(log: Log, topics: TopicNames) -> dict[str, Prediction]:
    """Return all predictions by coordinates."""
    found = {}
    for partition in range(log.partitions(topics.predictions)):
        for record in scan(log, topics.predictions, partition):
            prediction = msgspec.json.decode(record.value or b"", type=Prediction)
            found[prediction.event] = prediction
    return found


def outcome(
    daemon: Daemon, log: Log, topics: TopicNames, stream: Stream, rows: Mapping[str, int], elapsed_s: float
) -> Replay:
    """Return the figures of the played *stream*, read back from the topics.

    Args:
        daemon: the one that has played it.
        log: the records.
        topics: the names of their topics.
        stream: what was played.
        rows: coordinates -> number of the row.
        elapsed_s: how long it took.

    Raises:
        ConfigError: not one row was an acceptable event.
    """
    by_number = {rows[key]: prediction for key, prediction in read_predictions(log, topics).items()}
    refused, reasons = _read_refusals(log, topics)
    if not by_number:
        raise ConfigError(f"stream {stream.name}: no row is an acceptable event: {dict(refused[topics.events])}")
    numbers = sorted(by_number)
    judged = _judge([by_number[number] for number in numbers], [stream.rows[number].label for number in numbers])
    learned, requests = daemon.fold.learned, sum(lane is not None for lane in judged["asked"])
    return Replay(
        stream=stream.name,
        events=len(numbers),
        requests=requests,
        labels=learned.quality.total.count,
        share=requests / len(numbers),
        estimated_accuracy=learned.quality.total_accuracy(),
        naive_accuracy=learned.quality.total.naive(),
        estimated_log_loss=learned.quality.log_loss(),
        events_per_second=len(numbers) / elapsed_s,
        refused=dict(refused[topics.events]),
        refused_labels=dict(refused[topics.labels]),
        never_labelled=[label for label in judged["recall"] if not learned.model.learned.get(label)],
        reasons=reasons,
        **judged,
        **_count_closings(log, topics, requests),
        **_troubles(learned),
    )


def _judge(predictions: Sequence[Prediction], truths: Sequence[str]) -> dict[str, Any]:
    """Return the figures of *predictions* against the *truths*, both in order of arrival, and the sequences."""
    predicted = [said.label for said in predictions]
    correct = [said == truth for said, truth in zip(predicted, truths, strict=True)]
    chances = [(said.probabilities or {}).get(truth, 0.0) for said, truth in zip(predictions, truths, strict=True)]
    return {
        "accuracy": sum(correct) / len(correct),
        "balanced_accuracy": balanced_accuracy(truths, correct),
        "recall": recalls(truths, correct),
        "confusion": confusion(truths, predicted),
        "log_loss": fmean(map(log_loss, chances)),
        "no_change_accuracy": no_change_accuracy(truths),
        "majority_accuracy": majority_accuracy(truths),
        "correct": correct,
        "asked": [said.asked for said in predictions],
        "truths": truths,
        "predicted": predicted,
        "uncertainties": [said.uncertainty for said in predictions],
    }


def _troubles(learned: Learned) -> dict[str, Any]:
    """Return the figures of a model that fails."""
    guard = learned.guard
    return {"learning_failures": learned.model.failures, "quarantined": guard.quarantined, "sick": guard.sick}


class _Kind(msgspec.Struct):
    """The kind of a training record, and nothing else of it."""

    kind: str


def _count_closings(log: Log, topics: TopicNames, requests: int) -> dict[str, Any]:
    """Return how *requests* were closed, but for those that were answered."""
    decode = msgspec.json.Decoder(_Kind).decode
    kinds = Counter(decode(record.value or b"").kind for record in scan(log, topics.training, 0))
    closed = {"abstained": kinds["abstention"], "expired": kinds["expiry"]}
    return {**closed, "unanswered": requests - kinds["example"] - sum(closed.values())}


def _read_refusals(log: Log, topics: TopicNames) -> tuple[Mapping[str, Counter[str]], dict[str, str]]:
    """Return topic -> reason -> dead letters, and reason -> the first explanation."""
    counts: dict[str, Counter[str]] = {topics.events: Counter(), topics.labels: Counter()}
    reasons: dict[str, str] = {}
    for record in scan(log, topics.dead_letters, 0):
        letter = msgspec.json.decode(record.value or b"", type=DeadLetter)
        counts[letter.topic][letter.reason.value] += 1
        reasons.setdefault(letter.reason.value, letter.detail)
    return counts, reasons


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    short = [name if len(name) <= _NAME_SHOWN else f"{name[:_NAME_SHOWN]}…" for name in names[:_SHOWN]]
    return ", ".join(map(repr, short)) + more
