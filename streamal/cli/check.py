"""``streamal check``: everything that can be known to be wrong before an event is read."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from streamal import INSTALL
from streamal.bootstrap import Parts, build, transports
from streamal.bootstrap.model import build_embedding, build_model, model_kinds
from streamal.bootstrap.rules import build_strategy, topic_names
from streamal.bootstrap.warm_start import read_warm_start
from streamal.cli.options import ConfigPath, Json, Overrides, echo_account, show
from streamal.config import Config, load_config
from streamal.core.codec.schema_records import find_schema
from streamal.core.fold import Fold
from streamal.core.labels import group_alike
from streamal.core.model.checks import check_absence, check_growth, check_model, synthetic_examples
from streamal.core.model.model import Model
from streamal.core.records import OffsetAndMetadata, TopicPartition
from streamal.core.schema import describe_differences
from streamal.core.strategies import requirements_of
from streamal.core.strategies.checks import check_strategy
from streamal.daemon.consistency import require_ends, require_states
from streamal.errors import ConfigError
from streamal.ports import scan

__all__ = ["command", "require_sound_model", "require_sound_strategy"]

_CLIENT_MATTERS_US = 200.0
"""A model above it hides what the client costs."""


def command(config: ConfigPath = Path("config.toml"), overrides: Overrides = None, as_json: Json = False) -> None:
    """Check the configuration, the model, the topics and the directories; change nothing.

    The model goes through a contract suite: probabilities, a predict that changes nothing, a snapshot that goes on
    as the original would, the same model from the same examples. So does the strategy: a probability, pure, a small
    state that travels, never mute, cheap. Ends with 2 and the reason if anything is wrong.
    """
    loaded = load_config(config, overrides or ())
    parts = build(loaded)
    require_sound_model(parts, lambda: build_model(loaded))
    fold = parts.new_fold()
    require_sound_strategy(parts)
    transports.require_topics(loaded)
    logged = _require_consistent_log(loaded)
    _require_directory(loaded.snapshots.directory, "snapshots.directory")
    predict_us, learn_us = _costs(parts)
    every = parts.budget.audit_every
    show(
        f"{config} is sound",
        {
            "topics": transports.describe_transport(loaded),
            **transports.describe_topics(loaded),
            "model": fold.learned.model.describe(),
            **_warm_start(loaded, fold, as_json),
            **_features(loaded, logged),
            **_classes_alike(fold.learned.model.classes),
            "strategy": f"{loaded.sampling.strategy}, by {parts.rules.uncertainty}",
            **_importance(parts, fold),
            "budget": f"{loaded.budget.share} of the events, {loaded.budget.burst} on top",
            "audit lane": f"each event with a probability of 1/{every}"
            if every
            else "off: quality cannot be measured, and some strategies may stop asking",
            "predict_microseconds": predict_us,
            "learn_microseconds": learn_us,
            **_advice(loaded, predict_us, learn_us),
            **_memory(loaded),
        },
        as_json,
    )


def _warm_start(config: Config, fold: Fold, as_json: bool) -> Mapping[str, object]:
    """Return what the model begins with, if not with nothing; say what was left out of it."""
    if config.model.warm_start is None:
        return {}
    learned, quarantined = sum(fold.learned.model.learned.values()), fold.learned.guard.quarantined
    taught = "a pickled model" if config.model.warm_pickle else f"{learned} examples"
    left_out = f", {quarantined} of them left out: they broke the model" if quarantined else ""
    begun = f"{taught} from {config.model.warm_start}{left_out}"
    shown: dict[str, object] = {"warm start": begun, "warm start sha256": str(fold.learned.start)}
    if not config.model.warm_pickle:
        account = read_warm_start(config).account
        echo_account(f"model.warm_start: {config.model.warm_start}", account)
        shown |= {"warm start account": account.as_dict()} if as_json else {}
    return shown


def _advice(config: Config, predict_us: float, learn_us: float) -> Mapping[str, str]:
    """Return what would make this configuration cheaper, if anything: a light model leaves the client the larger part.

    An event is predicted once and learned from at most in the budget's share of cases; kafka-python costs a fixed
    time for each, next to the model.
    """
    model_us = predict_us + float(config.budget.share) * learn_us
    if config.transport.kind != "kafka" or config.transport.client == "confluent" or model_us >= _CLIENT_MATTERS_US:
        return {}
    return {
        "advice": f"the model takes about {model_us:.0f} µs per event, so the Kafka client would take the larger part: "
        f'{INSTALL.format(extra="confluent")} and transport.client = "confluent" take 5 to 8 times less CPU per record'
    }


def _memory(config: Config) -> Mapping[str, str]:
    """Return what bounds the memory for a batch that inflates, on Kafka."""
    if config.transport.kind != "kafka":
        return {}
    if config.transport.client == "confluent":
        return {
            "inflating": "librdkafka has no bound for a compressed batch: set a memory limit for the process, or use "
            "kafka-python where strangers send events"
        }
    return {"inflating": f"a compressed batch to at most {32 * config.limits.record_bytes:,} bytes"}


def _importance(parts: Parts, fold: Fold) -> Mapping[str, str]:
    """Return whether the importance weights of the configured strategy reach the model, if it has any."""
    if not requirements_of(parts.strategy).weighted:
        return {}
    model = fold.learned.model.describe()
    heeds = "learns with the weight share/propensity" if fold.learned.rules.weighted else "takes no weight: all count 1"
    return {"importance weights": f"{model} {heeds}"}


def require_sound_strategy(parts: Parts) -> None:
    """Raise a ConfigError with the reasons unless the configured strategy keeps its contract."""
    config, budget = parts.config, parts.budget
    problems = check_strategy(
        lambda: build_strategy(config, budget), float(budget.share), bool(budget.audit_every), time.process_time
    )
    if problems:
        raise ConfigError(f"sampling.strategy {config.sampling.strategy!r}: {'; '.join(problems)}")


def require_sound_model(parts: Parts, new_model: Callable[[], Model]) -> None:
    """Raise a ConfigError with the reasons unless the configured model keeps its contract.

    Args:
        parts: of the configuration.
        new_model: gives untrained models. Only models that are built one by one show whether something in them draws
            unseeded random numbers; copies of one are quicker.
    """
    kinds = _kinds(parts.config)
    embedding = build_embedding(parts.config)
    if embedding is not None and (flaws := embedding.problems()):
        raise ConfigError("; ".join(flaws))
    problems = check_model(new_model, kinds)
    if parts.config.features.declared and not problems:
        problems = check_absence(new_model, kinds)
    if parts.config.features.open and not problems:
        problems = check_growth(new_model, kinds)
    if problems:
        raise ConfigError(f"model: {'; '.join(problems)}")


def _kinds(config: Config) -> Mapping[str, str]:
    """Return the declared features; else those that the pipeline names with ``on``; else eight numbers."""
    if config.features.declared:
        return dict(model_kinds(config))
    named = dict.fromkeys(_named(config.model.pipeline), "string")
    return named or {f"x{i}": "number" for i in range(8)}


def _named(spec: Any) -> Iterator[str]:
    if isinstance(spec, Mapping):
        if isinstance(spec.get("on"), str):
            yield spec["on"]
        yield from itertools.chain.from_iterable(_named(value) for value in spec.values())
    elif isinstance(spec, list | tuple):
        yield from itertools.chain.from_iterable(_named(value) for value in spec)


def _costs(parts: Parts) -> tuple[float, float]:
    """Return microseconds per predict and per learn, on made-up examples: a hint, not a benchmark."""
    model = parts.new_model()
    examples = synthetic_examples(_kinds(parts.config), list(model.classes) or ["a", "b"], 300, seed=2)
    began = time.perf_counter()
    for features, label in examples:
        model.learn(features, label)
    learned = time.perf_counter()
    for features, _ in examples:
        model.predict(features)
    done = time.perf_counter()
    return round((done - learned) / len(examples) * 1e6, 1), round((learned - began) / len(examples) * 1e6, 1)


def _features(config: Config, logged: Mapping[str, str]) -> Mapping[str, object]:
    """Return the features, and how the declared ones differ from those *logged*, the schema in the log."""
    features = config.features
    if not features.declared:
        return {"features": logged or f"inferred from {features.infer_from} requests"}
    found = describe_differences(features.declared, logged) if logged else ()
    differs = {"schema differs": f"{'; '.join(found)}: features.declared counts"} if found else {}
    return {"features": dict(features.declared), **differs}


def _classes_alike(classes: Sequence[str]) -> Mapping[str, str]:
    """Return which of *classes*, declared or learned from a warm start, are near-misses of each other, if any are."""
    found = [" and ".join(map(repr, group)) for group in group_alike(classes)]
    return {"classes alike": f"{', '.join(found)} differ in case, spaces or Unicode form only"} if found else {}


def _require_consistent_log(config: Config) -> Mapping[str, str]:
    """Return the schema in the log, {} if there is none.

    Raises:
        InconsistentLog: where a worker would: an offset without its state, or behind the end of its topic.
    """
    if config.transport.kind == "sqlite" and not config.transport.path.exists():
        return {}
    log, topics = transports.open_log(config), topic_names(config)
    try:
        if all(log.partitions(topic) for topic in topics):  # `run` makes those of SQLite that are missing
            committed = log.committed(config.transport.group)
            inputs = [TopicPartition(topics.events, partition) for partition in range(config.transport.partitions)]
            inputs.append(TopicPartition(topics.labels, 0))
            states = {place: committed.get(place, OffsetAndMetadata(0, "")) for place in inputs}
            require_states(log, topics, states)
            require_ends(log, states)
            return find_schema(scan(log, topics.training, 0))
        return {}
    finally:
        log.close()


def _require_directory(directory: Path | None, key: str) -> None:
    """Raise a ConfigError unless this user may write to *directory*, or to the nearest one around it that exists."""
    if directory is None:
        return
    existing = next(parent for parent in (directory.absolute(), *directory.absolute().parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(f"{key}: {existing} is not a directory that this user may write to")
