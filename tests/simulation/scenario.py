"""What a seed stands for: rules and limits, all drawn small so that every bound is met, and the script of actions.

The script does not depend on what the program does: a fault that is added changes nothing else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from random import Random
from typing import NamedTuple

from streamal.core.books import Books
from streamal.core.budget.money import Prices
from streamal.core.budget.sampler import Budget
from streamal.core.codec.wire_rules import WireRules
from streamal.core.fold import Fold
from streamal.core.learned import Learned, LearnedRules
from streamal.core.model.model import LabelRules, Model
from streamal.core.pending import Pending, RecentLabels
from streamal.core.quality.quality import Quality
from streamal.core.rules import Rules, TopicNames
from streamal.core.schema import Schema
from streamal.core.strategies import STRATEGIES, SamplingRules, build_strategy
from streamal.daemon.daemon import Settings
from tests.simulation.fakes import FINGERPRINT, LETHAL, Chain
from tests.simulation.faults import KINDS

TOPICS = TopicNames("events", "labels", "predictions", "requests", "training", "dead")
GROUP = "simulated"
CLASSES = ("a", "b")
BAD_BYTES: Sequence[bytes | None] = (
    None,
    b"",
    b"\xff\xfe",
    b"null",
    b"[]",
    b"{}",
    b"[" * 3000,
    b'{"features": {}}',
    b'{"features": {"x": NaN}}',
    b'{"features": {"x": 1e13}}',
    b'{"features": {"x": null}}',
    b'{"request": "0-0"}',
    b'{"request": "0-0", "label": 1.5}',
    b'{"features": {"x": ' + b"9" * 5000 + b"}}",
)
"""Refused as an event and as a reply, whatever the schema."""

SHARES: Sequence[Fraction] = (Fraction(1, 3), Fraction(1, 2), Fraction(3, 5), Fraction(1))
OTHER_SHARES: Sequence[Fraction] = (*SHARES, Fraction(49, 100), Fraction(33, 100))
KINDS_DECLARED = {"x": "number", "poison": "boolean"}
VECTOR = {"v": "vector(3)"}
QUOTAS: Sequence[tuple[tuple[str, Fraction], ...]] = ((), (("a", Fraction(1, 3)),))

FAULTS = (
    *KINDS,
    *("kill", "snapshots", "disk", "clock", "bad", "forged", "conflicting", "duplicate"),
    *("silent", "poison", "new_class", "abstain", "natural"),
)
"""What a swarm run switches on or off; `KINDS` strike at I/O points, the others are in the script."""


class Action(NamedTuple):
    """One line of the script: what, who or which kind, and a number that settles the rest."""

    do: str
    who: str = ""
    number: float = 0
    value: bytes | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that a run depends on, but for the faults at I/O points."""

    seed: int
    partitions: int
    workers: tuple[str, ...]
    faults: frozenset[str]
    declared: bool
    outdated: bool
    """Whether the log begins with a schema of an earlier configuration, which says otherwise than the declared one."""
    vectors: bool
    """Whether events have a vector beside their numbers."""
    learn_new: bool
    infer_from: int
    closed_max: int
    lethal: bool
    budget: Budget
    settings: Settings
    script: tuple[Action, ...]

    def under(self, share: Fraction) -> tuple[Budget, Settings]:
        """Return the budget and the settings of a daemon that was configured anew with another *share*."""
        budget, rules = replace(self.budget, share=share), self.settings.rules
        strategy = build_strategy(SamplingRules(rules.strategy_name, float(budget.rate), share=float(share)))
        budgets = tuple(budget.partition_budget(partition, self.partitions) for partition in range(self.partitions))
        return budget, replace(self.settings, rules=replace(rules, budgets=budgets, strategy=strategy))

    def new_fold(self) -> Fold:
        """Return what a worker knows at first."""
        return Fold(
            Books(Pending(self.closed_max), self.infer_from, samples=None if self.declared else []),
            Learned(
                rules=LearnedRules(),
                model=Model(Chain(), LabelRules(CLASSES, self.learn_new)),
                schema=Schema(KINDS_DECLARED | (VECTOR if self.vectors else {})) if self.declared else None,
                quality=Quality(100),
                natural_labels=RecentLabels(self.closed_max),
                start="simulated" if self.seed % 4 == 0 else "",
            ),
        )


def make_scenario(seed: int, faults: frozenset[str] | None = None, *, lethal: bool = False) -> Scenario:
    """Return the scenario of *seed*; *faults* None: a random subset of all; *lethal*: some events kill the worker."""
    rng = Random(seed)
    drawn = frozenset(fault for fault in FAULTS if rng.random() < 0.5)
    faults = drawn if faults is None else faults
    if lethal:
        faults -= {"natural"}  # an example that kills whoever learns it needs a person: `streamal quarantine`
    partitions, workers = rng.choice((1, 1, 2, 2, 3)), ("a", "b", "c")[: rng.choice((1, 2, 2, 3))]
    budget = Budget(
        share=rng.choice(SHARES),
        audit_share=rng.choice((Fraction(0), Fraction(1, 2), Fraction(1, 3))),
        burst=partitions + rng.choice((0, 1, 4)),
        per_hour=rng.choice((None, None, 3 * partitions)),
        open_max=rng.choice((1000, 2 * partitions, 4 * partitions)),
    )
    budget = _in_money(Random(f"money {seed}"), budget, partitions)
    sizes = Random(f"bytes {seed}")
    budget = replace(budget, open_bytes=sizes.choice((96_000_000, 96_000_000, partitions * 8_000)))
    ttl_s = rng.choice((60.0, 200.0, 1e6))
    settings = Settings(
        rules=_rules(rng, Random(f"trust {seed}"), budget, partitions, ttl_s),
        fingerprint=FINGERPRINT,
        events_per_step=rng.choice((1, 3, 8)),
        labels_per_step=rng.choice((1, 2, 8)),
        poll_timeout_s=0.0,
        snapshot_every_s=rng.choice((0.0, 0.0, 15.0, math.inf)),
        gauges_every_s=rng.choice((math.inf, math.inf, math.inf, 0.0)),
        group=GROUP,
        step_bytes=sizes.choice((math.inf, math.inf, 200, 1)),
        backoff_s=0.0,
        attempts_max=rng.choice((4, 16)),
        clock_jump_s=10.0,
        clock_settle_s=60.0,
    )
    declared = rng.random() < 0.6
    schemas = Random(f"schema {seed}")
    infer_from, closed_max = rng.choice((2, 4)), rng.choice((2, 1000, 1000))
    script = _with_more(seed, faults, workers, _script(rng, partitions, workers, faults))
    vectors = Random(f"vectors {seed}").random() < 0.4
    if vectors:
        script = _with_vectors(seed, script, declared)
    script = _with_losses(Random(f"losses {seed}"), _with_placeholder(schemas, script, declared))
    if lethal:
        script = _with_lethal(Random(f"lethal {seed}"), partitions, script)
    return Scenario(
        seed=seed,
        partitions=partitions,
        workers=workers,
        faults=faults,
        declared=declared,
        outdated=declared and seed % 4 != 0 and schemas.random() < 0.25,
        vectors=vectors,
        learn_new="new_class" in faults,
        infer_from=infer_from,
        closed_max=closed_max,
        budget=budget,
        settings=settings,
        lethal=lethal,
        script=tuple(script),
    )


def _with_vectors(seed: int, script: list[Action], declared: bool) -> list[Action]:
    """Return *script* with a vector in each event; under a declared schema some have a length that it refuses."""
    rng, found = Random(f"numbers {seed}"), []
    for action in script:
        if action.do != "event" or action.value is None:
            found.append(action)
            continue
        event, is_odd = json.loads(action.value), declared and rng.random() < 0.05
        event["features"]["v"] = [rng.randrange(-9, 9) / 4 for _ in range(4 if is_odd else 3)]
        value = json.dumps(event).encode()
        found.append(action._replace(do="placeholder" if is_odd else "event", value=value))
    return found


def _with_placeholder(rng: Random, script: list[Action], declared: bool) -> list[Action]:
    """Return *script*; in every other scenario that declares no features one event has a text instead of a number.

    It is mostly the first (F32).
    """
    places = [place for place, action in enumerate(script) if action.do == "event"]
    if not declared and places and rng.random() < 0.5:
        place = places[0] if rng.random() < 0.5 else rng.choice(places)
        value = json.dumps({"features": {"x": "n/a", "poison": False}}).encode()
        script[place] = script[place]._replace(do="placeholder", value=value)
    return script


def _with_more(seed: int, faults: frozenset[str], workers: Sequence[str], script: list[Action]) -> list[Action]:
    """Return *script* with changes of the share in every other scenario (F63), and with jumping clocks (F64)."""
    rng = Random(f"more {seed}")
    for _ in range(rng.choice((0, 0, 0, 1, 2, 3))):
        script.insert(rng.randrange(len(script) // 2), Action("share", "", rng.randrange(len(OTHER_SHARES))))
    if "clock" in faults:
        first, who = rng.randrange(len(script)), rng.choice(workers)
        for do, name, seconds in (
            ("jump", "", rng.choice((3e7, -900.0))),
            ("skew", who, rng.choice((3e7, 4e3, -900.0))),
        ):
            if rng.random() < 0.5:
                script.insert(first + rng.randrange(12), Action(do, name, 0.0 if name else -seconds))
                script.insert(first, Action(do, name, seconds))
    return script


def _in_money(rng: Random, budget: Budget, partitions: int) -> Budget:
    """Return *budget* with caps of a day and on money in every other scenario, a few labels each."""
    if rng.random() < 0.5:
        return budget
    prices = Prices(
        per_label=rng.choice((0, 50_000)),
        per_hour=36_000_000,
        seconds_max=rng.choice((10, 60)),
        refund_expired=rng.random() < 0.7,
        refund_abstained=rng.random() < 0.3,
    )
    caps = [rng.choice((None, n * partitions * prices.reserved + rng.randrange(999))) for n in (2, 4, 6)]
    per_day = rng.choice((None, None, 5 * partitions))
    return replace(budget, per_day=per_day, money=tuple(caps), prices=prices, quotas=rng.choice(QUOTAS))


def event(rng: Random, faults: frozenset[str]) -> bytes:
    """Return a well-formed event; its time is the producer's, and often a lie (F36)."""
    features: dict[str, object] = {"x": rng.randrange(100)}
    if rng.random() < 0.2:
        features["more"] = "text"
    if "poison" in faults:
        features["poison"] = rng.random() < 0.2
    time = rng.choice((1000.0, 2000.0, 0.0, 253_402_300_000.0))
    return json.dumps({"id": rng.randrange(10), "time": time, "features": features}).encode()


def _rules(rng: Random, trust: Random, budget: Budget, partitions: int, ttl_s: float) -> Rules:
    name = rng.choice(tuple(STRATEGIES))
    return Rules(
        topics=TOPICS,
        partitions=partitions,
        wire=WireRules(natural=trust.random() < 0.8),
        budgets=tuple(budget.partition_budget(partition, partitions) for partition in range(partitions)),
        strategy_name=name,
        strategy=build_strategy(SamplingRules(name, float(budget.rate), share=float(budget.share))),
        uncertainty="margin",
        seed=rng.randrange(1000),
        ttl_s=ttl_s,
        expiries_per_step=rng.choice((1, 100)),
        prices=budget.prices,
        pace_horizon_s=30.0 if budget.quotas else None,
        burst=2 * partitions,
        classes_per_annotator=trust.choice((1, 5)),
    )


def _with_losses(rng: Random, script: list[Action]) -> list[Action]:
    """Return *script*, in every fourth scenario with a topic or states that are lost for a while."""
    if rng.random() < 0.25:
        at = rng.randrange(len(script) // 3, len(script))
        script.insert(at, Action(rng.choice(("lose requests", "lose events", "lose states"))))
    return script


def _with_lethal(rng: Random, partitions: int, script: list[Action]) -> list[Action]:
    """Return *script* with up to three events that kill whoever predicts them."""
    value = json.dumps({"features": {"x": LETHAL, "poison": False}}).encode()
    for _ in range(rng.choice((1, 1, 2, 3))):
        script.insert(rng.randrange(len(script)), Action("lethal event", "", rng.randrange(partitions), value))
    return script


def _script(rng: Random, partitions: int, workers: Sequence[str], faults: frozenset[str]) -> list[Action]:
    """Return the actions: about 20 events, and twice as many steps of some worker."""
    replies = ["good"] * 4 + [kind for kind in ("duplicate", "conflicting", "forged", "abstain") if kind in faults]
    replies += [kind for kind in ("bad", "new_class") if kind in faults]
    replies += ["natural", "self-contained"] if "natural" in faults else []
    rare = ["clock"] + [kind for kind in ("kill", "snapshots", "disk", "rebalance") if kind in faults]
    kinds = ["event"] * 5 + ["tick"] * 10 + ["reply"] * (1 if "silent" in faults else 4) + rare
    script: list[Action] = []
    for _ in range(rng.randint(35, 60)):
        do, who = rng.choice(kinds), rng.choice(workers)
        if do == "event":
            bad = "bad" in faults and rng.random() < 0.15
            value = rng.choice(BAD_BYTES) if bad else event(rng, faults)
            script.append(Action("bad event" if bad else "event", "", rng.randrange(partitions), value))
        elif do == "reply":
            script.append(Action("reply", rng.choice(replies), rng.randrange(1000), rng.choice(BAD_BYTES)))
        elif do == "clock":
            wrong = "clock" in faults and rng.random() < 0.5
            seconds = rng.choice((-5.0, -900.0, -1e9, 4e3) if wrong else (1.0, 20.0, 50.0, 300.0))
            script.append(Action("jump" if wrong else "clock", "", seconds))
        elif do == "snapshots":
            script.append(Action(rng.choice(("lose", "rot", "remake", "garble", "copy", "full", "kill")), who))
        elif do == "disk":
            script.append(Action("full", who))
        elif do == "rebalance":
            script.append(Action(rng.choice(("leave", "expel")), who))
        else:
            script.append(Action(do, who))
    return script
