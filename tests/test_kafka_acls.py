"""Least privilege, on a broker that enforces it: with a role's permissions it works, without any one it does not."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from kafka import KafkaAdminClient
from kafka.admin import ACL, ACLFilter, ACLOperation, ACLPermissionType, ResourcePattern, ResourcePatternFilter
from kafka.admin import ACLResourcePatternType as Pattern
from kafka.admin import ResourceType as Resource

from streamal.bootstrap import build, edges, transports
from streamal.config import Config, load_config
from streamal.daemon.daemon import Daemon
from streamal.edge.kafka.acls import ROLES, Acl, acls
from streamal.edge.metrics import NullMeter
from streamal.errors import ConfigError, StreamalError
from streamal.ports import Log, scan
from tests.conftest import Cli
from tests.kafka_secured import GUEST, GUEST_PASSWORD, Secured
from tests.test_kafka_security import NUMBERS, SASL_PASSWORD

on_kafka = pytest.mark.kafka
EVENT = b'{"features": {"x": 1.0}}'
RESOURCES = {"topic": Resource.TOPIC, "group": Resource.GROUP, "transactional-id": Resource.TRANSACTIONAL_ID}


def permissions(config: Config, role: str) -> list[Acl]:
    """Return what *role* needs with the topics and the group of *config*."""
    return list(acls(config.topics.model_dump(), config.transport.group, role))


def test_the_commands_are_those_of_kafka(cli: Cli, directory: Path) -> None:
    """One command for each permission, for the principal given; --json has the same; a strange role ends with 2."""
    (directory / "config.toml").write_text('[transport]\ngroup = "shop"\n')
    told = cli("topics", "acls", "--principal", "User:ann").out.splitlines()
    assert told[0].startswith("# worker: ")
    assert len(told) - 1 == len(permissions(Config.model_validate({"transport": {"group": "shop"}}), "worker"))
    assert all(" --allow-principal User:ann " in line for line in told[1:])
    assert told[-1].endswith("--operation Write --transactional-id shop- --resource-pattern-type prefixed")
    assert any("--operation DescribeConfigs --topic streamal.events" in line for line in told)
    shown = json.loads(cli("topics", "acls", *(f"--role={role}" for role in ROLES), "--json").out)
    assert shown.keys() == ROLES.keys()
    assert shown["producer"] == {
        "principal": "User:streamal-producer",
        "acls": [{"operation": "WRITE", "resource": "topic", "name": "streamal.events", "prefixed": False}],
    }
    assert cli("topics", "acls", "--role", "king").code == 2


class Guest:
    """A principal without any permission, and who gives and takes them."""

    def __init__(self, guarded: Secured, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory, self._patch = directory, monkeypatch
        name = f"a{next(NUMBERS)}"
        roles = ("events", "labels", "predictions", "requests", "training", "dead_letters")
        text = (
            f'[transport]\nkind = "kafka"\ngroup = "{name}"\nconnect_timeout_s = 15\n'
            "[server]\nenabled = false\n[snapshots]\ndirectory = ''\n[budget]\nshare = 1\n[topics]\n"
            + "\n".join(f'{role} = "{name}.{role}"' for role in roles)
        )
        (directory / "config.toml").write_text(text)
        monkeypatch.setenv(SASL_PASSWORD, GUEST_PASSWORD)
        security = {
            "protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": GUEST, "ssl_cafile": str(guarded.ca)
        }  # fmt: skip
        inline = "{" + ", ".join(f'{key} = "{value}"' for key, value in security.items()) + "}"
        self.config = load_config(
            directory / "config.toml",
            [f"transport.bootstrap_servers={guarded.sasl}", f"transport.security={inline}"],
        )
        monkeypatch.delenv(SASL_PASSWORD)
        self.master = load_config(
            directory / "config.toml", [f"transport.bootstrap_servers={guarded.cluster.bootstrap}"]
        )
        self.admin = KafkaAdminClient(bootstrap_servers=guarded.cluster.bootstrap)

    def grant(self, granted: list[Acl]) -> None:
        """Take everything away, then grant these alone, and wait until the broker knows."""
        everything = ACLFilter(
            f"User:{GUEST}", "*", ACLOperation.ANY, ACLPermissionType.ANY,
            ResourcePatternFilter(Resource.ANY, None, Pattern.ANY),
        )  # fmt: skip
        self.admin.delete_acls([everything])
        wanted = [
            ACL(
                f"User:{GUEST}",
                "*",
                ACLOperation[acl.operation],
                ACLPermissionType.ALLOW,
                ResourcePattern(
                    RESOURCES[acl.resource], acl.name, Pattern.PREFIXED if acl.prefixed else Pattern.LITERAL
                ),
            )
            for acl in granted
        ]
        self.admin.create_acls(wanted)
        deadline = time.monotonic() + 10
        while len(self.admin.describe_acls(everything)[0]) != len(wanted):
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture
def guest(guarded: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guest]:
    """The guest, with topics made by somebody else."""
    made = Guest(guarded, tmp_path, monkeypatch)
    transports.create_topics(made.master)
    yield made
    made.admin.close()


def work(guest: Guest, patience_s: float = 15.0) -> None:
    """Be a worker until an event is predicted and asked about, a reply trained, and something dead-lettered."""
    topics, config = guest.config.topics, guest.config
    with contextlib.closing(transports.open_log(guest.master)) as log:
        for value in (EVENT, b"no JSON"):
            log.append(topics.events, 0, None, value)
        before = {topic: log.end(topic, 0) for topic in (topics.training, topics.dead_letters)}
        transport = transports.open_transport(config)
        try:
            parts = build(config)
            daemon = Daemon(
                parts.settings, parts.new_fold, transport, None, edges.WallClock(), NullMeter(),
                structlog.get_logger(),
            )  # fmt: skip
            daemon.start()
            tick_until(daemon, lambda: log.end(topics.requests, 0) > 0, patience_s)
            asked = next(iter(scan(log, topics.requests, 0)))
            assert asked.key is not None
            reply = json.dumps({"request": asked.key.decode(), "label": "a"}).encode()
            log.append(topics.labels, 0, None, reply)
            tick_until(daemon, lambda: all(log.end(topic, 0) > end for topic, end in before.items()), patience_s)
        finally:
            transport.close()


def tick_until(daemon: Daemon, done: Callable[[], bool], patience_s: float) -> None:
    """Tick, and fail as a worker does that has tried for long enough."""
    deadline = time.monotonic() + patience_s
    while not done():
        if time.monotonic() > deadline:
            raise ConfigError("it went on for long, and did not get anywhere")
        daemon.tick()


@on_kafka
def test_a_worker_works_with_just_its_permissions(guest: Guest) -> None:
    """Predicts, asks, trains and dead-letters; a worker's permissions do not let it make topics."""
    guest.grant(permissions(guest.config, "worker"))
    work(guest)
    with pytest.raises(StreamalError, match=r"no permission|cannot"):
        transports.create_topics(
            guest.config.model_copy(update={"topics": guest.config.topics.model_copy(update={"events": "more"})})
        )


def without(guest: Guest, role: str, number: int) -> None:
    needed = permissions(guest.config, role)
    guest.grant([acl for i, acl in enumerate(needed) if i != number])


COUNT = len(permissions(Config(), "worker"))


@on_kafka
@pytest.mark.parametrize("number", [0, COUNT - 1])
def test_a_worker_misses_what_is_taken_away(guest: Guest, number: int) -> None:
    """Without the first and without the last of them it fails; without each, in the slow test."""
    without(guest, "worker", number)
    with pytest.raises(StreamalError):
        work(guest, 5.0)


@on_kafka
@pytest.mark.slow
@pytest.mark.parametrize(
    "number", range(COUNT), ids=lambda n: "-".join(map(str, permissions(Config(), "worker")[n][:3]))
)
def test_a_worker_misses_each_permission(guest: Guest, number: int) -> None:
    """Whichever is taken away, it fails: the list is the least."""
    without(guest, "worker", number)
    with pytest.raises(StreamalError):
        work(guest, 5.0)


def read_all(log: Log, config: Config) -> None:
    for topic in config.topics.model_dump().values():
        list(scan(log, topic, 0))
    log.committed(config.transport.group)


def produce(log: Log, config: Config) -> None:
    log.append(config.topics.events, 0, None, EVENT)


def answer(log: Log, config: Config) -> None:
    for topic in (config.topics.requests, config.topics.training, config.topics.labels):
        list(scan(log, topic, 0))
    log.append(config.topics.labels, 0, None, b'{"request": "0-0", "label": "a"}')


@on_kafka
@pytest.mark.parametrize(
    ("role", "job"), [("producer", produce), ("annotator", answer), ("reader", read_all)], ids=lambda x: str(x)[:12]
)
def test_the_other_roles(guest: Guest, role: str, job: Callable[[Log, Config], None]) -> None:
    """Each does its job with just its permissions, and not without the last of them."""
    with contextlib.closing(transports.open_log(guest.master)) as log:
        for topic in guest.config.topics.model_dump().values():
            log.append(topic, 0, b"0-0", EVENT)
    needed = permissions(guest.config, role)
    guest.grant(needed)
    with contextlib.closing(transports.open_log(guest.config)) as log:
        job(log, guest.config)
    guest.grant(needed[:-1])
    with contextlib.closing(transports.open_log(guest.config)) as log, pytest.raises(StreamalError):
        job(log, guest.config)


@on_kafka
def test_an_admin_makes_topics(guarded: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`topics create` and the comparison of `check` need no more than the admin's permissions."""
    guest = Guest(guarded, tmp_path, monkeypatch)
    guest.grant(permissions(guest.config, "admin"))
    assert len(transports.create_topics(guest.config)) == 6
    assert transports.topic_problems(guest.config) == []
    guest.admin.close()
