"""A configuration as a commented ``config.toml``: what differs from the defaults; the comments of a file stay."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, MutableMapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import SecretStr
from tomlkit.exceptions import TOMLKitError

from streamal.config import Config
from streamal.errors import ConfigError

__all__ = ["render_config"]

_COMMENTS: Mapping[str, str] = {
    "features": "as in the recording; an event may lack some of them",
    "labels": "as in the recording",
    "model": "declared, never evaluated: classes of River",
    "sampling": "which events to ask about",
    "budget": "how much may be asked, as a hard limit",
    "limits": "events_per_step is the size of the loop: events that are predicted by the same model",
}


def render_config(config: Config, remarks: Sequence[str] = (), existing: str = "") -> str:
    """Return *config* as TOML that loads to the same configuration, but for secrets: these are never written.

    Args:
        config: the settings; keys with their default value are left out.
        remarks: comments at the top. They replace an earlier paragraph of remarks there.
        existing: the text of a file to update: its comments, its order and the keys that already fit stay.

    Raises:
        ConfigError: *existing* is not TOML.

    >>> print(render_config(Config.model_validate({"budget": {"share": "0.05"}}), ["Five in a hundred."]), end="")
    # Five in a hundred.
    <BLANKLINE>
    [budget] # how much may be asked, as a hard limit
    share = 0.05
    """
    try:
        document = tomlkit.parse(_without_remarks(existing, remarks))
    except TOMLKitError as error:
        raise ConfigError(f"the configuration to update is not TOML: {error}") from error
    wanted = _without_secrets(config.model_dump(exclude_defaults=True))
    for name in wanted:
        if name not in document:
            _add_section(document, name)
    _merge(document, wanted, config.model_dump())
    comments = "".join(
        f"{line}\n"
        for remark in remarks
        for line in textwrap.wrap(remark, 108, initial_indent="# ", subsequent_indent="#   ")
    )
    return f"{comments}\n{document.as_string().lstrip()}".strip() + "\n"


def _without_remarks(existing: str, remarks: Sequence[str]) -> str:
    """Return *existing* without its first paragraph, if that has as many remarks as will stand there now."""
    head, _, rest = existing.partition("\n\n")
    lines = head.splitlines()
    starts = [line for line in lines if not line.startswith("#   ")]
    earlier = all(line.startswith("#") for line in lines) and len(starts) == len(remarks)
    same = earlier and any(line.startswith(f"# {remark[:20]}") for line in starts for remark in remarks)
    return rest if same else existing


def _add_section(document: tomlkit.TOMLDocument, name: str) -> None:
    table = tomlkit.table()
    if name in _COMMENTS:
        table.comment(_COMMENTS[name])
    if document.body and not document.as_string().endswith("\n\n"):
        document.add(tomlkit.nl())
    document.add(name, table)


def _merge(table: MutableMapping[str, Any], wanted: Mapping[str, Any], full: Mapping[str, Any]) -> None:
    """Change *table* so that it says *wanted*; *full* has the defaults too, which may stand in the table as well."""
    for key in set(table) - set(wanted):
        there, default = table[key], full.get(key)
        if isinstance(there, MutableMapping) and isinstance(default, Mapping):
            _merge(there, {}, default)
        elif _plain(there) != _plain(default):
            del table[key]
    for key, value in wanted.items():
        there = table.get(key)
        if isinstance(value, Mapping) and isinstance(there, MutableMapping):
            _merge(there, value, full[key])
        elif there is None or _plain(there) != _plain(value):
            table[key] = _item(value, lines=True)


def _item(value: Any, *, lines: bool = False) -> Any:
    """Return *value* for tomlkit; with *lines*, a list of tables gets a line for each."""
    if isinstance(value, Decimal):
        return tomlkit.value(str(value))  # every digit, as it was configured
    if isinstance(value, Mapping):
        inline = tomlkit.inline_table()
        for key, part in value.items():
            inline[key] = _item(part)
        return inline
    if isinstance(value, list | tuple):
        array = tomlkit.array()
        if not (lines and value and all(isinstance(part, Mapping) for part in value)):
            array.extend(map(_item, value))
            return array
        for part in value:
            array.add_line(_item(part), indent="  ")
        array.add_line(indent="")
        return array
    return _plain(value)


def _plain(value: Any) -> Any:
    """Return *value* as TOML has it; None, which only ``snapshots.directory`` can be set to, is the empty string."""
    if hasattr(value, "unwrap"):
        value = value.unwrap()
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Path):
        return str(value)
    return "" if value is None else value


def _without_secrets(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return *values* without secrets, and without the tables that held nothing else."""
    kept: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, SecretStr):
            continue
        part = _without_secrets(value) if isinstance(value, Mapping) else value
        if part != {} or value == {}:
            kept[key] = part
    return kept
