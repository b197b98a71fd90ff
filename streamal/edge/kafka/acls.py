"""The permissions that each role needs on a cluster, and no more.

A test grants each role these on a real broker, and shows that it fails when any one is missing. In Kafka READ, WRITE,
DELETE and ALTER include DESCRIBE, so DESCRIBE stands only where none of them does.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

__all__ = ["ROLES", "Acl", "acls", "command"]

Operation = Literal["READ", "WRITE", "CREATE", "DESCRIBE", "DESCRIBE_CONFIGS"]

ROLES: Mapping[str, str] = {
    "worker": "streamal run: predicts, asks, trains; any of them may be the trainer",
    "producer": "sends events; your program",
    "annotator": "answers requests: streamal label, streamal bridge, or your program",
    "reader": "streamal status, report, verify, export: reads everything, changes nothing",
    "admin": "streamal topics create, streamal check",
}
"""Role -> who that is."""


class Acl(NamedTuple):
    """One permission, to be granted to a role's principal, from any host.

    Attributes:
        prefixed: whether it holds for every resource whose name begins with *name*.
    """

    operation: Operation
    resource: Literal["topic", "group", "transactional-id", "cluster"]
    name: str
    prefixed: bool = False


def acls(topics: Mapping[str, str], group: str, role: str) -> Sequence[Acl]:
    """Return what *role*, a key of `ROLES`, needs; each entry is needed.

    Args:
        topics: the names of the six topics, by "events", "labels", "predictions", "requests", "training" and
            "dead_letters".
        group: the workers' group.
        role: whose permissions.
    """
    events, labels, requests, training = (topics[name] for name in ("events", "labels", "requests", "training"))
    every = topics.values()
    written = [topic for topic in every if topic not in {events, labels}]
    match role:
        case "worker":
            return [
                *(Acl("READ", "topic", topic) for topic in (events, labels)),
                *(Acl("READ", "topic", topic) for topic in (requests, training)),
                *(Acl("WRITE", "topic", topic) for topic in written),
                # at its start a worker compares the topics' settings with what the promises need
                *(Acl("DESCRIBE_CONFIGS", "topic", topic) for topic in every),
                Acl("READ", "group", group),
                Acl("WRITE", "transactional-id", f"{group}-", prefixed=True),
            ]
        case "producer":
            return [Acl("WRITE", "topic", events)]
        case "annotator":
            # training tells which requests are closed; labels, which replies the trainer has not seen yet
            return [
                *(Acl("READ", "topic", topic) for topic in (requests, training, labels)),
                Acl("WRITE", "topic", labels),
            ]
        case "reader":
            return [*(Acl("READ", "topic", topic) for topic in every), Acl("DESCRIBE", "group", group)]
        case "admin":
            return [
                *(Acl("CREATE", "topic", topic) for topic in every),
                *(Acl("DESCRIBE", "topic", topic) for topic in every),
                *(Acl("DESCRIBE_CONFIGS", "topic", topic) for topic in every),
            ]
        case _:
            raise AssertionError(f"{role!r} is not among {list(ROLES)}")


def command(acl: Acl, principal: str, bootstrap_servers: str) -> str:
    """Return the command that grants *acl*, for a shell.

    >>> print(command(Acl("WRITE", "transactional-id", "shop-", prefixed=True), "User:ann", "kafka:9092"))
    kafka-acls.sh --bootstrap-server kafka:9092 --add --allow-principal User:ann --operation Write \
--transactional-id shop- --resource-pattern-type prefixed
    """
    operation = acl.operation.title().replace("_C", "C")
    words = ["--bootstrap-server", bootstrap_servers, "--add", "--allow-principal", principal, "--operation", operation]
    words += ["--cluster"] if acl.resource == "cluster" else [f"--{acl.resource}", acl.name]
    words += ["--resource-pattern-type", "prefixed"] if acl.prefixed else []
    return f"kafka-acls.sh {shlex.join(words)}"
