"""Every shell block of README and docs is run: here, by another test that is named, or it is said why it cannot be."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme

from streamal.bootstrap import transports
from streamal.config import load_config
from tests.block_world import collector, run, streams
from tests.conftest import Ended
from tests.documents import README, ROOT
from tests.kafka_broker import Cluster
from tests.kafka_secured import PASSWORD, Secured
from tests.label_world import LabelWorld
from tests.prometheus_tools import free_port, tool
from tests.test_kafka_security import configured, login
from tests.test_site import BLOCKS, DOCS, named

NOT_HERE = {
    "docker compose up": "no container engine; the compose file is held to its schema by test_docker.py",
    "docker build": "no container engine; the Dockerfile's steps are run by test_docker.py",
    "kubectl apply": "no cluster; the manifests are held to the code by test_docker.py",
    "kafka-transactions.sh": "Kafka's scripts do not come with its jars, and the block has names to be filled in",
}
"""What stands in a block that cannot be run on a machine without Docker and Kubernetes -> why."""

ELSEWHERE = {
    ".venv/bin/streamal demo": "tests/test_demo.py, in an environment that is there",
    "streamal-demo/config.toml": "tests/test_demo.py, in the directory that the demo leaves",
    ".venv/bin/pytest": ".ci/run, as it is written",
    "streamal skip ": "tests/test_kafka_skip.py, at a batch that a test has damaged",
    "streamal quarantine ": "tests/test_poison.py, at an example that kills its model",
}
"""What stands in a block that is run elsewhere -> where."""

RUN_HERE: set[tuple[str, str]] = set()
"""(page, what stands in the block) of those that the tests below run: see `block`."""

QUICK = "[server]\nport = 0\n[label_page]\nport = 0\n"
FEW = " --limit 100 --linger 1"
BRIEF = " --trials 2 --seeds 1 --families logistic"


def here(page: str, piece: str) -> tuple[str, str]:
    """Note that a test of this file runs that block."""
    RUN_HERE.add((page, piece))
    return page, piece


def block(page: str, piece: str) -> str:
    """Return the one block on *page* with *piece* in it."""
    assert (page, piece) in RUN_HERE
    (found,) = (text for path, _, text in BLOCKS if named(path) == page and piece in text)
    return found


def well(ended: Ended) -> Ended:
    """Return how it ended, which is well."""
    assert ended.code == 0, ended.out + ended.err
    assert "Traceback" not in ended.err
    return ended


def written(place: Path, text: str = QUICK) -> Path:
    """Write the configuration and the streams of a block."""
    (place / "config.toml").write_text(text)
    streams(place)
    return place


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    """Return the block with something else in it, which has to have been there."""
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


def test_every_block_is_run_or_it_is_said_why_not() -> None:
    """Each is run here, by test_site.py (marker "run"), or elsewhere, or it cannot be; no entry is left over."""
    tables = {**NOT_HERE, **ELSEWHERE}
    used = set()
    for page, how, text in BLOCKS:
        pieces = [piece for piece in tables if piece in text]
        ours = [key for key in RUN_HERE if key[0] == named(page) and key[1] in text]
        assert len(pieces) + len(ours) + (how == "run") == 1, f"{named(page)}: {text}"
        used |= {*pieces, *ours}
    assert used == {*tables, *RUN_HERE}


LOOK = here("docs/replay.md", "streamal look noaa")


def test_files_are_looked_at(tmp_path: Path) -> None:
    """Small streams of the same columns; what is written leaves out the columns that tell the future."""
    out = well(run(block(*LOOK), written(tmp_path))).out
    assert "The configuration to begin with" in out
    assert "outcome" not in load_config(tmp_path / "config.toml").features.declared


REPLAY, PERMISSIONS = here("docs/replay.md", "streamal replay noaa"), here("docs/security.md", "topics acls")


@pytest.mark.slow
def test_streams_are_replayed(tmp_path: Path) -> None:
    """Three streams, each under its budget; here two of them are small."""
    out = well(run(block(*REPLAY), written(tmp_path))).out
    assert out.count("estimated accuracy") == 3
    assert "river:Phishing, budget 0.05" in out


def test_permissions_are_printed(tmp_path: Path) -> None:
    """As commands, and as JSON."""
    out = well(run(block(*PERMISSIONS), written(tmp_path))).out
    assert "--allow-principal User:streamal" in out
    assert out.rstrip().endswith(("]", "}"))


STUDIES = [
    (
        here("docs/tuning.md", "streamal compare"),
        [("--seeds 5", "--seeds 1 --limit 100"), ("quantile", "quantile --seeds 1 --limit 100")],
        ["elec.html"],
    ),
    (
        here("docs/tuning.md", "streamal tune"),
        [("noaa.html", "noaa.html" + BRIEF), ("--budget 0.05", "--budget 0.05" + BRIEF)],
        ["config.toml", "noaa.html"],
    ),
]
"""(block, what is put in for what, what it leaves): streams and searches are small here."""


@pytest.mark.slow
@pytest.mark.parametrize(("key", "pairs", "leaves"), STUDIES, ids=[": ".join(key) for key, *_ in STUDIES])
def test_a_study_runs(key: tuple[str, str], pairs: list[tuple[str, str]], leaves: list[str], tmp_path: Path) -> None:
    """Its figures are of the true accuracy, its files are there; settings that were found are a configuration."""
    streams(tmp_path)
    assert "accuracy" in well(run(replaced(block(*key), *pairs), tmp_path)).out
    assert all((tmp_path / name).stat().st_size for name in leaves)
    if "config.toml" in leaves:
        load_config(tmp_path / "config.toml")


DAEMON, BUDGETS = here("README.md", "streamal simulate"), here("docs/budgets.md", "streamal report")


def test_a_daemon_works_and_what_the_budget_has_bought_is_reported(tmp_path: Path) -> None:
    """With the README's configuration: checked, fed, looked at, ended with 0; then report and status."""
    (toml,) = re.findall(r"```toml\n(.*?)```", README.read_text(), flags=re.DOTALL)
    written(tmp_path, toml + QUICK)
    few = [("../streamal-demo/mails", "mails"), ("--delay 2", "--delay 0.2" + FEW)]
    assert "requests" in well(run(replaced(block(*DAEMON), *few), tmp_path)).out
    report, _, status = well(run(block(*BUDGETS), tmp_path)).out.partition("\n{")
    assert "label" in report
    assert json.loads("{" + status)


SERVED, TOKENS = here("docs/labelling.md", "streamal label   "), here("docs/labelling.md", "TOKENS")


def test_the_label_page_is_served(tmp_path: Path) -> None:
    """Daemon and page run side by side, and end with 0; what pip is to install is an extra of ours."""
    well(run(block(*SERVED), written(tmp_path)))


@pytest.mark.slow
def test_the_label_page_serves_others(tmp_path: Path) -> None:
    """With tokens of sixteen characters for the dots; the topics are there."""
    LabelWorld(tmp_path)
    well(run(replaced(block(*TOKENS), ('"…", "bob": "…"', f'"{"a" * 16}", "bob": "{"b" * 16}"')), tmp_path))
    assert "http://0.0.0.0:" in (tmp_path / "service-0.log").read_text()


REST = here("docs/labelling.md", "curl")


def test_requests_are_listed_and_answered_with_curl(tmp_path: Path) -> None:
    """What the block answers is on the topic `labels`; only the request's coordinates are others."""
    needs("curl")
    world = LabelWorld(tmp_path)
    (request,) = world.ask([{"text": "cheap pills"}])
    with world.page() as page:
        (tmp_path / ".curlrc").write_text(
            f'connect-to = "localhost:8800:{page.url.removeprefix("http://").rstrip("/")}"\n'
        )
        ended = well(run(replaced(block(*REST), ("0-1845", request)), tmp_path))
    assert "cheap pills" in ended.out
    assert [(reply["request"], reply["label"], reply["annotator"]) for reply in world.replies()] == [
        (request, "spam", "script")
    ], ended.out


SPANS = here("docs/logs.md", "OTEL_SERVICE_NAME")


def test_spans_reach_a_collector(tmp_path: Path) -> None:
    """Where the block says that they go, they arrive."""
    world = LabelWorld(tmp_path)
    log = transports.open_log(world.config)
    log.append("streamal.events", 0, None, b'{"features": {"text": "cheap pills"}}')
    log.close()
    with collector() as (url, posted):
        well(run(replaced(block(*SPANS), ("http://collector:4318", url)), tmp_path))
    assert "/v1/traces" in posted


RULES = here("docs/monitoring.md", "promtool")


def test_promtool_accepts_the_rules(tmp_path: Path) -> None:
    """In a clone, the block finds the file and nothing wrong in it."""
    tool("promtool")
    assert "SUCCESS" in well(run(block(*RULES), tmp_path, cwd=ROOT)).out


ADMIN = here("docs/security.md", "STREAMAL_SERVER__TOKEN=")


def test_metrics_come_over_tls_for_whoever_has_the_token(tmp_path: Path) -> None:
    """With the configuration of the page itself; the certificate is the test's, `worker` is this machine."""
    needs("curl")
    (toml,) = re.findall(r"```toml\n(\[server\]\n.*?)```", (DOCS / "security.md").read_text(), flags=re.DOTALL)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate = authority.issue_cert("worker")
    certificate.private_key_pem.write_to_path(tmp_path / "tls.key")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "tls.crt")
    port = free_port()
    written(tmp_path, f"{toml}port = {port}\n")
    (tmp_path / "token").write_text("a-token-for-scraping\n")
    curl = f'connect-to = "worker:9464:127.0.0.1:{port}"\ncacert = "{tmp_path / "ca.pem"}"\nfail\n'
    (tmp_path / ".curlrc").write_text(curl)
    ended = well(run(replaced(block(*ADMIN), ("/run/secrets/token", str(tmp_path / "token"))), tmp_path))
    assert "streamal_events_total" in ended.out


LOCK = here("docs/containers.md", "uv pip compile")


@pytest.mark.slow
def test_the_lock_file_is_made_anew(tmp_path: Path) -> None:
    """From pyproject.toml and what was locked comes the same again: nothing is missing in it. Asks the registry."""
    needs("uv")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "docker").mkdir()
    shutil.copy(ROOT / "docker/requirements.lock", tmp_path / "docker")
    well(run(block(*LOCK), tmp_path))
    assert (tmp_path / "docker/requirements.lock").read_text() == (ROOT / "docker/requirements.lock").read_text()


TOPICS, WORKERS = here("docs/kafka.md", "topics create"), here("docs/scaling.md", "--workers 4")


def on_kafka(kafka: Cluster, place: Path) -> None:
    """Write a configuration with topics of its own, of four partitions."""
    path = configured(place, kafka.bootstrap, "")
    text = path.read_text().replace("enabled = false", "port = 0")
    path.write_text(text.replace("[transport]\n", "[transport]\npartitions = 4\n"))


@pytest.mark.kafka
@pytest.mark.slow
def test_topics_are_made_and_checked_and_a_worker_runs(kafka: Cluster, tmp_path: Path) -> None:
    """The check finds nothing to complain of in what was made; the worker ends with 0 on SIGTERM."""
    on_kafka(kafka, tmp_path)
    assert "events" in well(run(block(*TOPICS), tmp_path)).out


@pytest.mark.kafka
@pytest.mark.slow
def test_four_workers_share_the_partitions(kafka: Cluster, tmp_path: Path) -> None:
    """Each has its own instance, and something to do; SIGTERM to the head ends all of them with 0."""
    on_kafka(kafka, tmp_path)
    well(run(f"streamal topics create\n{block(*WORKERS)}", tmp_path))
    said = [json.loads(line) for line in (tmp_path / "service-0.log").read_text().splitlines()]
    assert len({line["instance"] for line in said if line["event"] == "assigned" and line["partitions"]}) == 4
    assert (said[-1]["event"], set(said[-1]["codes"].values())) == ("stopped", {0})


LOGIN = here("docs/security.md", "SASL_PASSWORD=")


@pytest.mark.kafka
@pytest.mark.slow
def test_a_worker_logs_in_with_a_secret_from_a_file(guarded: Secured, tmp_path: Path) -> None:
    """As in the block before it on the page: over TLS, by SCRAM-SHA-512; the worker ends with 0."""
    (tmp_path / "kafka").write_text(f"{PASSWORD}\n")
    text = replaced(block(*LOGIN), ("/run/secrets/kafka", str(tmp_path / "kafka")))
    configured(tmp_path, guarded.sasl, login("SCRAM-SHA-512", guarded))
    variable, _, _ = text.partition(" streamal")
    well(run(f"{variable} streamal topics create\n{text}", tmp_path))


PYTHON = re.compile(r"```python(?: title=\"(\w+\.py)\")?\n(.*?)```", flags=re.DOTALL)
OWN_STRATEGY, OWN_MODEL = here("docs/extending.md", "my_strategy"), here("docs/extending.md", "my_models")


def test_the_python_api_does_what_its_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The blocks run one after the other, as in a notebook."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    for _, code in PYTHON.findall((DOCS / "python-api.md").read_text()):
        exec(code, namespace)
    out = capsys.readouterr().out
    assert "labels" in out
    assert "[model]" in out
    assert len(namespace["frame"]) == len(namespace["tuned"].runs)


@pytest.fixture
def extended(tmp_path: Path) -> str:
    """Write the Python of docs/extending.md under its names, and return the page."""
    page = (DOCS / "extending.md").read_text()
    for name, code in PYTHON.findall(page):
        (tmp_path / name).write_text(code)
    return page


@pytest.mark.parametrize("key", [OWN_STRATEGY, OWN_MODEL])
def test_what_is_ones_own_is_checked_and_replayed(key: tuple[str, str], extended: str, tmp_path: Path) -> None:
    """The strategy and the model of docs/extending.md pass the checks, and a replay works with them."""
    (toml,) = re.findall(r"```toml\n(.*?)```", extended, flags=re.DOTALL)
    written(tmp_path, toml if key == OWN_STRATEGY else "")
    assert "accuracy" in well(run(replaced(block(*key), ("--limit 700", "--limit 200")), tmp_path)).out


@pytest.mark.usefixtures("extended")
def test_a_transport_of_ones_own_is_run_from_python(tmp_path: Path) -> None:
    """The wrapped transport of docs/extending.md sees each output of a committed step."""
    written(tmp_path)
    ended = well(run(f'PYTHONPATH="$PYTHONPATH:." {sys.executable} my_daemon.py', tmp_path))
    assert '"streamal.predictions", 0, "{\\"event\\":\\"0-0\\"' in ended.out


EMBEDDED = here("docs/text-embeddings.md", "wordllama"), here("docs/image-vectors.md", "send_photos.py")


@pytest.mark.parametrize("key", [pytest.param(EMBEDDED[0], marks=pytest.mark.slow), EMBEDDED[1]])
def test_vectors_are_replayed(key: tuple[str, str], tmp_path: Path) -> None:
    """Texts by the model in the wheel and by the page's own function; photos by vectors that the producer sends."""
    page = (DOCS.parent / key[0]).read_text()
    for name, code in PYTHON.findall(page):
        (tmp_path / name).write_text(code)
    tables = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
    assert all(load_config(_toml(tmp_path, table), []) for table in tables)
    text = block(*key).replace("python send", f"{sys.executable} send")
    if "my_embedder" in page:
        text += "\n" + text.splitlines()[-1].replace('"wordllama"', '"my_embedder:embed"')
    outs = well(run(f'export PYTHONPATH="$PYTHONPATH:."\n{text}', written(tmp_path))).out
    assert outs.count("estimated accuracy") == text.count("streamal replay")


def _toml(place: Path, table: str) -> Path:
    path = place / "table.toml"
    path.write_text(table)
    return path


def needs(program: str) -> None:
    """Skip the test where that program is not installed."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def test_the_demo_is_begun_alike_everywhere() -> None:
    """The first command of the first ten minutes is the README's."""
    texts = {text for _, _, text in BLOCKS if ".venv/bin/streamal demo" in text}
    assert len(texts) == 1
    assert README.read_text().count(texts.pop()) == 1
