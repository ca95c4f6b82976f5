"""The log: structlog straight to a stream, as JSON or for a terminal; foreign libraries are let in by name only."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger
from typing_extensions import override

LogFormat = Literal["auto", "json", "console"]

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}

_facts: ContextVar[dict[str, object]] = ContextVar("facts")
"""What each line says of the request that it is about. One variable for all facts: structlog's own has one for
each, and setting, merging and clearing them cost more than the line. (docs/decisions/0017)"""


@contextmanager
def about_request(request_id: str) -> Iterator[None]:
    """Until the block ends, every line says which request it belongs to, and what was `tell`ed of it."""
    token = _facts.set({"request_id": request_id})
    try:
        yield
    finally:
        _facts.reset(token)


def tell(**facts: object) -> None:
    """Say this of the request, too, on every further line."""
    _facts.get({}).update(facts)


def open_journal(log_format: LogFormat, level: str = "info", stream: TextIO | None = None) -> None:
    """Send all log lines of this process to `stream`, standard error by default.

    Exceptions are logged as facts by whoever catches them (`web/problems.py`); nothing here formats a
    traceback, because a traceback's text may quote what a device sent.
    """
    out = stream if stream is not None else sys.stderr
    last: Processor
    if log_format == "json" or (log_format == "auto" and not out.isatty()):
        last = _render_json
    else:
        last = structlog.dev.ConsoleRenderer(colors=out.isatty())
    structlog.configure(
        processors=[_complete, last],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    _let_in_foreign_loggers()


def _complete(_logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """The line with what is known of its request, its level and moment, and without any traceback."""
    for key in ("exc_info", "stack_info"):
        event.pop(key, None)
    now = datetime.now(UTC)  # noqa: TID251 - a log tells when it was written, whatever the house's clock says
    return {
        **_facts.get({}),
        **event,
        "level": method,
        "timestamp": now.isoformat().replace("+00:00", "Z"),
    }


_encode_json: Final = json.JSONEncoder(default=repr).encode


def _render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return _encode_json(event)


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
