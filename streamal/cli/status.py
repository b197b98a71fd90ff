"""``streamal status``: where the daemon stands, read from the topics; it need not be running."""

from __future__ import annotations

import time
from pathlib import Path

from streamal.assembly import new_fold, topic_names
from streamal.cli import parts
from streamal.cli.options import ConfigPath, Json, Overrides, show
from streamal.config import load_config
from streamal.core.figures import figures
from streamal.core.state import decode_states
from streamal.ports import scan

__all__ = ["command"]

_CLASSES_MAX = 20
"""The commonest classes are shown."""
_NO_MODEL = {"model": {"pipeline": ({"use": "dummy.PriorClassifier"},), "factory": None}}


def command(config: ConfigPath = Path("config.toml"), overrides: Overrides = None, as_json: Json = False) -> None:
    """Show spend, quality, the open queue and the lag, from the topics alone."""
    loaded = load_config(config, overrides or ())
    log = parts.open_log(loaded)
    try:
        # counting needs no model: whatever it is, it is not trained again here
        fold = new_fold(loaded.model_copy(update={"model": loaded.model.model_copy(update=_NO_MODEL["model"])}))
        topics = topic_names(loaded)
        for partition in range(log.partitions(topics.requests)):
            for record in scan(log, topics.requests, partition):
                fold.request(partition, record.offset, record.key, record.value)
        for record in scan(log, topics.training, 0):
            fold.training(record.offset, record.value)
        committed = log.committed(loaded.transport.group)
        states = decode_states(committed, topics.events)
        shown: dict[str, object] = dict(figures(fold, states, time.time(), loaded.budget.cost_per_label))
        del shown["model_failures"]  # only training tells
        shown["recalls"] = {name: recall.value for name, recall in list(fold.quality.recalls().items())[:_CLASSES_MAX]}
        for name, topic in (("lag_events", topics.events), ("lag_labels", topics.labels)):
            consumed = sum(done.offset for place, done in committed.items() if place.topic == topic)
            shown[name] = sum(log.end(topic, p) for p in range(log.partitions(topic))) - consumed
        shown["dead_letters"] = sum(1 for _ in scan(log, topics.dead_letters, 0))
    finally:
        log.close()
    show(f"{parts.where(loaded)}, group {loaded.transport.group}", shown, as_json)
