"""Errors as senders see them, family by family and door by door."""

import json
from collections.abc import Iterator

import pytest
import structlog
from starlette.responses import Response

from ostiary.errors import (
    Conflicting,
    Declined,
    Malformed,
    Missing,
    OstiaryError,
    Refused,
    TooLarge,
    Unavailable,
)
from ostiary.ports.storage import StorageFailed
from ostiary.services.api_tokens import ApiTokenExpired, ApiTokenUnknown
from ostiary.storage.errors import ChangeDoesNotFit
from ostiary.web.problems import Door, log_problem, render_problem, status_of


class DatabaseAside(StorageFailed):
    """There is no such planted database."""

    hint = "Look at the planted server."


class CertificateNotPaired(Refused):
    """The certificate is valid, and belongs to another enrollment."""

    hint = "If this device was restored from another's backup, enroll it again."


FAMILIES = (Malformed, TooLarge, Refused, Declined, Missing, Conflicting, Unavailable)


def body(response: Response) -> str:
    return bytes(response.body).decode()


@pytest.mark.parametrize(
    ("family", "device", "enrollment", "nano", "api"),
    [
        (Malformed, 400, 400, 400, 400),
        (TooLarge, 413, 413, 413, 413),
        (Refused, 400, 403, 403, 403),
        (Declined, 410, 403, 409, 409),
        (Missing, 400, 404, 500, 404),
        (Conflicting, 503, 503, 409, 409),
        (Unavailable, 503, 503, 503, 503),
    ],
)
def test_each_family_has_one_status_at_each_door(
    family: type[OstiaryError], device: int, enrollment: int, nano: int, api: int
) -> None:
    """style.md 7, the table."""
    error = family()
    assert status_of(error, Door.DEVICE) == device
    assert status_of(error, Door.ENROLLMENT) == enrollment
    assert status_of(error, Door.NANO) == nano
    assert status_of(error, Door.API) == api


@pytest.mark.parametrize("door", [Door.DEVICE, Door.ENROLLMENT])
@pytest.mark.parametrize(
    "error",
    [
        *(family() for family in FAMILIES),
        ApiTokenUnknown(),
        ApiTokenExpired(),
        ValueError(),
        OSError(),
    ],
)
def test_no_error_tells_a_device_to_leave_management(door: Door, error: Exception) -> None:
    """check-in-and-commands.md 3.7: the fail-safe rule. Neither 401 nor the unrecognized-device body."""
    response = render_problem(error, door, request_id="r")
    assert response.status_code != 401
    assert "www-authenticate" not in response.headers
    assert "unrecognized" not in body(response)
    if door is Door.DEVICE:
        assert response.status_code != 403


@pytest.mark.parametrize("door", Door)
def test_a_fault_of_ours_shows_no_detail(door: Door) -> None:
    """style.md 7: 500, no detail; a reference to the log."""
    for error in (ValueError("planted-secret"), OstiaryError("planted-secret")):
        response = render_problem(error, door, request_id="ref-1")
        assert response.status_code == 500
        assert "planted-secret" not in body(response)
        assert "ref-1" in body(response)


def test_a_device_is_told_the_sentence_and_no_facts() -> None:
    """style.md 7."""
    error = CertificateNotPaired(enrollment_id="4C0E", fingerprint="3F9A")
    response = render_problem(error, Door.DEVICE, request_id="r")
    assert body(response) == "The certificate is valid, and belongs to another enrollment.\n"


@pytest.mark.parametrize("door", [Door.DEVICE, Door.ENROLLMENT])
def test_a_device_is_not_told_what_does_not_fit_our_records(door: Door) -> None:
    """It repeats, and what is in our database is no business of its."""
    response = render_problem(ChangeDoesNotFit("UNIQUE: command.uuid"), door, request_id="ref-1")
    assert response.status_code == 503
    assert body(response) == "Service Unavailable (ref-1)\n"


def test_a_program_is_told_code_title_detail_and_hint() -> None:
    """users.md 3.2: application/problem+json with a stable code and a human title."""
    error = CertificateNotPaired(enrollment_id="4C0E")
    response = render_problem(error, Door.API, request_id="r")
    assert response.headers["content-type"] == "application/problem+json"
    problem = json.loads(body(response))
    assert problem["code"] == "certificate_not_paired"
    assert problem["title"] == error.title
    assert problem["detail"] == f"{error.title} (enrollment_id=4C0E)"
    assert problem["hint"] == error.hint
    assert problem["family"] == "Refused"


def test_nanomdms_users_read_errors_as_nanomdm_writes_them() -> None:
    """users.md 3.4.1: tab-indented JSON."""
    response = render_problem(Malformed("no topic"), Door.NANO, request_id="r")
    assert body(response) == '{\n\t"error": "no topic"\n}\n'


def test_programs_without_a_token_are_asked_to_sign_in() -> None:
    """users.md 3.4.1."""
    response = render_problem(ApiTokenUnknown(), Door.NANO, request_id="r")
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == 'Basic realm="nanomdm"'
    assert body(response).startswith('{\n\t"error": "The request carries no API token')


def test_whoever_is_to_wait_is_told_for_how_long() -> None:
    """style.md 7: 503 and Retry-After."""
    assert render_problem(Unavailable(), Door.API, request_id="r").headers["retry-after"] == "5"


@pytest.fixture
def journal() -> Iterator[list[structlog.typing.EventDict]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def test_an_error_is_logged_once_by_its_facts(journal: list[structlog.typing.EventDict]) -> None:
    """style.md 8: the family gives the level."""
    log_problem(CertificateNotPaired(enrollment_id="4C0E", event="x"))
    log_problem(Unavailable())
    assert [line["log_level"] for line in journal] == ["warning", "error"]
    assert journal[0]["problem"] == "certificate_not_paired"
    assert journal[0]["enrollment_id"] == "4C0E"


def test_a_foreign_exception_is_logged_without_its_text(
    journal: list[structlog.typing.EventDict],
) -> None:
    """style.md 8: never a body or token, not even when parsing fails."""
    planted = "planted-secret"
    try:
        int(planted)
    except ValueError as error:
        log_problem(error)
    assert "planted" not in repr(journal)
    assert journal[0]["exception"] == "ValueError"
    assert "test_problems.py:" in journal[0]["at"]


@pytest.mark.parametrize("door", Door)
def test_only_our_own_command_line_hears_what_is_wrong_with_the_database(door: Door) -> None:
    """Programs may not even be recognized yet: that, too, is asked of the database."""
    error = DatabaseAside("planted detail", host="planted.example", reason="planted reason")
    response = render_problem(error, door, request_id="r")
    assert response.status_code == 503
    assert ("planted" in body(response)) is (door is Door.CONTROL)
