"""Settings as a commented ``config.toml``: only what differs from the defaults, in the order of the reference."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from streamal.config import Config

__all__ = ["toml_of"]

_SECRETS = {"transport": {"security": {"sasl_password", "ssl_key_password"}}}
_COMMENTS: Mapping[str, str] = {
    "features": "as in the recording; an event may lack some of them",
    "labels": "as in the recording",
    "model": "declared, never evaluated: classes of River",
    "sampling": "whom to ask",
    "budget": "how much may be asked, as a hard limit",
    "limits": "events_per_step is the size of the loop: events that are predicted by the same model",
}


def toml_of(config: Config, remarks: Sequence[str] = ()) -> str:
    """Return *config* as TOML that loads to the same configuration, but for secrets: these are never written.

    >>> print(toml_of(Config.model_validate({"budget": {"share": "0.05"}}), ["Five in a hundred."]), end="")
    # Five in a hundred.
    <BLANKLINE>
    [budget]  # how much may be asked, as a hard limit
    share = 0.05
    """
    values = config.model_dump(exclude_defaults=True, exclude=_SECRETS)
    lines = [
        line for remark in remarks for line in textwrap.wrap(remark, 108, initial_indent="# ", subsequent_indent="#   ")
    ]
    for section, keys in values.items():
        comment = f"  # {_COMMENTS[section]}" if section in _COMMENTS else ""
        # the only keys whose None is no default: none of them can be set to nothing but the directory
        given = {key: "" if value is None else value for key, value in keys.items()}
        lines += ["", f"[{section}]{comment}", *(f"{_key(key)} = {_lines(value)}" for key, value in given.items())]
    return "\n".join(lines).strip() + "\n"


def _lines(value: Any) -> str:
    """Return a value; a list of tables gets a line for each."""
    if isinstance(value, list | tuple) and value and all(isinstance(item, Mapping) for item in value):
        return "[\n" + "".join(f"  {_value(item)},\n" for item in value) + "]"
    return _value(value)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float | Decimal):
        return str(value)
    if isinstance(value, Mapping):
        return (
            "{ " + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + " }" if value else "{}"
        )
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _value(name)
