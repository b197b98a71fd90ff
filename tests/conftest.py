"""Fixtures."""

from __future__ import annotations

import kafka_broker
import pytest


@pytest.fixture(scope="session")
def kafka() -> kafka_broker.Cluster:
    """A real one-node Kafka for all tests of this process; see `kafka_broker.shared`."""
    return kafka_broker.shared()
