"""Configurations that differ from a given one in some keys: `with_sections`, and the changes that experiments share."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from streamal.config import Config
from streamal.errors import ConfigError

__all__ = ["ASK_ALL", "FRESH_MODEL", "with_sections"]

ASK_ALL: Mapping[str, Any] = {
    "sampling": {"strategy": "fixed", "damping": None, "parameters": {"threshold": 1.0}},
    "budget": {
        **dict.fromkeys(("per_hour", "per_day", "pace_horizon_s", "cost_per_hour", "cost_per_day", "cost_per_month")),
        "share": Decimal(1),
        "quotas": {},
    },
    "limits": {"open_requests": 1_000_000_000},
}
"""Ask for every label, whatever else is configured."""
FRESH_MODEL: Mapping[str, Any] = {"model": {"pipeline": (), "factory": None, "warm_start": None}}
"""Remove the configured model, so that a model of the search takes its place."""


def with_sections(config: Config, *sections: Mapping[str, Any]) -> Config:
    """Return *config* with the keys of *sections* set, one section after the other.

    Another strategy begins without the parameters of the one before.

    Raises:
        ConfigError: the keys do not fit together.
    """
    values = config.model_dump()
    for section in sections:
        for name, keys in section.items():
            if name == "sampling" and keys.get("strategy", values[name]["strategy"]) != values[name]["strategy"]:
                values[name] = {**values[name], "parameters": {}}
            values[name] = {**values[name], **keys}
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the configuration"
        raise ConfigError(f"{key}: {str(first['msg']).removeprefix('Value error, ')}") from error
