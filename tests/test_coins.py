"""Coins: fair, independent of each other and of where one looks first, and the same for ever."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamal.core.coins import EventCoins, HashedUniform

OFFSETS = 64_000


def coins(seed: int, partition: int) -> list[list[float]]:
    """Return the coins of a partition, lane by lane."""
    of = EventCoins(seed, partition)
    return [list(lane) for lane in zip(*(of.uniform(offset) for offset in range(OFFSETS)), strict=True)]


@pytest.fixture(scope="module")
def lanes() -> list[list[float]]:
    return coins(7, 0)


def correlation(a: list[float], b: list[float]) -> float:
    """Return Pearson's, of numbers that are uniform on [0, 1)."""
    return 12.0 * sum((x - 0.5) * (y - 0.5) for x, y in zip(a, b, strict=True)) / len(a)


def test_each_lane_is_uniform(lanes: list[list[float]]) -> None:
    """Chi-square over 100 cells, each lane by itself: 99 ± 14, and never beyond five of these."""
    for lane in lanes:
        counts = [0] * 100
        for coin in lane:
            counts[int(100 * coin)] += 1
        expected = OFFSETS / 100
        assert sum((count - expected) ** 2 / expected for count in counts) < 99 + 5 * math.sqrt(2 * 99)


def test_lanes_neighbours_partitions_and_seeds_are_independent(lanes: list[list[float]]) -> None:
    """No correlation beyond five standard errors, also with the next event, and with the one 64 events later."""
    others = [*coins(7, 1), *coins(8, 0)]
    pairs = [(a, b) for i, a in enumerate(lanes) for b in (*lanes[:i], *others)]
    pairs += [(lane[:-shift], lane[shift:]) for lane in lanes for shift in (1, 2, 63, 64)]
    assert max(abs(correlation(a, b)) * math.sqrt(len(a)) for a, b in pairs) < 5.0


@given(st.integers(0, 2**62), st.integers(0, 10_000), st.integers(0, 2**31), st.lists(st.integers(0, 2**62)))
def test_a_coin_depends_on_its_coordinates_alone(
    offset: int, partition: int, seed: int, looked_at_before: list[int]
) -> None:
    """Not on what was asked for before: a worker that starts anew in the middle of a block tosses the same."""
    used = EventCoins(seed, partition)
    for each in looked_at_before:
        used.uniform(each)
    found = used.uniform(offset)
    assert found == EventCoins(seed, partition).uniform(offset)
    assert all(0.0 <= coin < 1.0 for coin in found)


def test_the_coins_are_these() -> None:
    """A replay of a year ago has to decide as it did: nobody changes how they are made without knowing it."""
    assert EventCoins(7, 3).uniform(1845) == COINS
    assert HashedUniform(7, "strategy").uniform("0-1845") == COIN


COINS = [0.7777003298979253, 0.09059709846042097, 0.42419303860515356, 0.7105416941922158]
COIN = 0.4288163806051779
