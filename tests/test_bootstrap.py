"""From a configuration to parts: each of them is made once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest

from streamal.bootstrap import build, build_for_figures, parts
from streamal.bootstrap.transports import TRANSPORTS
from streamal.cli import run
from streamal.config import TransportConfig, load_config
from streamal.daemon.daemon import Daemon

FIGURES_ONLY = ["model.factory=no.such.module:build", "sampling.strategy=committee"]


def test_a_start_of_run_builds_each_part_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`streamal run` on SQLite makes one model, one strategy and one budget, checks of the model included."""
    built: Counter[str] = Counter()

    def counting(name: str) -> Any:
        make = getattr(parts, name)

        def build_one(*arguments: Any) -> Any:
            built[name] += 1
            return make(*arguments)

        return build_one

    for name in ("build_model", "build_strategy", "build_budget"):
        monkeypatch.setattr(parts, name, counting(name))
    monkeypatch.setattr(run, "build_model", counting("build_model"))
    monkeypatch.setattr(run, "stop_on_signals", lambda *_: None)
    monkeypatch.setattr(Daemon, "run", Daemon.close)
    monkeypatch.chdir(tmp_path)
    Path("config.toml").touch()
    run.command(overrides=["server.enabled=false"])
    assert built == {"build_model": 1, "build_strategy": 1, "build_budget": 1}


def test_folds_share_nothing() -> None:
    """What one fold's model learns, another fold of the same parts does not know."""
    made = build(load_config(overrides=['labels.classes=["a", "b"]']))
    first = made.new_fold()
    first.learned.model.learn({"x": 1.0}, "a")
    assert made.new_fold().learned.model.learned == made.model.learned == {}
    assert first.learned.model.learned == {"a": 1}


def test_figures_need_no_model() -> None:
    """A command that only counts works where the factory is not installed, and with a strategy that wants votes."""
    fold = build_for_figures(load_config(overrides=FIGURES_ONLY)).new_fold()
    assert "Prior" in fold.learned.model.describe()
    assert fold.learned.start is None
    assert fold.learned.control is None


def test_each_kind_of_transport_is_in_the_registry() -> None:
    """``transport.kind`` takes the registry's kinds, and no other."""
    assert set(get_args(TransportConfig.model_fields["kind"].annotation)) == set(TRANSPORTS)
