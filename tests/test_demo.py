"""The demo: the whole job on real mails, in under two minutes, once for all these tests."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path

from tests.block_world import run
from tests.conftest import Cli, Ended
from tests.documents import ROOT

Demo = tuple[Path, Ended]
EVENTS = 5_403


def test_the_demo_ends_by_itself(demo: Demo) -> None:
    """It ends with 0 after less than two minutes of work."""
    _, ended = demo
    assert ended.code == 0, ended.err
    assert ended.cpu_seconds < 120


def test_the_demo_prints_one_json_object(demo: Demo) -> None:
    """With --json standard output is one JSON object; progress and the address go to standard error."""
    _, ended = demo
    assert json.loads(ended.out)["events"] == EVENTS
    assert "metrics while it runs: http://127.0.0.1:" in ended.err


def test_the_demo_reports_progress_without_a_terminal(demo: Demo) -> None:
    """About every tenth of the way there is one line with spend and quality."""
    _, ended = demo
    lines = [line for line in ended.err.splitlines() if " mails: " in line]
    assert len(lines) == 10
    assert all("accuracy" in line and "estimated" in line for line in lines)


def test_the_demo_reaches_its_numbers(demo: Demo) -> None:
    """Accuracy at least 0.945 at a budget of 10 %, which holds."""
    figures = json.loads(demo[1].out)
    assert figures["accuracy"] >= 0.945
    assert figures["share"] <= 0.10 + 20 / EVENTS


def test_the_demo_leaves_its_stream_and_database(demo: Demo) -> None:
    """The reader finds stream, database, configuration and picture in the directory."""
    left = demo[0] / "streamal-demo"
    names = {path.name for path in left.iterdir()}
    assert {"mails.csv.gz", "streamal.db", "config.toml", "learning-curve.svg"} <= names
    with gzip.open(left / "mails.csv.gz") as mails:
        assert b"text" in mails.readline()
    assert "<svg" in (left / "learning-curve.svg").read_text()


def test_what_the_demo_leaves_keeps_the_promises(demo: Demo, streamal: Cli) -> None:
    """`verify` finds nothing broken in the database of the demo, and looked at every event."""
    verified = streamal("verify", "-c", "streamal-demo/config.toml", "--json", cwd=demo[0])
    checks = json.loads(verified.out)
    assert verified.code == 0
    assert {name: check for name, check in checks.items() if check["broken"]} == {}
    assert min(check["looked_at"] for check in checks.values()) > 500


def test_what_the_demo_leaves_can_be_looked_at(demo: Demo, tmp_path: Path) -> None:
    """The commands of the first ten minutes run where the demo was."""
    page = (ROOT / "docs/first-ten-minutes.md").read_text()
    (block,) = re.findall(r"```bash\n(streamal status -c streamal-demo.*?)```", page, flags=re.DOTALL)
    ended = run(block, tmp_path, cwd=demo[0])
    assert ended.code == 0, ended.err
    assert '"kind":"example"' in ended.out.replace(" ", "")


def test_the_demo_may_be_run_again(demo: Demo, streamal: Cli, tmp_path: Path) -> None:
    """It takes up the directory of an earlier demo, here with other settings and the summary for people."""
    shutil.copytree(demo[0], tmp_path, dirs_exist_ok=True)
    quick = ("--set", "limits.record_bytes=700", "--set", "model.pipeline=[{use='dummy.PriorClassifier'}]")
    again = streamal("demo", *quick, cwd=tmp_path)
    assert again.code == 0, again.err
    assert "random control" in again.out
    assert "streamal status -c streamal-demo/config.toml" in again.out


def test_the_demo_spares_a_foreign_directory(cli: Cli, directory: Path) -> None:
    """A directory with anything else, even with somebody's config.toml and database, is refused and left alone."""
    for name in ("config.toml", "streamal.db"):
        (directory / name).write_text("precious")
        refused = cli("demo", "-d", ".")
        assert refused.code == 2
        assert "--directory" in refused.line
        assert (directory / name).read_text() == "precious"


def test_a_mistyped_demo_deletes_nothing(cli: Cli, directory: Path) -> None:
    """A wrong --set is refused before the directory of an earlier demo is cleared, or a new one made."""
    refused = cli("demo", "--set", "budget.shre=0.2")
    assert refused.code == 2
    assert "'shre'" in refused.line
    assert list(directory.iterdir()) == []


def test_a_file_is_no_place_for_a_demo(cli: Cli, directory: Path) -> None:
    """--directory with the name of a file is one line, not a traceback."""
    (directory / "file").write_text("x")
    refused = cli("demo", "-d", "file")
    assert refused.code == 2
    assert "file" in refused.line
