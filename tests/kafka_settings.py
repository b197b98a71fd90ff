"""The settings of the Kafka that `tests.kafka_broker` starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["NOTHING", "Extra", "properties"]

_CONTROLLER = 100  # the id of a controller that is apart

_PROPERTIES = """\
controller.quorum.voters={quorum}
controller.listener.names=CONTROLLER
listener.security.protocol.map={protocols},CONTROLLER:PLAINTEXT
log.dirs={directory}/log
auto.create.topics.enable=false
default.replication.factor={replicas}
offsets.topic.num.partitions=1
offsets.topic.replication.factor={replicas}
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={isr}
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
log.cleaner.dedupe.buffer.size=4194304
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
num.network.threads=2
num.io.threads=2
num.replica.fetchers=1
log.initial.task.delay.ms=5000
"""


@dataclass(frozen=True)
class Extra:
    """What a cluster may have beside its plain listener.

    Attributes:
        settings: lines of ``server.properties``, which win.
        listeners: further ones, with their protocols.
        credentials: SCRAM users, in the words of ``StorageTool --add-scram``.
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    listeners: Mapping[str, str] = field(default_factory=dict)
    credentials: Sequence[str] = ()


NOTHING = Extra()


def properties(ports: Sequence[Sequence[int]], directory: Path, extra: Extra, *, apart: bool) -> dict[str, str]:
    """Return the ``server.properties`` of each node by its directory; the first of its *ports* is a controller's.

    With a controller *apart*, that is the last one, at the first node's first port.
    """
    if apart:
        assert len(ports) == 1
        voters = {_CONTROLLER: ports[0][0]}
    else:
        voters = {number: each[0] for number, each in enumerate(ports, start=1)}
    made = {}
    for number, each in enumerate(ports, start=1):
        clients = _listeners(each, extra)
        roles = "broker" if apart else "broker,controller"
        listeners = clients if apart else f"{clients},CONTROLLER://127.0.0.1:{each[0]}"
        lines = [f"process.roles={roles}", f"node.id={number}", f"listeners={listeners}"]
        lines += [f"advertised.listeners={clients}", "inter.broker.listener.name=CLIENTS"]
        made[f"node-{number}"] = "\n".join(lines)
    if apart:
        lines = [
            "process.roles=controller",
            f"node.id={_CONTROLLER}",
            f"listeners=CONTROLLER://127.0.0.1:{ports[0][0]}",
        ]
        made["controller"] = "\n".join(lines)
    quorum = ",".join(f"{number}@127.0.0.1:{port}" for number, port in voters.items())
    return {name: f"{text}\n{_common(len(ports), quorum, directory / name, extra)}" for name, text in made.items()}


def _listeners(ports: Sequence[int], extra: Extra) -> str:
    names = ("CLIENTS", *extra.listeners)
    return ",".join(f"{name}://127.0.0.1:{port}" for name, port in zip(names, ports[1:], strict=True))


def _common(count: int, quorum: str, directory: Path, extra: Extra) -> str:
    """Return what is the same in each node, and *extra* settings, which win."""
    protocols = {"CLIENTS": "PLAINTEXT", **extra.listeners}
    replicas = min(count, 3)
    text = _PROPERTIES.format(
        quorum=quorum,
        protocols=",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
        directory=directory,
        replicas=replicas,
        isr=max(1, replicas - 1),
    )
    return text + "".join(f"{name}={value}\n" for name, value in extra.settings.items())
