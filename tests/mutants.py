"""Makes one-line mutants of a module: one expression changed, or one statement removed.

Assertions, annotations, decorators and texts stay as they are: a correct program is the same without them. So do
numbers that are a choice (a constant of a module, a default of a class): a test could only repeat them.
"""

from __future__ import annotations

import ast
import difflib
import itertools
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
TWINS: Mapping[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}


class Mutant(NamedTuple):
    """A module with one node replaced; *late* if it lies in a function's body, which runs after the import."""

    module: str
    line: int
    source: str
    diff: str
    late: bool

    @property
    def key(self) -> str:
        """Return what names the mutant."""
        return f"{self.module}:{self.line}\n{self.diff}"

    @property
    def path(self) -> str:
        """Return the file, seen from the root."""
        return self.module.replace(".", "/") + ".py"


def changed_expressions(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what may stand in the place of an expression."""
    match node:
        case ast.Compare(left, [operator], rest):
            yield from (ast.Compare(left, [twin()], rest) for twin in TWINS[type(operator)])  # type: ignore[list-item]
        case ast.BinOp(left, operator, right) if type(operator) in TWINS and not is_text(left) and not is_text(right):
            yield from (ast.BinOp(left, twin(), right) for twin in TWINS[type(operator)])  # type: ignore[arg-type]
        case ast.BoolOp(operator, values):
            yield from (ast.BoolOp(twin(), values) for twin in TWINS[type(operator)])  # type: ignore[arg-type]
        case ast.UnaryOp(ast.Not() | ast.USub(), operand):
            yield operand
        case ast.IfExp(test, body, other):
            yield ast.IfExp(test, other, body)
        case ast.Constant(bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(int() | float() as value):
            yield ast.Constant(value + 1)
        case ast.Call(ast.Name(name), arguments, keywords) if name in NAMES:
            yield ast.Call(ast.Name(NAMES[name]), arguments, keywords)


def changed_statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what may stand in the place of a statement: nothing, or an early end."""
    match node:
        case ast.Return(ast.AST() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield ast.Return()
        case ast.Break():
            yield ast.Continue()
        case ast.Return(None) | ast.Continue() | ast.Raise() | ast.AugAssign() | ast.Expr(ast.Call()) | ast.Delete():
            yield ast.Pass()
        case ast.Assign([ast.Attribute() | ast.Subscript()]):
            yield ast.Pass()


def is_text(node: ast.AST) -> bool:
    """Return True for what + joins."""
    number = isinstance(node, ast.Constant) and isinstance(node.value, int | float)
    return isinstance(node, ast.JoinedStr | ast.List | ast.Tuple | ast.Constant) and not number


def nodes(node: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    """Yield *node* and all below it that a test could see change."""
    if isinstance(node, ast.expr | ast.stmt):
        yield node
    if isinstance(node, ast.Assert | ast.JoinedStr):
        return
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            chosen = isinstance(node, ast.Module | ast.ClassDef) and isinstance(
                getattr(child, "value", 0), ast.Constant
            )
            if isinstance(child, ast.AST) and not chosen and name not in {"annotation", "returns", "decorator_list"}:
                yield from nodes(child)


def mutants_of(path: Path) -> Iterator[Mutant]:
    """Yield all mutants of a module."""
    text = path.read_bytes()
    starts = list(itertools.accumulate((len(line) for line in text.splitlines(keepends=True)), initial=0))
    module = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    tree = ast.parse(text)
    tests = {node.test for node in ast.walk(tree) if isinstance(node, ast.If | ast.While | ast.IfExp)}
    bodies = [part for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for part in node.body]
    late = {node for part in bodies for node in ast.walk(part)}
    for node in nodes(tree):
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        negated = node in tests and isinstance(node, ast.Name | ast.Attribute | ast.Call)
        opposite = [ast.UnaryOp(ast.Not(), node)] if negated and isinstance(node, ast.expr) else []
        for variant in itertools.chain(changed_expressions(node), changed_statements(node), opposite):
            changed = ast.unparse(ast.fix_missing_locations(variant))
            if isinstance(variant, ast.Compare | ast.BinOp | ast.BoolOp | ast.UnaryOp | ast.IfExp):
                changed = f"({changed})"
            source = (text[:begin] + changed.encode() + text[end:]).decode()
            diff = difflib.unified_diff(text.decode().splitlines(), source.splitlines(), n=0, lineterm="")
            yield Mutant(module, node.lineno, source, "\n".join(itertools.islice(diff, 3, None)), node in late)


def draw(count: int, seed: int) -> list[Mutant]:
    """Draw mutants from every module of the three packages, from each as many as its share of all mutants."""
    files = [path for name in ("core", "daemon", "edge") for path in sorted((ROOT / "streamal" / name).rglob("*.py"))]
    every = [list(mutants_of(path)) for path in files]
    total = sum(map(len, every))
    chance = random.Random(seed)
    drawn = [chance.sample(some, max(1, round(count * len(some) / total))) for some in every if some]
    return [mutant for some in drawn for mutant in some]
