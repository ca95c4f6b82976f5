"""The log: lines of JSON, and no traceback whoever raises."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from installation import journal_as_before
from ostiary.web.journal import open_journal


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    with journal_as_before():
        open_journal("json", stream=stream)
        yield stream


def test_a_line_carries_what_was_bound(out: io.StringIO) -> None:
    """style.md 8: contextvars, so nobody passes a logger around."""
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        structlog.get_logger().info("token_update_accepted", size=32)
    line = json.loads(out.getvalue())
    assert line["event"] == "token_update_accepted"
    assert (line["request_id"], line["size"], line["level"]) == ("r1", 32, "info")
    assert line["timestamp"].endswith("Z")


def test_no_traceback_is_written(out: io.StringIO) -> None:
    """users.md 5.4 case 60: a traceback quotes what it stumbled over."""
    try:
        raise ValueError("planted-secret")
    except ValueError:
        structlog.get_logger().error("failed", exc_info=True)
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application %s", "planted")
    assert "planted" not in out.getvalue()
    assert "Traceback" not in out.getvalue()
    assert "Exception in ASGI application" in out.getvalue()


def test_a_librarys_chatter_stays_out(out: io.StringIO) -> None:
    """One line for each request is ours."""
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("uvicorn.access").warning("GET /enroll?code=planted")
    assert out.getvalue() == ""
