"""The log: structlog straight to a stream, as JSON or for a terminal; foreign libraries are let in by name only."""

import logging
import sys
from typing import Final, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger
from typing_extensions import override

LogFormat = Literal["auto", "json", "console"]

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def open_journal(log_format: LogFormat, level: str = "info", stream: TextIO | None = None) -> None:
    """Send all log lines of this process to `stream`, standard error by default.

    Exceptions are logged as facts by whoever catches them (`web/problems.py`); nothing here formats a
    traceback, because a traceback's text may quote what a device sent.
    """
    out = stream if stream is not None else sys.stderr
    last: Processor
    if log_format == "json" or (log_format == "auto" and not out.isatty()):
        last = structlog.processors.JSONRenderer()
    else:
        last = structlog.dev.ConsoleRenderer(colors=out.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _without_tracebacks,
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    _let_in_foreign_loggers()


def _without_tracebacks(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for key in ("exc_info", "stack_info"):
        event.pop(key, None)
    return event


class _Foreign(logging.Handler):
    """Passes on what a library logs through the standard library: its fixed message, no arguments, no traceback."""

    @override
    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            structlog.get_logger().warning(
                "library_says", library=record.name, said=str(record.msg).strip()
            )


def _let_in_foreign_loggers() -> None:
    root = logging.getLogger()
    root.handlers = [_Foreign()]
    root.setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = name != "uvicorn.access"
