"""The documentation: made from the code where it can be, complete, its commands tried, its site built offline."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from streamal import errors
from streamal.config import Config
from streamal.core.records import Lane, Outcome, Reason
from streamal.core.strategies import STRATEGIES
from streamal.edge.kafka.acls import ROLES
from streamal.edge.metrics import METRICS
from tests.conftest import environment
from tests.documents import ARCHITECTURE, README, ROOT, config_rows, config_table, metrics_table, with_layers
from tests.reference import OUTCOMES, REASONS, commands, pages
from tests.test_docker import known_variable, parsed
from tests.test_tidy import MAY_IMPORT

DOCS = ROOT / "docs"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
PAGES = sorted(DOCS.rglob("*.md"))
FILE_ENDINGS = {"py", "md", "toml", "csv", "json"}
"""`model.py` is a file, `model.seed` a key."""
SHELL = re.compile(r"(?:<!-- ([\w -]+?)(?:: (\w+))? -->\n)?```(?:bash|sh|shell|console)\n(.*?)```", flags=re.DOTALL)
NOT_OURS = {
    *("cd", "echo", "printf", "cat", "zcat", "head", "tail", "grep", "sort", "cut", "jq", "mkdir", "cp", "export"),
    *("source", "sleep", "kill", "wait", "python3", "python", "pip", "uv", "git", "npm", "docker", "kubectl"),
    *("promtool", "curl", "label-studio", "sqlite3", "kafka-transactions.sh"),
    *("pytest", "ruff", "mypy", "run", "bounds", "package"),
}
"""Other programs in blocks that are not run as they stand; tests/test_blocks.py gives most of them what they need."""


def blocks() -> Iterator[tuple[Path, str, str]]:
    """Yield (page, how it is tried, text) of every shell block; those without a marker are parsed."""
    for page in (README, CONTRIBUTING, *PAGES):
        for match in SHELL.finditer(page.read_text()):
            marker, how, text = match.groups()
            if marker == "shell":
                yield page, how, text
            else:  # the README's two commands with a marker of their own are run by .ci/run and tests/test_demo.py
                yield page, "command" if marker else "parsed", text


BLOCKS = list(blocks())


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def test_the_reference_is_made_from_the_code() -> None:
    """Making the pages anew changes nothing."""
    for path, text in pages(config_table(), metrics_table()).items():
        assert path.read_text() == text, f"{path}: run python -m tests.documents"
    assert (set(REASONS), set(OUTCOMES)) == ({*map(str, Reason)}, {*map(str, Outcome)})


def test_everything_is_in_the_documents() -> None:
    """Every configuration key, metric, command, option, exit code, error, reason, outcome, lane, role and strategy."""
    text = "\n".join(page.read_text() for page in PAGES)
    keys = {
        f"{section}.{key}" for section, field in Config.model_fields.items() for key in type(field.default).model_fields
    }
    wanted = {f"`{key}`" for key in keys}
    wanted |= {f"`{metric.exported_name}{'{' + metric.label + '}' if metric.label else ''}`" for metric in METRICS}
    wanted |= {f"## streamal {name}\n" for name, _ in commands()}
    parameters = [each for _, command in commands() for each in command.params if not getattr(each, "hidden", False)]
    wanted |= {f"`{option}`" for each in parameters for option in each.opts if option.startswith("--")}
    wanted |= {f"## {name}\n" for name in errors.__all__}
    wanted |= {f"| {code} | " for code in (0, 1, 2)}
    wanted |= {f"| `{name}` | " for name in (*Reason, *Outcome, *ROLES)}
    missing = {word for word in wanted if word not in text}
    assert not missing
    assert {key for key, _, _ in config_rows()} == keys
    assert {f"`{name}`" for name in STRATEGIES} <= set(re.findall(r"`\w+`", (DOCS / "strategies.md").read_text()))
    assert all(lane in text for lane in Lane)


PROSE = [README, CONTRIBUTING, *PAGES]


@pytest.mark.parametrize("page", PROSE, ids=named)
def test_what_a_page_names_exists(page: Path) -> None:
    """Each metric, each configuration key and each file that stands in a page's prose is there."""
    text = page.read_text()
    metrics = {metric.exported_name for metric in METRICS}
    for name, more in re.findall(r"`(streamal_\w+)(\*|…\w*)?", text):
        assert name in metrics or (more and any(each.startswith(name) for each in metrics)), name
    sections = {section: type(field.default).model_fields for section, field in Config.model_fields.items()}
    for section, key in re.findall(r"`(?:--set )?(\w+)\.(\w+)(?: = [^`]*|=[^`]*)?`", text):
        assert section not in sections or key in sections[section] or key in FILE_ENDINGS, f"{section}.{key}"
    for path in re.findall(r"`((?:streamal|tests|docker|docs|benchmarks)/[\w/.-]*)`", text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", [CONTRIBUTING, DOCS / "architecture.md"], ids=named)
def test_a_file_is_found_by_the_end_of_its_path(page: Path) -> None:
    """Whoever looks for `codec/replies.py`, or `model.py`, finds one."""
    places = [f"/{path.relative_to(ROOT).as_posix()}{'/' * path.is_dir()}" for path in ROOT.glob("[a-z]*/**/*")]
    for name in re.findall(r"`([\w./-]+(?:/|\.py|\.md|\.yml|\.html|\.js))`", page.read_text()):
        assert (ROOT / name).exists() or any(place.endswith(f"/{name}") for place in places), name


def test_the_architecture_has_the_layers() -> None:
    """Each package, with what it may import, stands in docs/architecture.md."""
    page = ARCHITECTURE.read_text()
    assert with_layers(page) == page, "run python -m tests.documents"
    assert f"| `{next(iter(MAY_IMPORT.keys() - {'__init__', '__main__'}))}` |" in page


def test_the_site_is_built_without_the_network(tmp_path: Path) -> None:
    """Mkdocs has no complaint (--strict): every page of the list that is there is in order, no link leads nowhere.

    What it makes asks no other host for anything.
    """
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT, env={**os.environ, **proxies, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        assert not re.findall(r"<(?:script|img|iframe)[^>]* src=\"(?:https?:)?//", page.read_text()), page
        assert not re.findall(r"<link[^>]* rel=\"stylesheet\"[^>]* href=\"(?:https?:)?//", page.read_text()), page


def test_the_site_is_comfortable() -> None:
    """A dark theme, a way to the next page, an install line and the page's picture on its front, no key cut in two."""
    text = (ROOT / "mkdocs.yml").read_text()
    assert "scheme: slate" in text
    assert "navigation.footer" in text
    front = (DOCS / "index.md").read_text()
    assert "pip install" in front
    assert "images/label-light.png" in front
    [sheet] = re.findall(r"extra_css: \[(.*)\]", text)
    assert "nowrap" in (DOCS / sheet).read_text()


def test_every_page_is_in_the_list() -> None:
    """Nothing is written that nobody finds."""
    text = (ROOT / "mkdocs.yml").read_text()
    listed = set(re.findall(r"[\w/-]+\.md", text))
    assert {page.relative_to(DOCS).as_posix() for page in PAGES} <= listed
    assert yaml.safe_load(text)["theme"]["font"] is False


@pytest.mark.parametrize(("page", "text"), [(page, text) for page, how, text in BLOCKS if how == "parsed"],
                         ids=[named(page) for page, how, _ in BLOCKS if how == "parsed"])  # fmt: skip
def test_the_commands_of_a_block_exist(page: Path, text: str) -> None:
    """Each line that begins with streamal parses; its variables are keys; other programs are the ones named above."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in re.split(r"&&|\|", re.sub(r"(^|\s)#.*", "", line)):
            words = shlex.split(part.strip().removesuffix("&"))
            while words and re.fullmatch(r"\w+=.*", words[0]):
                variable = words.pop(0).partition("=")[0]
                assert not variable.startswith("STREAMAL_") or known_variable(variable), variable
            if not words:
                continue
            program = words[0].rpartition("/")[2]
            if program == "streamal":
                parsed(words[1:])
            else:
                assert program in {*NOT_OURS, "streamal"}, f"{page.name}: {program}"


@pytest.mark.parametrize(("page", "text"), [(page, text) for page, how, text in BLOCKS if how == "run"],
                         ids=[named(page) for page, how, _ in BLOCKS if how == "run"])  # fmt: skip
def test_a_block_runs(page: Path, text: str, tmp_path: Path) -> None:
    """Copied into a shell that ends at the first error, it ends well."""
    shim = tmp_path / "bin/streamal"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m streamal "$@"\n')
    shim.chmod(0o755)
    place = tmp_path / "place"
    place.mkdir()
    path = f"{shim.parent}{os.pathsep}{os.environ['PATH']}"
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run(
        [bash, "-eu", "-o", "pipefail", "-c", text],
        cwd=place, env=environment(PATH=path, PYTHONPATH=str(ROOT)),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_the_toml_of_a_page_is_a_configuration(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each TOML block loads, with the secrets that the page takes from the environment."""
    for block in re.findall(r"```toml\n(.*?)```", page.read_text(), flags=re.DOTALL):
        tree = tomllib.loads(block)
        if "security" in tree.get("transport", {}) and "sasl_mechanism" in tree["transport"]["security"]:
            tree["transport"]["security"]["sasl_password"] = "from the environment"
        if "host" in tree.get("server", {}):
            tree["server"]["token"] = "from the environment"
        Config.model_validate(tree)
