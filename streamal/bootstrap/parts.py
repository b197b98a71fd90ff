"""`build`: from a `Config` to everything that a command works with, each part made once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from river import base

from streamal.bootstrap.daemon import build_settings, fingerprint
from streamal.bootstrap.model import build_fold, build_model, require_committee
from streamal.bootstrap.rules import (
    build_budget,
    build_rules,
    build_strategy,
    topic_names,
    topic_partitions,
    wire_rules,
)
from streamal.bootstrap.warm_start import sha256_of
from streamal.config import Config
from streamal.core.budget.sampler import Budget
from streamal.core.codec.wire_rules import WireRules
from streamal.core.fold import Fold
from streamal.core.model.model import Model
from streamal.core.model.slim_pickle import dumps, loads
from streamal.core.rules import Rules, TopicNames
from streamal.core.strategies import Strategy
from streamal.daemon.daemon import Settings

__all__ = ["Parts", "build", "build_for_figures"]

_NO_MODEL = {"pipeline": ({"use": "dummy.PriorClassifier"},), "factory": None, "warm_start": None}


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that is made from one configuration; `build` makes it, once.

    Attributes:
        topics: the six topics by their roles; *topic_partitions* by topic.
        wire: what an input may look like.
        budget: of all partitions together; the part of each is in *rules*.
        settings: how the loop runs; *rules* and the fingerprint of snapshots are in it.
        model: to be looked at; `new_model` gives one that may be trained.
        model_bytes: the same, pickled; None if it cannot be.
        warm_start: the SHA-256 of the file that the model begins with, "" without any; None: it does not matter here.
        given: the classifier that is the model instead of the configured one.
    """

    config: Config
    topics: TopicNames
    topic_partitions: Mapping[str, int]
    wire: WireRules
    budget: Budget
    strategy: Strategy
    rules: Rules
    settings: Settings
    model: Model
    model_bytes: bytes | None
    warm_start: str | None
    given: base.Estimator | None = None

    def new_model(self) -> Model:
        """Return an untrained model: a copy of the one that was built, or a further one if that cannot be pickled."""
        if self.model_bytes is None:
            return build_model(self.config, self.given)
        model: Model = loads(self.model_bytes)
        return model

    def new_fold(self) -> Fold:
        """Return a fold with a model of its own: what a worker knows before it has folded any record.

        Raises:
            ConfigError: the model cannot learn the warm start.
        """
        return build_fold(self.config, self.budget, self.strategy, self.new_model(), self.warm_start)


def build(config: Config, given: base.Estimator | None = None) -> Parts:
    """Return the parts that *config* describes; a classifier of River that is *given* is its model.

    Raises:
        ConfigError: the model or the strategy cannot be built, or the strategy wants another model.
    """
    warm_start = sha256_of(config)
    budget, wire = build_budget(config), wire_rules(config)
    strategy, model = build_strategy(config, budget), build_model(config, given)
    require_committee(config, strategy, model)
    return replace(_join(config, wire, budget, strategy, model, warm_start), given=given)


def build_for_figures(config: Config) -> Parts:
    """Return the parts of a command that only counts: its fold neither builds, trains nor compares the real model."""
    without_model = config.model_copy(
        update={
            "model": config.model.model_copy(update=_NO_MODEL),
            "quality": config.quality.model_copy(update={"control": False}),
            "features": config.features.model_copy(update={"embed": {}}),
        }
    )
    budget, wire = build_budget(config), wire_rules(config)
    strategy, model = build_strategy(config, budget), build_model(without_model)
    return _join(without_model, wire, budget, strategy, model, None)


def _join(
    config: Config, wire: WireRules, budget: Budget, strategy: Strategy, model: Model, warm_start: str | None
) -> Parts:
    """Return the parts around those that take the longest to make."""
    rules, model_bytes = build_rules(config, wire, budget, strategy), _pickle(model)
    return Parts(
        config=config,
        topics=topic_names(config),
        topic_partitions=topic_partitions(config),
        wire=wire,
        budget=budget,
        strategy=strategy,
        rules=rules,
        settings=build_settings(config, rules, fingerprint(config, budget, strategy, model_bytes, warm_start)),
        model=model,
        model_bytes=model_bytes,
        warm_start=warm_start,
    )


def _pickle(model: Model) -> bytes | None:
    """Return *model* as bytes, None if it holds something that pickle refuses."""
    try:
        return dumps(model)
    except Exception:
        return None
