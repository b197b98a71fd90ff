"""A small table in HTML: what a notebook shows of a result. Every text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["html_table"]


def html_table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]], remarks: Iterable[str] = ()) -> str:
    """Return *rows* under *header* and *caption*, and each of *remarks* as a paragraph below.

    >>> html_table("a<b", ("x",), [("1",)])
    '<table><caption>a&lt;b</caption><tr><th>x</th></tr><tr><td>1</td></tr></table>'
    """
    head = _row(header, "th") if any(header) else ""
    body = "".join(_row(row, "td") for row in rows)
    below = "".join(f"<p>{escape(remark)}</p>" for remark in remarks)
    return f"<table><caption>{escape(caption)}</caption>{head}{body}</table>{below}"


def _row(cells: Sequence[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"
