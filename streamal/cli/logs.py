"""Structured logs on standard error: JSON for machines, columns for people. They never hold a payload or a secret.

Each line of streamal has an event name that stays the same (docs/logs.md lists them all). What a library writes to
Python's own logging becomes the event ``library``, from warnings on.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from streamal.cli.console import plain, plain_block
from streamal.config import LogConfig

__all__ = ["set_up_logs"]

_CLIENTS = ("kafka", "confluent_kafka")


def set_up_logs(config: LogConfig) -> None:
    """Configure structlog; with format "auto" a terminal gets columns and anything else JSON."""
    json = config.format == "json" or (config.format == "auto" and not sys.stderr.isatty())
    plain_traceback = structlog.dev.plain_traceback  # Rich's shows local variables, which may hold a payload
    columns = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain_traceback)
    rendering: list[Any] = (
        [structlog.processors.JSONRenderer()]
        if json
        else [structlog.processors.format_exc_info, _make_plain, columns]  # JSON escapes by itself
    )
    common: list[Any] = [structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)]
    structlog.configure(
        processors=[*common, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, config.level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    formatting: list[Any] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
    ]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=[*common, _library], processors=[*formatting, *rendering])
    )
    if config.level != "debug":
        handler.addFilter(_is_no_chatter)  # not a level of their loggers: the edge listens there for reasons
    logging.basicConfig(
        handlers=[handler], level=max(logging.WARNING, getattr(logging, config.level.upper())), force=True
    )


def _is_no_chatter(record: logging.LogRecord) -> bool:
    """Tell whether a line is none of the Kafka clients': those complain often while a broker is away."""
    return record.name.split(".")[0] not in _CLIENTS or record.levelno >= logging.CRITICAL


def _library(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Give the line of a library the event name ``library``, and the name of its logger."""
    line["message"], line["event"] = line["event"], "library"
    line["logger"] = line["_record"].name
    return line


def _make_plain(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Make each text of a line plain for a terminal; a traceback keeps its lines (F70)."""
    for name, value in line.items():
        if isinstance(value, str):
            line[name] = plain_block(value) if name in ("exception", "stack") else plain(value)
    return line
