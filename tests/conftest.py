"""Fixtures."""

from __future__ import annotations

import kafka_broker
import pytest


@pytest.fixture(scope="session")
def kafka() -> kafka_broker.Cluster:
    """A real one-node Kafka for all tests of this process; see `kafka_broker.shared`."""
    return kafka_broker.shared()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes, unless ``-m`` speaks of it."""
    if "slow" not in config.getoption("-m"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        items[:] = [item for item in items if item not in slow]
        config.hook.pytest_deselected(items=slow)
