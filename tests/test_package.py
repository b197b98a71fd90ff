"""What is published: the sdist has all that the tests read, the wheel is streamal alone, and it runs anywhere."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from streamal import __version__
from tests.conftest import environment

ROOT = Path(__file__).parents[1]
TREES = (".ci", "benchmarks", "docker", "docs", "streamal", "tests")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
KILOBYTES_MAX = 4_000


class Built(NamedTuple):
    """The packages of this tree."""

    sdist: Path
    wheel: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sdist, and the wheel that is made from the unpacked sdist, as a build frontend does it."""
    place = tmp_path_factory.mktemp("package")
    hatch(ROOT, "build_sdist", place)
    [sdist] = place.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(place, filter="data")
    hatch(place / f"streamal-{__version__}", "build_wheel", place)
    [wheel] = place.glob("*.whl")
    return Built(sdist, wheel)


def hatch(source: Path, function: str, target: Path) -> None:
    """Call *function* of the build backend, in *source*."""
    code = f"import hatchling.build; hatchling.build.{function}({str(target)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)


def files(root: Path) -> Iterator[str]:
    """Yield the files of the trees below *root*, without what is made by running them."""
    for tree in TREES:
        for path in (root / tree).rglob("*"):
            if path.is_file() and path.suffix != ".pyc" and ".mypy_cache" not in path.parts:
                yield path.relative_to(root).as_posix()


def test_the_sdist_is_the_tree(built: Built) -> None:
    """It has each file that a test reads, so the tests run from it; and nothing that a run has left behind."""
    with tarfile.open(built.sdist) as archive:
        inside = {member.name.partition("/")[2] for member in archive if member.isfile()}
    at_the_top = {
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "config.toml",
        "mkdocs.yml",
        "pyproject.toml",
    }
    assert inside == {*files(ROOT), *at_the_top, ".gitignore", "PKG-INFO"}
    assert built.sdist.stat().st_size < KILOBYTES_MAX * 1_000


def test_the_wheel_is_the_package_and_nothing_else(built: Built) -> None:
    """Code, data, templates and the marker of types; no test, no benchmark, nothing at the top but streamal."""
    with zipfile.ZipFile(built.wheel) as archive:
        inside = {name for name in archive.namelist() if not name.startswith(f"streamal-{__version__}.dist-info/")}
    assert inside == {name for name in files(ROOT) if name.startswith("streamal/")}
    assert {"streamal/py.typed", "streamal/data/mails.csv.gz", "streamal/labeling/web/templates/label.html"} < inside


def test_the_wheel_says_who_it_is(built: Built) -> None:
    """Its version is the program's; a person finds source, documentation and changelog from it."""
    with zipfile.ZipFile(built.wheel) as archive:
        about = archive.read(f"streamal-{__version__}.dist-info/METADATA").decode()
    assert f"\nVersion: {__version__}\n" in about
    assert PROJECT["version"] == __version__
    for link in ("Homepage", "Documentation", "Source", "Issues", "Changelog"):
        assert f"\nProject-URL: {link}, https://" in about
    assert "\nDescription-Content-Type: text/markdown\n" in about


def test_the_wheel_runs_in_an_empty_environment(built: Built, tmp_path: Path) -> None:
    """Away from this tree: the version, a check and a replay of its own data; the libraries are this environment's.

    The slow test below, and .ci/package, take the libraries from an index.
    """
    home = tmp_path / "empty"
    venv.create(home, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home)}))
    with zipfile.ZipFile(built.wheel) as archive:
        archive.extractall(site)
    (site / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n")  # not the .pth files in there: no clone
    ran = run(home / "bin/python", tmp_path, "-c", "import streamal; print(streamal.__file__)")
    assert ran.strip() == str(site / "streamal/__init__.py")
    assert run(home / "bin/python", tmp_path, "-m", "streamal", "--version") == f"streamal {__version__}\n"
    mails = str(site / "streamal/data/mails.csv.gz")
    assert '"events": 60' in run(
        home / "bin/python", tmp_path, "-m", "streamal", "replay", mails, "--label", "label", "--limit", "60", "--json"
    )


@pytest.mark.slow
def test_the_wheel_brings_what_it_needs(built: Built, tmp_path: Path) -> None:
    """Installed from an index into an environment that has nothing but pip, the demo runs."""
    home = tmp_path / "empty"
    venv.create(home, symlinks=True, with_pip=True)
    subprocess.run([home / "bin/pip", "install", "--quiet", built.wheel], check=True)
    assert run(home / "bin/streamal", tmp_path, "--version") == f"streamal {__version__}\n"
    assert '"events"' in run(home / "bin/streamal", tmp_path, "demo", "--json")


def run(program: Path, cwd: Path, *words: str) -> str:
    """Return what a program prints in *cwd*, without this tree on Python's path."""
    variables = {**environment(PYTHONNOUSERSITE="1"), "PYTHONPATH": ""}
    return subprocess.run([program, *words], cwd=cwd, env=variables, check=True, capture_output=True, text=True).stdout
