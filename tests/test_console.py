"""Text of records in the terminal: whatever somebody has written, it is text (F70)."""

from __future__ import annotations

import csv
import io
import json
import logging
import unicodedata
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.table import Table

from streamal.cli import console
from streamal.cli.logs import set_up_logs
from streamal.cli.options import show
from streamal.config import LogConfig
from streamal.core.codec.dead_letters import dead_letter
from streamal.core.codec.events import encode
from streamal.core.records import Abstention, Example, Lane, Reason, Refusal
from streamal.edge.http import AdminServer, Page
from streamal.edge.sqlite import SqliteLog
from tests.conftest import Cli, Ended
from tests.making import make_request

ATOMS = (
    "[/b]", "[spam]", "[bold red]x[/]", "[/kim]", "[link=file:///x]", "[", "\\[", ":smile:", "\x1b[2J", "\x1b]0;x\x07",
    "\x9b31m", "\r", "\n", "\t", "\x00", "\u202e", "\u2066", "\u2028", "\u200b", "\ufeff", "é", "名", "🙂", "a",
)  # fmt: skip
NAMES = st.lists(st.sampled_from(ATOMS), max_size=6).map(lambda atoms: f"a{''.join(atoms)}z")
"""Spaces around a label do not count: so none stand there."""
KINDS = st.text(min_size=1, max_size=12) | NAMES
TERMINAL_OBEYS = {"Cc", "Cf", "Cs", "Zl", "Zp"}
some = settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])


def assert_plain(ended: Ended, *shown: str) -> None:
    """Only text was printed, no line is a traceback, and each of *shown* is there as it is."""
    printed = ended.out + ended.err
    found = {c for c in printed if unicodedata.category(c) in TERMINAL_OBEYS} - {"\n", "\N{ZERO WIDTH JOINER}"}
    assert not found - {"\N{ZERO WIDTH NON-JOINER}"}, f"{found} in {printed!r}"
    assert "Traceback" not in printed
    joined = "".join(part.strip(" │") for part in printed.splitlines())
    for name in shown:
        assert "".join(console.plain(name).split()) in "".join(joined.split()), printed


def write_topics(name: str) -> None:
    """Make the topics anew: a request, examples, an abstention and a dead letter, with *name* wherever one fits."""
    for path in Path().glob("streamal.db*"):
        path.unlink()
    log = SqliteLog("streamal.db", create=True)
    for topic in ("events", "labels", "predictions", "requests", "training", "dead-letters"):
        log.create(f"streamal.{topic}", 1)
    fields = {"propensity": 0.5, "lane": Lane.AUDIT, "asked_at": 1.0, "at": 2.0}
    features = {name: name, "n": 1.0}
    for offset, label in enumerate((name, "b", name, "b")):
        example = Example(f"0-{offset}", label, features, "b", annotator=name, id=name, reply=name, **fields)  # type: ignore[arg-type]
        log.append("streamal.training", 0, None, encode(example))
    log.append("streamal.training", 0, None, encode(Abstention("0-4", annotator=name, **fields)))  # type: ignore[arg-type]
    for offset in range(6):
        request = make_request(offset, asked_at=1.0, ttl_s=1e12)
        request = msgspec.structs.replace(
            request, features=features, label=name, probabilities={name: 0.75, "b": 0.25}, id=name
        )
        log.append("streamal.requests", 0, request.request.encode(), encode(request))
        log.append("streamal.events", 0, None, b'{"features": {"n": 1}}')
    letter = dead_letter("streamal.events", 0, 5, name.encode(), Refusal(Reason.FEATURE_NAME, name), 1.0)
    log.append("streamal.dead-letters", 0, None, letter)
    log.close()


def write_config(name: str) -> None:
    """Declare *name* as a class and as a feature, without NUL: a configuration with one is refused."""
    name = name.replace("\x00", "")
    classes, feature = (json.dumps(value, ensure_ascii=False) for value in ([name, "b"], name))
    Path("config.toml").write_text(
        f"[labels]\nclasses = {classes}\n[features.declared]\n{feature} = 'string'\nn = 'number'\n"
    )


def test_a_configuration_is_shown_as_text(cli: Cli, directory: Path) -> None:
    """`check`: the names of features and paths."""
    name = "".join(ATOMS)
    write_config(name)
    ended = cli("check")
    assert ended.code == 0, ended.err
    assert_plain(ended, name.replace("\x00", ""))


@some
@given(name=NAMES)
def test_the_topics_are_shown_as_text(cli: Cli, directory: Path, name: str) -> None:
    """status, report, verify, check, answer and import of a file, with a name in every field that holds one."""
    write_config(name)
    write_topics(name)
    status = cli("status")
    assert status.code == 0
    assert_plain(status, name)
    report = cli("report")
    assert report.code == 0
    assert_plain(report, f"{name} 5")
    assert_plain(cli("verify", "--no-rederive"))
    assert_plain(cli("answer", "-a", name))
    (directory / "answers.jsonl").write_text(json.dumps({"request": name, "label": name, "annotator": name}))
    assert_plain(cli("import", "answers.jsonl"))


@some
@given(name=KINDS.filter(lambda name: "/" not in name and "\0" not in name and len(name.encode(errors="ignore")) > 0))
def test_wrong_names_are_refused_as_text(cli: Cli, directory: Path, name: str) -> None:
    """A path, a class, a strategy, a stream and a column of any name: the one line of the error is text."""
    name = name.encode(errors="ignore").decode()
    (directory / "config.toml").write_text("")
    calls = [
        ("status", "--set", f"transport.path={json.dumps(name)}"),
        ("check", "--set", f"sampling.strategy={json.dumps(name)}"),
        ("report", f"--since={name}"),
        ("replay", "--label", name, "--", f"{name}.csv"),
        ("import", "--", f"{name}.jsonl"),
        ("topics", "acls", f"--role={name}"),
        ("top", "--once", f"--url={name}"),
        ("dashboards", "build", f"--out=missing/{name}"),
    ]
    for arguments in calls:
        ended = cli(*arguments)
        assert ended.code == 2, arguments
        assert_plain(ended)


@pytest.mark.parametrize("name", ["[/b]:smile:", "[spam]\x1b[2J\u202e"])
def test_a_recorded_stream_is_shown_as_text(cli: Cli, directory: Path, name: str) -> None:
    """Columns, values, labels and the name of the file."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["label", "n", name])
    writer.writerows([name if n % 2 else "b", n, name] for n in range(20))
    stream = directory / f"{name.replace('/', '|')}.csv"
    stream.write_text(file.getvalue())
    for command in ("replay", "compare"):
        one = ("--seeds", "1", "--budgets", "0.5", "--strategies", "random", "--cache=", "--workers", "1")
        more = one if command == "compare" else ()
        ended = cli(command, stream.name, "--label", "label", *more)
        assert ended.code == 0, ended.err
        assert_plain(ended, stream.name)


def test_the_metrics_of_another_program_are_shown_as_text(cli: Cli, directory: Path) -> None:
    """`top`: a label of a series is whatever the admin port says."""
    lines = b'streamal_dead_letters_total{reason="[/b]"} 3\nstreamal_dead_letters_total{reason="[spam]\x1b[2J"} 4\n'
    server = AdminServer("127.0.0.1", 0, {"/metrics": lambda _: Page(200, "text/plain", lines)})
    url = f"http://127.0.0.1:{server.start()}/metrics"
    try:
        ended = cli("top", "--once", "--url", url)
    finally:
        server.stop()
    assert ended.code == 0, ended.err
    assert_plain(ended, "[/b]", "[spam]\x1b[2J")


def test_the_advice_keeps_its_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    """The extra to install is a part of the sentence."""
    console.render(_table("pip install 'streamal[confluent]'"))
    assert "streamal[confluent]" in capsys.readouterr().out


def test_data_is_text_on_a_terminal_and_itself_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """An export keeps each character of a feature, but does not change the terminal that shows it."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stdout, shown in ((Terminal(), "a\\x1b[2J,é\n"), (io.StringIO(), "a\x1b[2J,é\r\n")):
        monkeypatch.setattr("sys.stdout", stdout)
        csv.writer(console.data_stream()).writerow(["a\x1b[2J", "é"])
        assert stdout.getvalue() == shown


def test_nothing_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """A value that is wider than the terminal, such as a checksum, goes on in the next line."""
    show("title", {"sum": "x" * 300}, as_json=False)
    assert capsys.readouterr().out.count("x") == 300


def _table(cell: str) -> Table:

    table = Table("[head]", title="[title]")
    table.add_row(cell)
    return table


@pytest.mark.parametrize("show", [console.plain, console.plain_block])
@given(name=st.text() | NAMES)
def test_plain_text_says_what_was_there(show: Callable[[object], str], name: str) -> None:
    """Nothing that a terminal obeys is left, printable text stays as it is, and the escape tells what it was."""
    shown = show(name)
    allowed = (
        {"\n", "\t", "\N{ZERO WIDTH JOINER}", "\N{ZERO WIDTH NON-JOINER}"} if show is console.plain_block else set()
    )
    assert not {c for c in shown if unicodedata.category(c) in TERMINAL_OBEYS} - allowed
    if "\\" not in name and show is console.plain:
        assert shown.encode("utf-8").decode("utf-8").count("\\") == sum(
            unicodedata.category(c) in TERMINAL_OBEYS for c in name
        )


def test_a_log_in_columns_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Values and tracebacks, ours and a library's; and no local variable, which may be a payload."""
    before = logging.getLogger().handlers[:]
    secret = "payload"  # a local variable, of which a traceback tells nothing
    try:
        set_up_logs(LogConfig(format="console"))
        structlog.get_logger().info("started", name="[/b]\x1b[2J\nforged=1")
        try:
            raise ValueError("[/b]\x1b[2J\u202e")
        except ValueError:
            structlog.get_logger().exception("failed")
            logging.getLogger("lib").exception("cannot %s", "\x1b[2J")
    finally:
        logging.getLogger().handlers[:] = before
        structlog.reset_defaults()
    shown = capsys.readouterr().err
    assert "[/b]" in shown
    assert "\\nforged=1" in shown
    assert shown.count("ValueError: [/b]\\x1b[2J\\u202e") == 2
    assert "\x1b[2J" not in shown
    assert "\u202e" not in shown
    assert secret not in shown.replace("secret = ", "")
