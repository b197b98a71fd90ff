"""Others' samplers that the suite compares with: River's, and scikit-activeml's where it is installed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, NamedTuple, Protocol

from river import active

from streamal import INSTALL
from streamal.bootstrap.model import build_model
from streamal.config import Config
from streamal.core.model.pipeline import build_estimator, default_pipeline
from streamal.core.strategies.uncertainty import smooth
from streamal.replay import Stream


class Outcome(NamedTuple):
    """The result of an opponent: the share of labels that it asked for, and the accuracy over all events."""

    share: float
    accuracy: float


class Opponent(Protocol):
    """Somebody else's sampler; must be picklable."""

    @property
    def name(self) -> str:
        """The name in the table."""
        ...

    @property
    def budgeted(self) -> bool:
        """True if it takes a budget. If not, it runs once for each seed, and streamal at the share that it spent."""
        ...

    def run(self, stream: Stream, config: Config, budget: float, seed: int) -> Outcome:
        """Predict and then, where it asks, learn every event of *stream*, with the model of *config*."""
        ...


@dataclass(frozen=True)
class RiverEntropy:
    """River's `active.EntropySampler` around the same model; labels come at once, also where the stream has delays."""

    discount: float = 3.0
    name: str = "river EntropySampler"
    budgeted: bool = False

    def run(self, stream: Stream, config: Config, budget: float, seed: int) -> Outcome:
        """Run it; the budget means nothing to it."""
        del budget
        model, classes = config.model, config.labels.classes or stream.classes
        pipeline = model.pipeline or default_pipeline(stream.kinds, binary=len(classes) == 2)
        estimator: Any = build_estimator(pipeline, model.factory, model.seed)
        sampler: Any = active.EntropySampler(estimator, discount_factor=self.discount, seed=seed)
        asked = hits = 0
        for row in stream.rows:
            label = row.label if estimator._multiclass else classes.index(row.label) == 1  # noqa: SLF001
            # a missing text is the empty one, as `Schema.select` has it
            x = {**{name: "" for name, kind in stream.kinds.items() if kind == "text"}, **row.features}
            said, ask = sampler.predict_one(x)
            hits += said == label
            if ask:
                asked += 1
                sampler.learn_one(x, label)
        return Outcome(asked / len(stream.rows), hits / len(stream.rows))


@dataclass(frozen=True)
class ScikitActiveml:
    """A strategy of scikit-activeml with the budget manager that it comes with, around the same model.

    Labels come at once, also where the stream has delays. Strategies as `benchmarks.activeml.STRATEGIES` names them.
    """

    strategy: str
    budgeted: bool = True

    @property
    def name(self) -> str:
        """The name in the table."""
        return f"scikit-activeml {self.strategy}"

    def run(self, stream: Stream, config: Config, budget: float, seed: int) -> Outcome:
        """Run it at *budget*."""
        from benchmarks import activeml  # noqa: PLC0415  (may not be installed)

        activeml.silence_checks()
        data = activeml.Data(stream, config)
        model = build_model(data.config)
        ask = activeml.Their(data, activeml.Cell(stream.name, budget, self.strategy, "theirs", seed))
        hits = examples = 0
        for i, (features, label) in enumerate(zip(data.features, data.labels, strict=True)):
            probabilities = model.predict(features)
            hits += max(probabilities, key=probabilities.__getitem__) == label
            if ask(i, smooth(probabilities, examples), examples):
                model.learn(features, label)
                examples += 1
                ask.learned.append(i)
        return Outcome(examples / len(data.labels), hits / len(data.labels))


def missing_opponents(*, installed: bool) -> str:
    """Return a line about opponents that are not installed; "" if scikit-activeml is *installed*."""
    return "" if installed else f"scikit-activeml is left out: {INSTALL.format(extra='benchmarks')}"


LEFT_OUT = missing_opponents(installed=find_spec("skactiveml") is not None)
"""A line about opponents that are not installed; "" if all are."""

OPPONENTS: list[Opponent] = [RiverEntropy()]
"""All opponents of the suite."""
if not LEFT_OUT:
    OPPONENTS += [ScikitActiveml(name) for name in ("randomised_variable", "variable", "quantile", "split")]
