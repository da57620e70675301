"""Structured logs: one event a line, for people or as JSON, always on stderr. Ids and numbers, never secrets."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog


def configure_logs(style: Literal["human", "json"], level: str, **names: str) -> None:
    """Set up logging for this process; every line carries `names`. Called once by the entry point, never by a library
    user. What other libraries log through the standard library goes the same way, from warnings upwards."""
    logging.basicConfig(stream=sys.stderr, level=max(logging.WARNING, _level(level)))
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_level(level)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(**names)


def _level(name: str) -> int:
    return logging.getLevelNamesMapping()[name.upper()]
