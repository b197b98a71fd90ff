"""The README and the reference configuration tell the truth."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from streamal.cli import app
from streamal.config import Config, load_config
from tests.documents import (
    INSTALL_LINE,
    README,
    REFERENCE,
    ROOT,
    WITH_INSTALL_LINES,
    config_rows,
    with_install_lines,
)

TEXT = README.read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
LINES_MAX = 200
MANY_PROMISES = 15
THROUGHPUTS = 8  # four in the table, two in each sentence
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = set(PROJECT["optional-dependencies"])


def test_the_readme_is_short() -> None:
    """It has at most 200 lines; whatever needs more has a page of its own."""
    assert len(TEXT.splitlines()) <= LINES_MAX


def test_the_readme_begins_with_a_picture() -> None:
    """The topics and the label page stand in the first screenful."""
    first = TEXT.splitlines()[:30]
    assert any("dead-letters" in line for line in first)
    assert any("docs/images/label-light.png" in line for line in first)


def test_the_reference_configuration_is_the_defaults() -> None:
    """config.toml, loaded, is what one gets without a file."""
    assert load_config(REFERENCE) == Config()


def test_the_reference_configuration_names_every_key() -> None:
    """Every key of every section is in config.toml, set or commented, and nothing else is."""
    keys = {f"{name}.{key}" for name, field in Config.model_fields.items() for key in type(field.default).model_fields}
    assert {key for key, _, _ in config_rows()} == keys


def test_every_key_of_the_reference_is_explained_or_grouped() -> None:
    """Only topic names, dates of obvious meaning and the like go without a comment."""
    unexplained = {key for key, _, text in config_rows() if not text}
    assert {key for key in unexplained if not key.startswith("topics.")} <= {
        "budget.currency",
        "limits.expiries_per_step",
        "server.enabled",
    }


def test_the_readme_names_every_command() -> None:
    """Each command of the application stands in the README's table."""
    commands = {command.name for command in app.registered_commands}
    commands |= {group.name for group in app.registered_groups}
    (table,) = re.findall(r"^\| command \|.*?\n\n", TEXT, flags=re.MULTILINE | re.DOTALL)
    names = [
        name for row in re.findall(r"^\| (.*?) \|", table, flags=re.MULTILINE) for name in re.findall("`.*?`", row)
    ]
    assert {name.strip("`").removeprefix("streamal ").split()[0] for name in names} == commands


def test_every_file_that_the_readme_links_exists() -> None:
    """A link into the repository leads somewhere, and a link to a test names one that exists."""
    for target in re.findall(r"(?:\]\(|src=\"|srcset=\")(?!https?://)([^)#\"]+)", TEXT + CONTRIBUTING):
        assert (ROOT / target).exists(), target
    promises = (ROOT / "docs/promises.md").read_text()
    named = re.findall(r"`(test_\w+)`\]?(?: \(`|\()(tests/[\w/.]+)", TEXT + promises)
    assert len(named) > MANY_PROMISES
    for test, path in named:
        assert f"def {test}(" in (ROOT / path).read_text(), test


def test_the_toml_of_the_readme_is_a_configuration() -> None:
    """Each TOML block in the README loads."""
    blocks = re.findall(r"```toml\n(.*?)```", TEXT, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        Config.model_validate(tomllib.loads(block))


def test_the_throughput_is_that_of_the_benchmarks() -> None:
    """Each throughput on the README, the page on Kafka and the page on scaling is a figure of benchmarks/RESULTS.md."""
    results = (ROOT / "benchmarks/RESULTS.md").read_text()
    kafka, scaling = ((ROOT / "docs" / name).read_text() for name in ("kafka.md", "scaling.md"))
    (table,) = re.findall(r"^\| client \| the pipe.*?\n\n", kafka, flags=re.MULTILINE | re.DOTALL)
    (here,) = re.findall(r"One worker processes.*?`confluent`", TEXT, flags=re.DOTALL)
    (there,) = re.findall(r"One worker processes.*?`confluent`", scaling, flags=re.DOTALL)
    figures = re.findall(r"\b\d\d,\d{3}\b", table + here + there)
    assert len(figures) == THROUGHPUTS
    assert all(f" {figure} (" in results for figure in figures)


@pytest.mark.parametrize("path", WITH_INSTALL_LINES, ids=lambda path: path.name)
def test_an_extra_is_installed_by_the_one_command(path: Path) -> None:
    """Each install line has the form of `streamal.INSTALL`, its extra exists, and there is no line of another form."""
    text = path.read_text()
    assert with_install_lines(text) == text, "run python -m tests.documents"
    for _, extras in INSTALL_LINE.findall(text):
        assert set(extras.split(",")) <= EXTRAS
    assert not re.findall(r"pip install\s+(?!(?:--quiet )?-e )[^`\n]*\[", INSTALL_LINE.sub("", text))


def test_no_source_spells_the_install_command() -> None:
    """Error messages and generated pages take it from `streamal.INSTALL`, with an extra that exists."""
    for path in (*ROOT.glob("streamal/**/*.py"), *ROOT.glob("benchmarks/**/*.py")):
        text = path.read_text()
        assert path == ROOT / "streamal/__init__.py" or not re.search(r"pip install[^\n]*\[", text), path
        for extras in re.findall(r"INSTALL\.format\(extra=['\"]([\w,-]+)", text):
            assert set(extras.split(",")) <= EXTRAS, path


@pytest.mark.parametrize("marker", ["demo-command", "test-command"])
def test_the_two_commands_are_one_line_each(marker: str) -> None:
    """The README's two commands can be copied as they stand."""
    found = re.search(rf"<!-- {marker} -->\n```bash\n(.*)\n```", TEXT)
    assert found is not None
    assert found[1].startswith("python3 -m venv .venv && .venv/bin/pip install")


def test_no_table_is_left_to_be_filled_in() -> None:
    """No placeholder in capitals stands where a figure belongs."""
    assert not re.findall(r"\b[A-Z]+_[A-Z_]+\b(?<!STREAMAL_SECTION__KEY)", re.sub(r"STREAMAL_\w*", "", TEXT))


def test_python_starts_as_a_module() -> None:
    """``python -m streamal --version`` works from anywhere."""
    done = subprocess.run([sys.executable, "-m", "streamal", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("streamal 0.")


def test_every_number_of_a_promise_or_fault_is_explained() -> None:
    """I3 or F24 in code, comments or tests is a row of docs/promises.md."""
    explained = set(re.findall(r"^\| ([IF]\d+) \|", (ROOT / "docs/promises.md").read_text(), flags=re.MULTILINE))
    sources = [*ROOT.glob("streamal/**/*.py"), *ROOT.glob("tests/**/*.py")]
    used = {number for path in sources for number in re.findall(r"\b[IF][1-9]\d?\b", path.read_text())}
    assert used <= explained
