"""Structured logs on standard error: JSON for machines, columns for people. Never a payload, never a secret."""

from __future__ import annotations

import logging
import sys

import structlog

from streamal.config import LogConfig

__all__ = ["set_up_logs"]


def set_up_logs(config: LogConfig) -> None:
    """Configure structlog; with format "auto" a terminal gets columns and anything else JSON."""
    json = config.format == "json" or (config.format == "auto" and not sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, config.level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
