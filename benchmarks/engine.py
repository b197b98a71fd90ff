"""The cost of an event without a transport: bytes in, bytes out, one label in ten learned.

    python -m benchmarks.engine              # a table of ratios, medians of interleaved repetitions, CPU time

``streamal`` is the whole core, as in production: decode, predict, decide, encode, the replies joined, the training log
and the requests folded. *Taught* it is spared the replies and the log, as the loop by hand is: a tenth of the labels
goes straight to the model. Beside it stand the loop that one writes by hand (pydantic in and out, River's
`EntropySampler`, Prometheus ``labels()`` for each event) and the bare parts that no program can do without: msgspec
with the same types, the model's own predict and learn, one argmax, the coins of both lanes, the encoded prediction.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Annotated, Any

import msgspec
import typer
from prometheus_client import CollectorRegistry, Counter, Histogram
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from river import active, linear_model, preprocessing

from streamal.bootstrap import build
from streamal.config import load_config
from streamal.core.codec.events import encode
from streamal.core.coins import EventCoins, HashedUniform
from streamal.core.model.rehearsal import WeightedExample
from streamal.core.records import OffsetAndMetadata, Prediction, Record, TopicPartition, coordinates
from streamal.core.step import step

_CLASSES = ("no", "yes")
_LEARNED_EVERY = 10

app = typer.Typer(add_completion=False, help=__doc__, rich_markup_mode=None)


class EventIn(BaseModel):
    """An event as one declares it by hand."""

    id: str
    features: dict[str, float]


class PredictionOut(BaseModel):
    """A prediction likewise."""

    event: str
    label: str
    probabilities: dict[str, float]
    asked: bool


class _Plain(msgspec.Struct):
    features: dict[str, float]
    id: str | None = None


def make_events(count: int, features: int) -> tuple[list[bytes], list[str]]:
    """Return events of so many numbers as JSON, and their labels: the sign of the first feature, mostly."""
    coin = HashedUniform(1, "benchmark")
    events, labels = [], []
    for i in range(count):
        x = {f"x{k}": round(4.0 * coin.uniform(f"{i}.{k}") - 2.0, 6) for k in range(features)}
        events.append(msgspec.json.encode({"id": str(i), "features": x}))
        labels.append(_CLASSES[x["x0"] + coin.uniform(f"{i}.noise") - 0.5 > 0.0])
    return events, labels


def model() -> Any:
    """Return scaler and logistic regression, as River has them."""
    return preprocessing.StandardScaler() | linear_model.LogisticRegression()


def streamal(events: Sequence[bytes], labels: Sequence[str], batch: int, *, taught: bool = False) -> Callable[[], int]:
    """Return the production core over *events*: a tenth is asked, answered at once and learned.

    *taught*: nobody answers, and every tenth label goes to the model without a request, a reply or a log.
    """
    names = sorted(msgspec.json.decode(events[0])["features"])
    config = load_config(
        None,
        [
            "features.declared={" + ",".join(f'{name}="number"' for name in names) + "}",
            'labels.classes=["no","yes"]',
            'model.pipeline=[{ use = "preprocessing.StandardScaler" }, { use = "linear_model.LogisticRegression" }]',
            "budget.share=0.1",
            "limits.open_requests=1000000",
        ],
    )
    parts = build(config)
    rule, fold = parts.rules, parts.new_fold()
    topics = rule.topics
    records = [Record(topics.events, 0, i, None, value) for i, value in enumerate(events)]
    place, replies = TopicPartition(topics.events, 0), TopicPartition(topics.labels, 0)
    lessons = [
        WeightedExample(msgspec.json.decode(value)["features"], label)
        for value, label in zip(events, labels, strict=True)
    ]

    def teach() -> int:
        committed = {place: OffsetAndMetadata(0, "")}
        for start in range(0, len(records), batch):
            result = step(rule, fold, committed, records[start : start + batch], float(start))
            committed.update(result.offsets)
            for i in range(start, min(start + batch, len(records)), _LEARNED_EVERY):
                fold.learned.learn(lessons[i], str(i))
        return len(records) // _LEARNED_EVERY

    def run() -> int:
        committed = {place: OffsetAndMetadata(0, ""), replies: OffsetAndMetadata(0, "")}
        answers: list[Record] = []
        answered = trained = 0
        for start in range(0, len(records), batch):
            result = step(rule, fold, committed, [*records[start : start + batch], *answers], float(start))
            committed.update(result.offsets)
            answers = []
            for output in result.outputs:
                if output.topic == topics.requests:
                    fold.apply_request(0, start, output.key, output.value)
                    if output.key is not None and output.value is not None:
                        key = output.key.decode()
                        value = b'{"request":"%s","label":"%s"}' % (output.key, labels[int(key[2:])].encode())
                        answers.append(Record(topics.labels, 0, answered, None, value))
                        answered += 1
                elif output.topic == topics.training:
                    fold.apply_training(trained, output.value)
                    trained += 1
        return trained

    return teach if taught else run


def by_hand(events: Sequence[bytes], labels: Sequence[str]) -> Callable[[], int]:
    """Return the loop that one writes: validated in and out, an entropy sampler, metrics by name for each event."""
    sampler: Any = active.EntropySampler(model(), seed=1)
    registry = CollectorRegistry()
    counter = Counter("events", "Events.", ["outcome"], registry=registry)
    seconds = Histogram("seconds", "Seconds.", registry=registry)

    def run() -> int:
        learned = 0
        for i, value in enumerate(events):
            with seconds.time():
                event = EventIn.model_validate_json(value)
                probabilities, asked = sampler.predict_proba_one(event.features)
                label = max(probabilities, key=probabilities.__getitem__)
                named = {_CLASSES[said]: p for said, p in probabilities.items()}
                out = PredictionOut(event=event.id, label=_CLASSES[label], probabilities=named, asked=asked)
                out.model_dump_json().encode()
                counter.labels("asked" if asked else "not_asked").inc()
            if i % _LEARNED_EVERY == 0:
                sampler.learn_one(event.features, labels[i] == "yes")
                learned += 1
        return learned

    return run


def bare_parts(events: Sequence[bytes], labels: Sequence[str]) -> Callable[[], int]:
    """Return what no program can do without."""
    decode = msgspec.json.Decoder(_Plain).decode
    estimator, coins = model(), EventCoins(1)

    def run() -> int:
        learned = 0
        for i, value in enumerate(events):
            event = decode(value)
            raw = estimator.predict_proba_one(event.features)
            probabilities = {"no": raw[False], "yes": raw[True]}
            label = max(probabilities, key=probabilities.__getitem__)
            key = coordinates(0, i)
            audit, strategy, _, _ = coins.uniform(i)
            asked = audit < 0.03 or strategy < 0.07
            encode(
                Prediction(
                    event=key,
                    label=label,
                    probabilities=probabilities,
                    version=learned,
                    propensity=0.1,
                    uncertainty=1.0 - probabilities[label],
                    asked=None,
                    id=event.id,
                )
            )
            del asked
            if i % _LEARNED_EVERY == 0:
                estimator.learn_one(event.features, labels[i] == "yes")
                learned += 1
        return learned

    return run


def measure_us(run: Callable[[], int], count: int) -> float:
    """Return microseconds of the processor for an event."""
    gc.collect()
    gc.freeze()  # as the daemon does after its start
    began = time.process_time()
    run()
    return (time.process_time() - began) / count * 1e6


@app.command()
def main(
    events: Annotated[int, typer.Option(min=1_000, help="Events of one measurement.")] = 10_000,
    features: Annotated[int, typer.Option(min=1, help="Numbers in an event.")] = 8,
    repetitions: Annotated[int, typer.Option(min=1, help="The median of so many is shown.")] = 7,
) -> None:
    """The engine alone: scaler and logistic regression, 10 % learned."""
    values, labels = make_events(events, features)
    makes: dict[str, Callable[[], Callable[[], int]]] = {
        "streamal, batches of 500": lambda: streamal(values, labels, 500),
        "streamal, batches of 100": lambda: streamal(values, labels, 100),
        "streamal, taught, batches of 500": lambda: streamal(values, labels, 500, taught=True),
        "by hand": lambda: by_hand(values, labels),
        "bare parts": lambda: bare_parts(values, labels),
    }
    found: dict[str, list[float]] = {name: [] for name in makes}
    for _ in range(repetitions):
        for name, make in makes.items():
            found[name].append(measure_us(make(), events))
    first = found["streamal, batches of 500"]
    table = Table("what", "µs/event (CPU)", "its cost as a multiple of streamal's")
    for name, times in found.items():
        ratio = median(each / ours for each, ours in zip(times, first, strict=True))
        table.add_row(name, f"{median(times):.1f}", f"{ratio:.2f}")
    Console().print(table)


if __name__ == "__main__":
    app()
