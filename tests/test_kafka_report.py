"""`streamal report` on a real broker, beside a worker that runs."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos import configured, worker
from tests.conftest import Cli
from tests.kafka_broker import Cluster
from tests.outside import outside_of

pytestmark = pytest.mark.kafka


def test_a_report_is_read_from_the_topics_of_a_cluster(kafka: Cluster, tmp_path: Path, cli: Cli) -> None:
    """While the worker goes on it tells of labels and accuracy; afterwards of every label, and it commits nothing."""
    path = configured(kafka, tmp_path, partitions=2)
    with ExitStack() as stack:
        outside = stack.enter_context(outside_of(path, 1, per_second=100.0))
        head = stack.enter_context(worker(path, "head"))
        outside.play_until(head.works)
        outside.play(4.0)
        early = json.loads(cli("report", "-c", path, "--json").out)
        outside.finish()
        assert head.stop() == 0
    late = json.loads(cli("report", "-c", path, "--json").out)
    assert 0 < sum(early["requests"].values()) <= sum(late["requests"].values())
    assert sum(late["outcomes"].values()) == sum(late["requests"].values())
    assert late == json.loads(cli("report", "-c", path, "--json").out)
    assert late["now"]["low"] <= late["now"]["value"] <= late["now"]["high"]
    assert late["advice"]["verdict"] in {"raise", "hold", "lower", "stop"}
    assert cli("report", "-c", path).code == 0
