"""``streamal topics``: the six topics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamal.bootstrap import transports
from streamal.bootstrap.rules import topic_partitions
from streamal.cli.console import echo, echo_json
from streamal.cli.options import ConfigPath, Json, Overrides, show
from streamal.config import load_config
from streamal.edge.kafka import acls as permissions
from streamal.errors import ConfigError

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Make the topics; list the permissions on them.")


@app.command()
def create(
    replicas: Annotated[
        int | None, typer.Option("--replicas", min=1, help="Copies on Kafka; by default 3, or one on each broker.")
    ] = None,
    config: ConfigPath = Path("config.toml"),
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Make the topics that are missing, with the partitions, retention and compaction that the promises need.

    On Kafka events and predictions are kept for 7 days, labels and dead letters for 30, training for ever; the
    requests are compacted. Change the first four as you like; `streamal verify` judges what is left.
    Topics that are there stay as they are; `streamal check` says whether they will do.

    ```text
    streamal topics create --set transport.kind=kafka --set transport.bootstrap_servers=kafka:9092
    ```
    """
    loaded = load_config(config, overrides or ())
    made = set(transports.create_topics(loaded, replicas))
    wanted, settings = topic_partitions(loaded), transports.describe_topics(loaded)
    if as_json:
        figures = {
            topic: {"partitions": wanted[topic], "made": topic in made, "settings": settings[topic]} for topic in wanted
        }
        show("", figures, as_json)
        return
    show(
        transports.describe_transport(loaded),
        {topic: f"{'made' if topic in made else 'was there'}: {settings[topic]}" for topic in wanted},
        as_json,
    )


@app.command()
def acls(
    role: Annotated[
        list[str] | None,
        typer.Option("--role", help=f"One of {', '.join(permissions.ROLES)}; repeatable. By default the worker."),
    ] = None,
    principal: Annotated[
        str | None,
        typer.Option("--principal", help="Whom to grant it, as Kafka writes it; by default User:streamal-ROLE."),
    ] = None,
    config: ConfigPath = Path("config.toml"),
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Print the least permissions that a role works with, as commands of Kafka's own tool; changes nothing.

    Whoever administers the cluster runs them. `admin` alone may make topics, so nobody else needs to.

    ```text
    streamal topics acls --role worker --principal User:streamal
    streamal topics acls --role producer --role annotator --role reader --json
    ```
    """
    loaded = load_config(config, overrides or ())
    roles = role or ["worker"]
    if strange := [name for name in roles if name not in permissions.ROLES]:
        raise ConfigError(f"--role {strange[0]!r}: choose among {', '.join(permissions.ROLES)}")
    found = {
        name: permissions.acls(loaded.topics.model_dump(), loaded.transport.group, name)
        for name in dict.fromkeys(roles)
    }
    whom = {name: principal or f"User:streamal-{name}" for name in found}
    if as_json:
        echo_json({name: {"principal": whom[name], "acls": [acl._asdict() for acl in found[name]]} for name in found})
        return
    for name, each in found.items():
        echo(f"# {name}: {permissions.ROLES[name]}")
        for acl in each:
            echo(permissions.command(acl, whom[name], loaded.transport.bootstrap_servers))
