"""One word for one thing: what docs/words.md calls gone does not come back in an identifier."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamal.core import records
from tests.documents import ROOT

PAGE = (ROOT / "docs/words.md").read_text()
FILES = sorted((ROOT / "streamal").rglob("*.py"))


def old_words() -> Iterator[str]:
    """Yield the words of the table of those that are gone."""
    _, _, table = PAGE.partition("## Words that are gone")
    for row in re.findall(r"^\| (`.*?) \|", table, flags=re.MULTILINE):
        yield from re.findall(r"`(\w+)`", row)


OLD = frozenset(old_words())


def identifiers(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield (name, line) of everything that *tree* names: classes, functions, arguments, variables, attributes."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name, line
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name, line
            case ast.keyword(arg=str(name)):
                yield name, line
            case ast.alias(name=name, asname=other):
                yield (other or name).rpartition(".")[2], line


def words(name: str) -> set[str]:
    """Return *name* and its parts in lower case: those of ``snake_case`` and of ``CamelCase``."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)
    return {name.lstrip("_"), *(part.lower() for part in parts)}


def test_the_parts_of_a_name_are_found() -> None:
    """Whatever its style."""
    assert {"seat", "owner"} < words("_seat_owner")
    assert {"seat", "owner"} < words("SeatOwner")
    assert "Place" in words("_Place")
    assert "Place" not in words("place")


def test_there_are_old_words() -> None:
    """The table was read, and every word of it has a successor."""
    assert {"canary", "LogDisagrees"} < OLD
    assert not re.findall(r"^\| `.*\| *\|$", PAGE, flags=re.MULTILINE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_old_word_comes_back(path: Path) -> None:
    """Neither in the name of the module nor in any name in it."""
    found = [(path.stem, 0), *identifiers(ast.parse(path.read_text()))]
    back = sorted({f"{name} (line {line})" for name, line in found if words(name) & OLD})
    assert not back, f"see docs/words.md: {', '.join(back)}"


def test_the_page_has_each_word_once() -> None:
    """Every record is there by its word, and no word is explained twice."""
    table, _, _ = PAGE.partition("## Words that are gone")
    explained = re.findall(r"^\| \*\*(.+?)\*\* \|", table, flags=re.MULTILINE)
    assert len(explained) == len(set(explained))
    wanted = {"event", "prediction", "request", "reply", "example", "abstention", "expiry", "closing", "refusal"}
    assert wanted <= set(explained)
    assert {each.lower() for each in records.__all__} >= wanted
