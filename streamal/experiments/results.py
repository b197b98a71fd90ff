"""The results of experiments as data: `Comparison` and `Tuned`, and the records in them.

Nothing here draws a picture or writes a page: `streamal.reports` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from streamal.config import Config
from streamal.experiments.config_file import render_config
from streamal.experiments.frames import frame
from streamal.experiments.notebook import html_figures
from streamal.experiments.runs import Metric, Run
from streamal.experiments.summaries import ALL, CONTROL, TUNED, Baselines, Summary, gain_sentence, remarks, summaries
from streamal.recordings.account import Account

__all__ = [
    "Candidate",
    "Comparison",
    "LabelsNeeded",
    "Trial",
    "Tuned",
]


@dataclass(frozen=True, slots=True, repr=False)
class Comparison:
    """The result of `compare`.

    Attributes:
        metric: what `summaries` and `baselines` measure.
        runs: one for each replay, in the order of the grid.
        account: what was left out of the recording.
    """

    stream: str
    events: int
    metric: Metric
    baselines: Baselines
    runs: Sequence[Run]
    account: Account = field(default_factory=Account)

    def summaries(self) -> list[Summary]:
        """Return means over the seeds, in the order of the grid."""
        return summaries(self.runs, self.metric)

    def sentence(self) -> str:
        """Return in one sentence whether asking was worth it; "" if nothing but random asking was tried."""
        return gain_sentence(self.runs, self.metric)

    def remarks(self) -> list[str]:
        """Return one sentence for each thing that makes the figures mean less than they seem to."""
        return remarks(self.runs)

    def __repr__(self) -> str:
        """Return what was compared, and the best of it, on one line."""
        best = max(self.summaries(), key=lambda row: (not row.arm.startswith(ALL), row.value))
        return (
            f"Comparison({self.stream}: {self.events} events, {len(self.runs)} replays; "
            f"best {self.metric} {best.value:.4f}: {best.arm}, {best.model}, budget {best.budget:.3g})"
        )

    def _repr_html_(self) -> str:
        """Return the figures as a table for a notebook."""
        return html_figures(
            f"Comparison on {self.stream}",
            self.summaries(),
            self.metric,
            self.baselines,
            [self.sentence(), *self.remarks()],
        )

    def as_dict(self) -> dict[str, object]:
        """Return everything but the curves as JSON-ready values; the same for the same seed, byte for byte."""
        return {
            "stream": self.stream,
            "events": self.events,
            "metric": self.metric,
            "asking": self.sentence(),
            "remarks": self.remarks(),
            "no_change": self.baselines.no_change,
            "majority": self.baselines.majority,
            "summaries": [asdict(summary) for summary in self.summaries()],
            "runs": [run.figures() for run in self.runs],
            "account": self.account.as_dict(),
        }

    def to_frame(self) -> Any:
        """Return one row for each replay as a data frame of pandas, Polars or PyArrow, whichever is installed."""
        return frame([run.figures() for run in self.runs])


@dataclass(frozen=True, slots=True)
class Candidate:
    """Settings that can be replayed: sections that change the configuration, and the events per step."""

    sections: Mapping[str, Any]
    batch: int
    family: str


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial of a search.

    Attributes:
        value: the metric over the rows that the trial has seen.
        pruned: the trial was stopped early, after *rows* rows instead of the whole first part.
    """

    number: int
    value: float
    pruned: bool
    rows: int
    parameters: Mapping[str, Any]
    candidate: Candidate

    def as_dict(self) -> dict[str, object]:
        """Return the trial without its settings as JSON-ready values."""
        return {
            "number": self.number,
            "value": self.value,
            "pruned": self.pruned,
            "rows": self.rows,
            "family": self.candidate.family,
            "parameters": dict(self.parameters),
        }


@dataclass(frozen=True, slots=True)
class LabelsNeeded:
    """How few labels reach the target on the rest of the stream.

    Attributes:
        wanted: the target, in the metric.
        full: the metric of the best model with all labels.
        shares: for each seed the share of labels, read off its curve between the budgets; None where none reaches it.
        recommended: the budget to configure.
        reached: whether the mean at that budget, less two standard errors, reaches the target.
    """

    wanted: float
    full: float
    shares: tuple[float | None, ...]
    recommended: float
    reached: bool


@dataclass(frozen=True, slots=True, repr=False)
class Tuned:
    """The result of `tune`: settings, and what they are worth on the rest of the stream.

    Attributes:
        first, rest: numbers of events: the first part, which is tuned on, and the rest, which is reported on.
        trials, full_trials: the search at the budget, and the one with all labels; figures of the first part only.
        config: the settings found, with the recommended budget.
        batch: events per step that go with them.
        asks: the arm that is recommended: "tuned", or "random" if the strategy that was found lost against it.
        runs: replays of the rest, and of nothing else.
        account: what was left out of the recording.
    """

    stream: str
    metric: Metric
    first: int
    rest: int
    trials: Sequence[Trial]
    full_trials: Sequence[Trial]
    baselines: Baselines
    runs: Sequence[Run]
    labels_needed: LabelsNeeded
    config: Config
    batch: int
    asks: str = TUNED
    account: Account = field(default_factory=Account)

    def summaries(self) -> list[Summary]:
        """Return means over the seeds, of the rest of the stream."""
        return summaries(self.runs, self.metric)

    def sentence(self) -> str:
        """Return in one sentence how few labels are enough."""
        needed, shares = self.labels_needed, [share for share in self.labels_needed.shares if share is not None]
        name, scope = self.metric.replace("_", " "), f"On the {self.rest:,} events that tuning has not seen"
        target = f"{needed.wanted / needed.full:.1%} of the {name} that all labels give ({needed.full:.4f})"
        tuned = [run for run in self.runs if run.arm == self.asks]
        if len(shares) < len(needed.shares):
            top, best = max(run.budget for run in tuned), max(row.value for row in summaries(tuned, self.metric))
            missed = len(needed.shares) - len(shares)
            return (
                f"{scope}, with {missed} of {len(needed.shares)} seeds {top:.3g} of the labels did not reach {target}; "
                f"the best mean of a budget was {best:.4f}, {best / needed.full:.1%} of it."
            )
        least = "at most " if min(shares) <= min(run.share for run in tuned) else ""
        return (
            f"{scope}, {least}{median(shares):.1%} of the labels ({min(shares):.1%} to {max(shares):.1%} over "
            f"{len(shares)} seeds) gave {target}."
        )

    def gain_sentence(self) -> str:
        """Return in one sentence whether asking was worth it, and what that means for the settings."""
        found = gain_sentence(self.runs, self.metric)
        return f"{found} So the settings ask at random." if self.asks == CONTROL else found

    def remarks(self) -> list[str]:
        """Return one sentence for each thing that makes the figures mean less than they seem to."""
        return remarks(self.runs)

    def __repr__(self) -> str:
        """Return the answer on one line."""
        settings = f"{self.config.sampling.strategy}, budget {self.labels_needed.recommended:.3g}"
        return f"Tuned({self.stream}: {settings}; {self.sentence()})"

    def _repr_html_(self) -> str:
        """Return the figures of the rest as a table for a notebook."""
        below = [self.sentence(), self.gain_sentence(), *self.remarks()]
        return html_figures(f"Tuning on {self.stream}", self.summaries(), self.metric, self.baselines, below)

    def as_dict(self) -> dict[str, object]:
        """Return everything but curves and trials' settings as JSON-ready values; the same for the same seed."""
        return {
            "stream": self.stream,
            "metric": self.metric,
            "tuned_on": self.first,
            "reported_on": self.rest,
            "no_change": self.baselines.no_change,
            "majority": self.baselines.majority,
            "answer": self.sentence(),
            "asking": self.gain_sentence(),
            "remarks": self.remarks(),
            "wanted": self.labels_needed.wanted,
            "all_labels": self.labels_needed.full,
            "label_shares": list(self.labels_needed.shares),
            "recommended_budget": self.labels_needed.recommended,
            "target_reached": self.labels_needed.reached,
            "settings": self.config.model_dump(mode="json", include={"model", "sampling"}),
            "events_per_step": self.batch,
            "summaries": [asdict(row) for row in self.summaries()],
            "runs": [run.figures() for run in self.runs],
            "trials": [trial.as_dict() for trial in self.trials],
            "trials_all_labels": [trial.as_dict() for trial in self.full_trials],
            "account": self.account.as_dict(),
        }

    def to_frame(self) -> Any:
        """Return one row for each replay of the rest as a data frame of whichever library is installed."""
        return frame([run.figures() for run in self.runs])

    def trials_frame(self) -> Any:
        """Return one row for each trial: figures of the first part, to look at the search, not at the result."""
        return frame([{**trial.as_dict(), "parameters": str(dict(trial.parameters))} for trial in self.trials])

    def toml(self) -> str:
        """Return the settings as a commented ``config.toml``."""
        return render_config(self.config, self._remarks())

    def write(self, path: Path) -> None:
        """Write the settings into the ``config.toml`` at *path*; comments of a configuration that is there stay."""
        existing = path.read_text(encoding="utf-8") if path.exists() else ""
        path.write_text(render_config(self.config, self._remarks(), existing), encoding="utf-8")

    def _remarks(self) -> list[str]:
        """Return what a reader of the configuration should know."""
        steps = "" if self.batch == 1 else f" Replayed with {self.batch} events per step (`--batch {self.batch}`)."
        found = (
            f"Found by `streamal tune` on the first {self.first:,} events of {self.stream}; the sentences above are "
            f"about the {self.rest:,} after them.{steps}"
        )
        return [
            self.sentence(),
            self.gain_sentence(),
            found,
            f"Try it: streamal replay STREAM --config THIS_FILE --batch {self.batch}; then set transport and topics.",
        ]
