"""When refusals begin, which field is at fault and what to do: said once, not once for each record."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from streamal.core.records import Reason
from streamal.core.rules import Refused
from streamal.core.schema import quote

__all__ = ["HINTS", "RefusalEpisodes"]

_QUIET = 1_000
"""After so many inputs without a refusal of its kind, a refusal is the first of a new episode."""
_FEATURE = re.compile(r"""feature (('|").*?\2) (?:is|has) """)
"""How an explanation begins that says what is wrong with which feature."""
_MEND = "mend the producer; the dead letter says what is wrong and holds the first bytes of the record"

HINTS: Mapping[Reason, str] = {
    Reason.FEATURE_TYPE: "mend the producer; if the value stands for a missing one, name it in features.missing; "
    "if the schema is wrong, set the type in features.declared",
    Reason.FEATURE_UNKNOWN: 'declare the feature, or set features.unknown = "drop"',
    Reason.NULL_FEATURE: 'leave the feature out, or set features.null = "missing"',
    Reason.NUMBER_OUT_OF_RANGE: "mend the producer, or raise limits.magnitude",
    Reason.FEATURE_NAME: "shorten the name, or raise limits.feature_name_bytes",
    Reason.FEATURES_TOO_MANY: "send fewer features, or raise limits.features",
    Reason.FEATURES_EMPTY: "compare the names of the event's features with features.declared, or with those that "
    "`streamal check` prints",
    Reason.RECORD_TOO_BIG: "send smaller records, or raise limits.record_bytes",
    Reason.LABEL_UNKNOWN: 'declare the class in labels.classes, or set labels.new_classes = "learn"; the dead letter '
    "names the class that was probably meant",
    Reason.CLASSES_TOO_MANY: "declare the classes in labels.classes, or raise limits.classes_per_annotator",
    Reason.EVENT_MISSING: "keep events for longer (retention), or send the features beside the label",
    Reason.EVENT_REFUSED: "the dead letter says what is wrong with the event",
    Reason.NOT_SUPPORTED: "the dead letter says what is not supported, or which key allows it",
    Reason.KILLED_THE_WORKER: "look at the record in the dead letter, and at the model",
}
"""What to do against the refusals of a reason; `RefusalEpisodes.hint` has one for every reason."""


class RefusalEpisodes:
    """Finds the refusals that begin an episode: the first of their kind for a while.

    A kind is a topic and a reason or, where a feature of the schema is at fault, what is wrong with which feature.
    """

    def __init__(self) -> None:
        """Begin without any input."""
        self._inputs = 0
        self._latest: dict[tuple[str, str], int] = {}

    def update(self, inputs: int, refused: Sequence[Refused], features: Iterable[str]) -> list[tuple[Refused, str]]:
        """Take in a step of so many *inputs*, *refused* among them; return those that begin an episode.

        With each comes what is wrong with which feature, if it is among *features*, those of the schema; else "": a
        name that a producer has made up, or a label, stands in no log.
        """
        self._inputs += inputs
        names = frozenset(map(quote, features)) if refused else frozenset()
        begun = []
        for each in refused:
            found = _FEATURE.match(each.refusal.detail)
            what = each.refusal.detail if found is not None and found[1] in names else ""
            kind = (each.topic, what or each.refusal.reason)
            latest = self._latest.get(kind)
            if latest is None or self._inputs - latest > _QUIET:
                begun.append((each, what))
            self._latest[kind] = self._inputs
        return begun

    @staticmethod
    def hint(reason: Reason) -> str:
        """Return what to do against refusals for *reason*.

        >>> RefusalEpisodes.hint(Reason.NULL_FEATURE)
        'leave the feature out, or set features.null = "missing"'
        """
        return HINTS.get(reason, _MEND)
