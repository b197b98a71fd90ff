"""New classes: one annotator's replies may create only some, or forged labels take the places of genuine ones (F67)."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter

import pytest

from streamal.core.codec.events import encode
from streamal.core.codec.wire_rules import WireRules
from streamal.core.records import Example, Lane, Reason, Record
from tests.making import LABELS, World, ask, make_fold, make_request, make_rules, reply_record

DAY_S = 86_400.0


@pytest.fixture
def world() -> World:
    return make_world()


def make_world(*, natural: bool = False) -> World:
    rules = dataclasses.replace(make_rules(wire=WireRules(natural=natural)), classes_per_annotator=2)
    world = World(rules, make_fold(learn_new=True, kinds={"x": "number"}))
    ask(world.fold, *(make_request(offset, ttl_s=1e9) for offset in range(12)))
    return world


def reply(world: World, now: float, *replies: tuple[int, str, str | None]) -> Counter[tuple[str, str]]:
    """Run one step with *replies*: number of the request, label, annotator."""
    offset = world.committed[LABELS].offset
    records = [
        reply_record(offset + number, f"0-{request}", label, annotator=annotator)
        for number, (request, label, annotator) in enumerate(replies)
    ]
    return world.run(records, now).tally


def test_an_annotator_creates_so_many_classes_a_day(world: World) -> None:
    """Whether they come in one step or in several, the rest is refused with the reason."""
    tally = reply(world, 0.0, (0, "c", "eve"), (1, "d", "eve"), (2, "e", "eve"))
    assert tally["dead_letters", Reason.CLASSES_TOO_MANY] == 1
    assert reply(world, 1.0, (3, "f", "eve"))["dead_letters", Reason.CLASSES_TOO_MANY] == 1
    assert list(world.fold.learned.model.classes) == ["a", "b", "c", "d"]
    letters = world.written["dead-letters"]
    assert b"raise limits.classes_per_annotator" in (letters[0].value or b"")


def test_a_refused_class_leaves_its_request_open(world: World) -> None:
    """A known class, by the same annotator or another one, closes it."""
    reply(world, 0.0, (0, "c", "eve"), (1, "d", "eve"), (2, "e", "eve"))
    assert "0-2" in world.fold.books.pending.open
    assert reply(world, 1.0, (2, "d", "eve"))["replies", "accepted"] == 1


def test_the_next_day_begins_anew(world: World) -> None:
    """A day is a calendar day (UTC) of the trainer's clock."""
    reply(world, 1.0, (0, "c", "eve"), (1, "d", "eve"))
    assert reply(world, DAY_S - 1, (2, "e", "eve"))["replies", "refused"] == 1
    assert reply(world, DAY_S, (2, "e", "eve"))["replies", "accepted"] == 1


def test_each_annotator_has_a_count_of_their_own(world: World) -> None:
    """Others go on; those without a name share one count; a class that somebody else has created is free to all."""
    reply(world, 0.0, (0, "c", "eve"), (1, "d", "eve"))
    tally = reply(world, 1.0, (2, "e", "ann"), (3, "f", None), (4, "g", None), (5, "h", None), (6, "e", "eve"))
    assert (tally["replies", "accepted"], tally["replies", "refused"]) == (4, 1)


def test_known_classes_do_not_count(world: World) -> None:
    """Declared ones, and those that were learned before."""
    tally = reply(world, 0.0, *((offset, "ab"[offset % 2], "ann") for offset in range(10)))
    assert tally["replies", "accepted"] == 10
    assert world.fold.books.new_classes.counts == {}


def test_natural_labels_count_too() -> None:
    """They need no request, so nothing else bounds how many there are."""
    world = make_world(natural=True)
    body = {"features": {"x": 1.0}, "annotator": "bank"}
    values = [json.dumps({**body, "label": label}).encode() for label in "cdefg"]
    tally = world.run([Record("labels", 0, n, None, value) for n, value in enumerate(values)], 0.0).tally
    assert (tally["natural_labels", "accepted"], tally["dead_letters", Reason.CLASSES_TOO_MANY]) == (2, 3)


def test_the_counts_are_a_fold_of_the_log() -> None:
    """Folded from the start, or by the step itself: the same; so the next trainer decides as this one would."""
    first, second = make_world(), make_fold(learn_new=True, kinds={"x": "number"})
    reply(first, 5.0, (0, "c", "eve"), (1, "d", "ann"), (2, "e", "eve"), (3, "f", "eve"))
    for offset, record in enumerate(first.written["training"]):
        second.apply_training(offset, record.value)
    assert second.books.new_classes == first.fold.books.new_classes
    assert second.books.new_classes.counts == {"eve": 2, "ann": 1}


def test_a_class_that_the_log_repeats_counts_once() -> None:
    """Two examples of one new class: the second meets a known one."""
    fold = make_fold(learn_new=True, kinds={"x": "number"})
    for number in range(2):
        example = Example(f"9-{number}", "c", {"x": 1.0}, None, 1.0, Lane.AUDIT, 0.0, 0.0, annotator="eve")
        fold.apply_training(number, encode(example))
    assert fold.books.new_classes.counts == {"eve": 1}
