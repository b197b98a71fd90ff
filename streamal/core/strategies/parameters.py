"""The parameters of strategies: ``sampling.parameters`` -> a strategy, with an error that names what is wrong.

A parameter is an argument of the function or class that makes the strategy; its default says which type it has.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from streamal.errors import ConfigError

__all__ = ["Recipe", "require_above", "require_within"]

_STARS = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a strategy, or a part of one, is made.

    Attributes:
        make: the function or class that makes it.
        given: arguments that are no parameters, by name; a `Recipe` among them is made first.
    """

    make: Callable[..., Any]
    given: Mapping[str, Any] = field(default_factory=dict)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters by name, with their defaults (``inspect.Parameter.empty`` without one)."""
        arguments = inspect.signature(self.make).parameters.values()
        found = {each.name: each.default for each in arguments if each.kind not in _STARS}
        found = {name: default for name, default in found.items() if name not in self.given}
        for part in self._parts().values():
            found |= part.parameters()
        return found

    def build(self, strategy: str, values: Mapping[str, Any]) -> Any:
        """Return what the recipe makes, with the parameters *values*; *strategy* is for the errors.

        Raises:
            ConfigError: there is no such parameter, one is missing, of the wrong type or out of range.
        """
        parameters = self.parameters()
        for name, value in values.items():
            if name in parameters:
                _require_type(name, value, parameters[name])
            elif not self._takes_any():
                raise ConfigError(
                    f"sampling.parameters: strategy {strategy!r} has no parameter {name!r}, {_list(parameters, 'but')}"
                )
        missing = [name for name, default in parameters.items() if default is inspect.Parameter.empty]
        for name in missing:
            if name not in values:
                raise ConfigError(
                    f"sampling.parameters: strategy {strategy!r} needs the parameter {name!r}; "
                    f"{_list(parameters, 'it takes')}"
                )
        try:
            return self._make(values)
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(f"sampling.parameters: strategy {strategy!r}: {error}") from error

    def _make(self, values: Mapping[str, Any]) -> Any:
        given, left = dict(self.given), dict(values)
        for name, part in self._parts().items():
            given[name] = part._make({one: left.pop(one) for one in part.parameters() if one in left})
        return self.make(**given, **left)

    def _parts(self) -> dict[str, Recipe]:
        return {name: part for name, part in self.given.items() if isinstance(part, Recipe)}

    def _takes_any(self) -> bool:
        arguments = inspect.signature(self.make).parameters.values()
        return any(each.kind is inspect.Parameter.VAR_KEYWORD for each in arguments)


def require_above(name: str, value: float, low: float) -> None:
    """Raise a ValueError unless *value* is above *low*."""
    if not value > low:
        raise ValueError(f"{name} must be above {low:g}, not {value:g}")


def require_within(name: str, value: float, low: float, high: float, *, open_: bool = False) -> None:
    """Raise a ValueError unless *value* is within *low* and *high*; *open_*: neither of the two themselves."""
    if not (low < value < high if open_ else low <= value <= high):
        raise ValueError(f"{name} must be {'between' if open_ else 'within'} {low:g} and {high:g}, not {value:g}")


def _require_type(name: str, value: Any, default: Any) -> None:
    """Raise a ConfigError unless *value* has the type of *default*; None stands for a number that is not set."""
    wanted = None
    if isinstance(default, bool):
        wanted = None if isinstance(value, bool) else "true or false"
    elif default is None or isinstance(default, int | float):
        if isinstance(value, bool) or not isinstance(value, int | float):
            wanted = "a number"
        elif isinstance(default, int) and not isinstance(value, int):
            wanted = "a whole number"
        elif not math.isfinite(value):
            wanted = "a finite number"
    elif isinstance(default, str) and not isinstance(value, str):
        wanted = "a text"
    if wanted is not None:
        raise ConfigError(f"sampling.parameters.{name} must be {wanted}, not {value!r}")


def _list(parameters: Mapping[str, Any], verb: str) -> str:
    return f"{verb} {', '.join(parameters)}" if parameters else "nor any other"
