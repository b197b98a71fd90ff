"""The settings of the loop from a `Config`, and the fingerprint of its snapshots."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from importlib.metadata import version

from streamal.bootstrap.model import build_embedding, least_propensity
from streamal.config import Config
from streamal.core.budget.sampler import Budget
from streamal.core.rules import Rules
from streamal.core.strategies import Strategy, requirements_of
from streamal.daemon.daemon import Settings

__all__ = ["build_settings", "fingerprint"]


def build_settings(config: Config, rules: Rules, fingerprint: str) -> Settings:
    """Return how the loop runs."""
    return Settings(
        rules=rules,
        fingerprint=fingerprint,
        events_per_step=config.limits.events_per_step,
        labels_per_step=config.limits.labels_per_step,
        step_bytes=config.limits.step_bytes,
        step_target_s=config.limits.step_target_s,
        poll_timeout_s=config.transport.poll_timeout_s,
        group=config.transport.group,
        snapshot_every_s=config.snapshots.every_s,
        clock_jump_s=config.limits.clock_jump_s,
        clock_settle_s=config.limits.clock_settle_s,
    )


def fingerprint(
    config: Config, budget: Budget, strategy: Strategy, model_bytes: bytes | None, warm_start: str | None
) -> str:
    """Return a digest of whatever changes what the same log folds to, or how a fold is pickled (fault F41).

    *model_bytes* is the untrained model, None if it cannot be pickled: there is no snapshot of it then. *warm_start* is
    the SHA-256 of the file that the model begins with.
    """
    embedding = build_embedding(config)
    parts = {
        "streamal": version("streamal"),
        "river": version("river"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "hash_seed": os.environ.get("PYTHONHASHSEED", "random"),
        "config": config.model_dump(
            mode="json",
            include={"model", "features", "labels", "topics", "quality", "limits"},
            # no matter to what is folded
            exclude={
                "limits": {
                    "step_target_s",
                    "poison_attempts",
                    "step_max_s",
                    "clock_jump_s",
                    "clock_settle_s",
                    "step_bytes",
                    "open_bytes",
                }
            },
        ),
        "embedding": {} if embedding is None else embedding.identities(),
        # a factory of the user's own may change its model without any change of the configuration
        "model": (model_bytes or b"").hex() if config.model.factory else "",
        "start": warm_start,
        "floor": least_propensity(config, budget),
        # what else decides how the log is folded: importance weights, and whose propensities are rewarded
        "sampling": [
            config.sampling.strategy,
            sorted(map(str, config.sampling.parameters.items())),
            str(config.budget.share) if requirements_of(strategy).weighted else "",
        ],
        "transport": config.transport.model_dump(mode="json", include={"kind", "path", "group"}),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
