"""``streamal status``: where the daemon stands, read from the topics; it need not be running."""

from __future__ import annotations

import time
from pathlib import Path

from streamal.bootstrap import transports
from streamal.bootstrap.assembly import rules, topic_names
from streamal.cli.options import ConfigPath, Json, Overrides, show
from streamal.config import load_config
from streamal.core.gauges.figures import figures
from streamal.core.gauges.mute import watch
from streamal.core.gauges.spend import bill
from streamal.core.records import OffsetAndMetadata, TopicPartition
from streamal.core.state import TrainerState, decode_states
from streamal.inspection.fold_without_model import counting_fold
from streamal.ports import scan

__all__ = ["command"]

_CLASSES_MAX = 20
"""The commonest classes are shown."""
_TRAINED = (
    "model_failures", "model_sick", "model_quarantined", "quality_accuracy_natural",
    "gain_over_random", "gain_over_random_low", "gain_over_random_high",
)  # fmt: skip
"""What only the trained model tells."""


def command(config: ConfigPath = Path("config.toml"), overrides: Overrides = None, as_json: Json = False) -> None:
    """Show spend, quality, the open queue and the lag, from the topics alone."""
    loaded = load_config(config, overrides or ())
    log = transports.open_log(loaded)
    try:
        fold = counting_fold(loaded)
        topics = topic_names(loaded)
        for partition in range(log.partitions(topics.requests)):
            for record in scan(log, topics.requests, partition):
                fold.request(partition, record.offset, record.key, record.value)
        for record in scan(log, topics.training, 0):
            fold.training(record.offset, record.value)
        committed = log.committed(loaded.transport.group)
        states = decode_states(committed, topics.events)
        now, decided = time.time(), rules(loaded, loaded.transport.partitions)
        shown: dict[str, object] = dict(figures(fold, states, now))
        for name in _TRAINED:
            del shown[name]
        shown["model_quarantined"] = max(
            (state.quarantined for state in states if isinstance(state, TrainerState)), default=0
        )
        untouched = {
            TopicPartition(topics.events, partition): OffsetAndMetadata(0, "")
            for partition in range(decided.partitions)
        }
        known = bill(decided, fold, {**untouched, **committed}, now)
        shown |= {name: value for name, value in known.items() if value is not None}  # only the caps there are
        watched = watch(decided, committed)
        shown |= watched.figures()
        shown["asking"] = (
            f"mute in partitions {', '.join(map(str, watched.mute))}" if watched.mute else "as the budget has it"
        )
        shown["recalls"] = {
            name: read_events.value for name, read_events in list(fold.quality.recalls().items())[:_CLASSES_MAX]
        }
        for name, topic in (("lag_events", topics.events), ("lag_labels", topics.labels)):
            consumed = sum(done.offset for place, done in committed.items() if place.topic == topic)
            shown[name] = sum(log.end(topic, p) for p in range(log.partitions(topic))) - consumed
        shown["dead_letters"] = sum(1 for _ in scan(log, topics.dead_letters, 0))
    finally:
        log.close()
    show(f"{transports.where(loaded)}, group {loaded.transport.group}", shown, as_json)
