"""Getting into a guarded cluster, and being kept out of it: what a person sees; no secret is among it (F52)."""

from __future__ import annotations

import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import pytest

from streamal.bootstrap import transports
from streamal.config import load_config
from streamal.core.records import OffsetAndMetadata, OutputRecord, TopicPartition
from tests.conftest import Cli, Ended, environment
from tests.kafka_secured import GUEST, GUEST_PASSWORD, KEY_PASSWORD, PASSWORD, USER, Secured
from tests.kafka_world import take

pytestmark = pytest.mark.kafka

SASL_PASSWORD = "STREAMAL_TRANSPORT__SECURITY__SASL_PASSWORD"
SSL_KEY_PASSWORD = "STREAMAL_TRANSPORT__SECURITY__SSL_KEY_PASSWORD"
SECRETS = (PASSWORD, GUEST_PASSWORD, KEY_PASSWORD, "wrong-secret")
NUMBERS = count()
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


def login(mechanism: str, guarded: Secured, user: str = USER, ca: Path | None = None) -> str:
    """Return how to log in with a password, as it stands in config.toml."""
    return (
        f'protocol = "SASL_SSL", sasl_mechanism = "{mechanism}", sasl_username = "{user}", '
        f'ssl_cafile = "{ca or guarded.ca}"'
    )


def certificate(guarded: Secured, key: Path) -> str:
    """Likewise with a certificate."""
    files = {"ssl_cafile": guarded.ca, "ssl_certfile": guarded.certificate, "ssl_keyfile": key}
    return 'protocol = "SSL", ' + ", ".join(f'{name} = "{path}"' for name, path in files.items())


def configured(directory: Path, bootstrap: str, security: str) -> Path:
    """Write a configuration with topics of its own."""
    name = f"s{time.monotonic_ns()}"  # other files use this module under another name
    roles = ("events", "labels", "predictions", "requests", "training", "dead_letters")
    path = directory / "config.toml"
    path.write_text(
        f'[transport]\nkind = "kafka"\nbootstrap_servers = "{bootstrap}"\ngroup = "{name}"\nconnect_timeout_s = 45\n'
        f"security = {{ {security} }}\n[server]\nenabled = false\n[topics]\n"
        + "\n".join(f'{role} = "{name}.{role}"' for role in roles)
    )
    return path


WAYS = [*MECHANISMS, "certificate", "certificate and locked key"]
BOTH = [*((way, "kafka-python") for way in WAYS), ("SCRAM-SHA-512", "confluent"), (WAYS[-1], "confluent")]


@pytest.mark.parametrize(("way", "client"), BOTH)
def test_each_way_in_leads_to_a_transaction(
    guarded: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, client: str
) -> None:
    """Topics are made, a record is appended, polled, copied in a transaction and read."""
    monkeypatch.setenv(SASL_PASSWORD, PASSWORD)
    monkeypatch.setenv(SSL_KEY_PASSWORD, KEY_PASSWORD)
    if way in MECHANISMS:
        path = configured(tmp_path, guarded.sasl, login(way, guarded))
    else:
        key = guarded.locked_key if "locked" in way else guarded.key
        path = configured(tmp_path, guarded.tls, certificate(guarded, key))
    config = load_config(path, [f'transport.client="{client}"'])
    topics = config.topics
    assert len(transports.create_topics(config)) == 6
    worker = transports.open_transport(config)
    try:
        worker.append(topics.events, 0, None, b"x")
        found = take(worker, topics.events, 1)
        done = {TopicPartition(topics.events, 0): OffsetAndMetadata(1, "")}
        worker.commit([OutputRecord(topics.predictions, 0, None, found[0].value)], done)
        assert [record.value for record in worker.read(topics.predictions, 0, 0, 9)] == [b"x"]
        assert worker.committed(config.transport.group) == done
    finally:
        worker.close()


def test_the_daemon_works_there_and_keeps_the_secret(guarded: Secured, tmp_path: Path) -> None:
    """`topics create`, `check` and `run` over SASL_SSL: an event is predicted, and nothing printed has the password."""
    path = configured(tmp_path, guarded.sasl, login("SCRAM-SHA-512", guarded))
    secret = {SASL_PASSWORD: PASSWORD}
    told = []
    for arguments in (("topics", "create"), ("check",)):
        done = subprocess.run(
            [sys.executable, "-m", "streamal", *arguments],
            cwd=tmp_path,
            env=environment(**secret),
            capture_output=True,
            text=True,
            check=True,
        )
        told += [done.stdout, done.stderr]
    running = subprocess.Popen(
        [sys.executable, "-m", "streamal", "run", "--set", "log.level=debug"],
        cwd=tmp_path,
        env=environment(**secret),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(SASL_PASSWORD, PASSWORD)
            config = load_config(path)
        log = transports.open_log(config)
        log.append(config.topics.events, 0, None, b'{"features": {"x": 1}}')
        deadline = time.monotonic() + 120
        while log.end(config.topics.predictions, 0) == 0:
            assert time.monotonic() < deadline
            assert running.poll() is None
            time.sleep(0.1)
        log.close()
    finally:
        running.terminate()
        told.append(running.communicate(timeout=120)[0])
    assert running.returncode == 0, told[-1]
    assert '"assigned"' in told[-1]
    assert PASSWORD not in "".join(told)


LOCKED_OUT = "a wrong password"
KEPT_OUT = {
    LOCKED_OUT: ("PLAIN", "wrong-secret", USER, False, "check transport.security: user, password"),
    "a wrong password in SCRAM": ("SCRAM-SHA-512", "wrong-secret", USER, False, "check transport.security: user"),
    "an unknown user": ("SCRAM-SHA-256", PASSWORD, "nobody", False, "check transport.security: user"),
    "a foreign certificate authority": ("PLAIN", PASSWORD, USER, True, "check transport.security.ssl_cafile"),
    "no permission": ("SCRAM-SHA-256", GUEST_PASSWORD, GUEST, False, "no permission"),
}


@pytest.mark.parametrize(("command", "reason"), [*(("check", reason) for reason in KEPT_OUT), ("run", LOCKED_OUT)])
def test_who_is_kept_out_is_told_why(guarded: Secured, cli: Cli, directory: Path, command: str, reason: str) -> None:
    """It ends with 2 and one line that says what to look at; the password is not in it; `run` leaves out chatter."""
    mechanism, password, user, foreign, text = KEPT_OUT[reason]
    ca = guarded.other_ca if foreign else guarded.ca
    configured(directory, guarded.sasl, login(mechanism, guarded, user, ca))
    ended = cli(command, **{SASL_PASSWORD: password})
    require_refusal(ended, text)


@pytest.mark.parametrize("command", [("run",), ("topics", "create")])
def test_a_guest_may_neither_work_nor_make_topics(
    guarded: Secured, cli: Cli, directory: Path, command: tuple[str, ...]
) -> None:
    """Without permission `run` and `topics create` end with 2 and one line, too."""
    configured(directory, guarded.sasl, login("PLAIN", guarded, GUEST))
    require_refusal(cli(*command, **{SASL_PASSWORD: GUEST_PASSWORD}), "no permission")


@pytest.mark.parametrize("password", ["wrong-secret", ""])
def test_a_key_that_stays_locked_is_told(guarded: Secured, cli: Cli, directory: Path, password: str) -> None:
    """With a wrong password, and without one (where nobody is asked for it): exit 2, and the file is named."""
    configured(directory, guarded.tls, certificate(guarded, guarded.locked_key))
    secret = {SSL_KEY_PASSWORD: password} if password else {}
    require_refusal(cli("check", **secret), "locked.key")


def require_refusal(ended: Ended, text: str) -> None:
    """Fail unless it has ended with 2 and one line with that text and no secret."""
    assert ended.code == 2, ended
    assert text in ended.line
    assert not [secret for secret in SECRETS if secret in ended.out + ended.err]
