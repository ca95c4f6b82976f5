"""The log: lines of JSON, and no traceback whoever raises."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from installation import journal_as_before
from ostiary.web.journal import about_request, open_journal, tell


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    with journal_as_before():
        open_journal("json", stream=stream)
        yield stream


def test_a_line_carries_what_is_known_of_its_request(out: io.StringIO) -> None:
    """style.md 8: nobody passes a logger around."""
    with about_request("r1"):
        tell(message="TokenUpdate")
        structlog.get_logger().info("token_update_accepted", size=32)
    line = json.loads(out.getvalue())
    assert line["event"] == "token_update_accepted"
    assert (line["request_id"], line["size"], line["level"]) == ("r1", 32, "info")
    assert line["message"] == "TokenUpdate"
    assert line["timestamp"].endswith("Z")


def test_a_line_after_a_request_says_nothing_of_it(out: io.StringIO) -> None:
    with about_request("r1"):
        tell(message="TokenUpdate")
    tell(message="nobody's")
    structlog.get_logger().warning("late")
    line = json.loads(out.getvalue())
    assert line.keys() == {"event", "level", "timestamp"}


async def test_requests_at_the_same_time_are_told_apart(out: io.StringIO) -> None:
    async def answer(name: str) -> None:
        with about_request(name):
            await asyncio.sleep(0)
            tell(enrollment_id=name)
            await asyncio.sleep(0)
            structlog.get_logger().info("answered")

    await asyncio.gather(answer("r1"), answer("r2"))
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(line["request_id"], line["enrollment_id"]) for line in lines] == [
        ("r1", "r1"),
        ("r2", "r2"),
    ]


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
