"""Tables that `streamal export` wrote: the features have a prefix, and what stands beside them is no feature."""

from __future__ import annotations

from dataclasses import replace

from streamal.recordings.account import Column
from streamal.recordings.findings import Findings
from streamal.recordings.rules import EXPORTED, Roles
from streamal.recordings.table import Table

__all__ = ["unpack_export"]

_OWN = frozenset({"offset", "kind", "at"})
"""Columns of every exported record."""


def unpack_export(table: Table, roles: Roles, findings: Findings) -> Table:
    """Return *table* with its features under their own names, if it is an export; another one as it is.

    The other columns of an export (predicted, propensity, probability, asked_at …) come from streamal itself: a model
    that sees them sees its own answers. Those that *roles* name keep their role.
    """
    if not set(table.names) >= _OWN or not any(name.startswith(EXPORTED) for name in table.names):
        return table

    def own_name(name: str) -> str:
        plain = name.removeprefix(EXPORTED)
        return name if plain in roles.named else plain

    features = [name for name in table.columns if name.startswith(EXPORTED)]
    kept = [name for name in table.columns if name in features or name in roles.named]
    beside = [name for name in table.columns if name not in kept]
    if beside:
        shown = ", ".join(map(repr, beside[:5])) + (" …" if beside[5:] else "")
        findings.note("beside", f"it is an export of streamal: only features.… are features, not {shown}", len(beside))
    outside = (
        *(replace(each, name=own_name(each.name)) for each in table.outside),
        *(Column(name, "beside") for name in beside),
    )
    return Table(
        {own_name(name): table.columns[name] for name in kept},
        {own_name(name): table.kinds[name] for name in kept},
        [own_name(name) for name in table.names],
        outside,
    )
