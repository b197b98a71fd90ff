"""The space that `tune` searches, as sections of the configuration: models that fit the columns, and ways to ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamal.experiments.model_families import families
from streamal.experiments.shapes import Draw, Shape

__all__ = ["BATCHES", "model_section", "sampling_section"]

BATCHES = (1, 10, 50)
"""Events per step. A larger step is cheaper, and learns later."""

_LINEAR = frozenset({"logistic", "softmax", "polynomial", "words_passive_aggressive"})
_STRATEGIES = ("randomised_variable", "variable", "quantile", "split", "selective", "auto")


def model_section(
    shape: Shape, draw: Draw, wanted: Sequence[str] | None = None, all_labels: bool = False
) -> dict[str, Any]:
    """Return a ``model`` section: a family (one of *wanted*), its hyper-parameters, rehearsal."""
    known = families(shape)
    name = draw.choice("family", wanted or list(known))
    section: dict[str, Any] = {"pipeline": known[name](shape, draw)}
    repeats = draw.choice(f"{name}.repeats", _repeats(name, all_labels))
    if repeats:
        section["rehearsal"] = {"window": draw.choice(f"{name}.window", [500, 100, 2_000]), "repeats": repeats}
    return section


def sampling_section(shape: Shape, draw: Draw, delayed: bool) -> dict[str, Any]:
    """Return a ``sampling`` section; *delayed* labels make near-duplicates of open requests matter."""
    strategy = draw.choice("strategy", _STRATEGIES)
    section: dict[str, Any] = {"strategy": strategy}
    if not shape.binary:
        section["uncertainty"] = draw.choice("uncertainty", ["least_confidence", "margin", "entropy"])
    if strategy in {"randomised_variable", "variable", "split", "selective"}:
        name = "scale_step" if strategy == "selective" else "threshold_step"
        section["parameters"] = {name: draw.real("step", 0.003, 0.1, 0.01)}
    if strategy == "randomised_variable":
        section["parameters"]["threshold_noise"] = draw.real("delta", 0.03, 1.0, 0.3)
    if delayed and not shape.named("text"):
        damping = draw.choice("damping", [None, 0.1, 0.3])
        section |= {} if damping is None else {"damping": damping}
    return section


def _repeats(family: str, all_labels: bool) -> list[int]:
    """Return how often recent labels may be repeated, the default first.

    From few labels, linear models learn more by repetition: without it they would lose to a forest in their first trial
    and not be tried again. The nearest neighbours keep their labels, so a repetition changes nothing.
    """
    if family == "neighbours":
        return [0]
    if family in {"forest", "mondrian_forest"}:
        return [0, 1]
    return [0, 2, 5, 10] if all_labels or family not in _LINEAR else [5, 2, 0, 10, 20]
