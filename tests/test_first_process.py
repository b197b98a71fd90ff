"""A command as the first process of a container ends on SIGTERM, from which the kernel shields a process number 1."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Cli, environment
from tests.prometheus_tools import free_port

ROOT = Path(__file__).parents[1]
UNSHARE = shutil.which("unshare")
MAILS = str(ROOT / "streamal/data/mails.csv.gz")


def new_namespace() -> list[str]:
    """Return the command that runs another one as process 1 of a namespace; skip where the kernel does not let us."""
    command = [UNSHARE or "unshare", "--fork", "--pid", "--kill-child"]
    if UNSHARE is None or subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no namespace of processes can be made here (unshare --pid)")
    return command


def ends(directory: Path, words: list[str], begun: Callable[[int, Path], bool]) -> int:
    """Run a command as process 1, send it SIGTERM when it has *begun*, and return its exit code."""
    command, said = [*new_namespace(), sys.executable, "-m", "streamal", *words], directory / "said"
    variables = environment(PYTHONPATH=str(ROOT), PYTHONUNBUFFERED="1")
    with (
        said.open("wb") as out,
        subprocess.Popen(command, cwd=directory, env=variables, stdout=out, stderr=out) as outer,
    ):
        try:
            first = ""
            while not first or not begun(int(first), said):
                assert outer.poll() is None, said.read_text()
                first = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().strip()
                time.sleep(0.02)
            os.kill(int(first), signal.SIGTERM)
            return outer.wait(60)
        finally:
            outer.kill()


def catches(process: int, _: Path) -> bool:
    """Return True once *process* has a handler for SIGTERM."""
    [caught] = [line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("SigCgt")]
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def test_a_command_without_a_handler_of_its_own_ends(directory: Path) -> None:
    """A replay, say: it ends as SIGTERM ends any process, and not by SIGKILL after the engine's ten seconds."""
    assert ends(directory, ["replay", MAILS, "--label", "label"], catches) == 128 + signal.SIGTERM


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (["run", "-c", "config.toml"], "assigned", 0),
        (["label", "-c", "config.toml"], "label page", 0),
        (["simulate", MAILS, "--label", "label", "-c", "config.toml"], "", 128 + signal.SIGTERM),
        (["demo"], "", 128 + signal.SIGTERM),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_each_command_of_a_container_ends(cli: Cli, directory: Path, words: list[str], said: str, code: int) -> None:
    """Daemon and label page in good order, the others as SIGTERM ends a process."""
    (directory / "config.toml").write_text(
        f"[server]\nport = {free_port()}\n[label_page]\nport = {free_port()}\n[labels]\nclasses = ['ham', 'spam']\n"
    )
    assert cli("topics", "create").code == 0

    def begun(process: int, log: Path) -> bool:
        return said in log.read_text() and catches(process, log)

    assert ends(directory, words, begun) == code
