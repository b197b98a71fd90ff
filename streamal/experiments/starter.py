"""The configuration to begin with: the features and classes of a recording, as a live daemon should see them."""

from __future__ import annotations

from streamal.config import Config
from streamal.errors import ConfigError
from streamal.experiments.config_file import render_config
from streamal.experiments.overrides import with_sections
from streamal.recordings.flat_json import is_flat_json
from streamal.recordings.profile import Profile
from streamal.recordings.reading import Stream
from streamal.replay.replay import stream_config

__all__ = ["render_start", "starting_config"]


def starting_config(stream: Stream, found: Profile, config: Config | None = None) -> Config:
    """Return *config* for a daemon that is to be sent the events of *stream*.

    Columns that look like an identifier, the label or the future are no declared features. What the recording spells
    as missing is missing for the daemon too. Where the file's JSON lines are flat, so are the events.

    Raises:
        ConfigError: the label is no class, so no configuration makes sense of it.
    """
    for suspicion in found.suspicions:
        if suspicion.kind == "target" or (suspicion.kind == "classes" and len(found.classes) == 1):
            raise ConfigError(f"{stream.name}: no configuration fits: {suspicion.text}; {suspicion.advice}")
    given = config or Config()
    fitted = stream_config(given, stream)
    features: dict[str, object] = {}
    if not given.features.declared and not given.features.open:
        out = set(found.to_leave_out())
        features["declared"] = {name: kind for name, kind in stream.kinds.items() if name not in out}
    return with_sections(fitted, {"features": features}, {"events": _events(stream, given)})


def render_start(stream: Stream, found: Profile, config: Config, existing: str = "") -> str:
    """Return *config*, made by `starting_config`, as a commented ``config.toml``; see `render_config`."""
    out = [suspicion for suspicion in found.suspicions if suspicion.column in found.to_leave_out()]
    names = "; ".join(suspicion.text for suspicion in out)
    return render_config(
        config,
        [
            f"To begin with, by `streamal look` on {len(stream.rows):,} events of {stream.name}.",
            f"No declared feature, so dropped by the daemon: {names}." if out else "Each of its features is declared.",
            "Next: `streamal check`, then `streamal replay STREAM --label COLUMN --config THIS_FILE`.",
        ],
        existing,
    )


def _events(stream: Stream, config: Config) -> dict[str, str]:
    """Return the keys of ``events`` where JSON lines are flat objects: the time is a field among the features."""
    if config.events.format == "flat" or not is_flat_json(stream.name):
        return {}
    times = [column.name for column in stream.columns.values() if column.role == "time"]
    return {"format": "flat", **({"time": times[0]} if times else {})}
