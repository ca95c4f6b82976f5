"""What the doctor says of things that end, and of a clock that cannot be right."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typing_extensions import override

from ostiary.domain.decision import Alert
from ostiary.domain.escrow import Escrow
from ostiary.domain.severity import Severity
from ostiary.domain.token import Holder, TenantId
from ostiary.ports.reports import AlertLine, Counts
from ostiary.ports.storage import PushCertificate, StorageFailed
from ostiary.services.health import (
    WARN_OF_PUSH_BEFORE,
    Dated,
    Finding,
    HealthService,
    ending,
)

NOW = datetime(2026, 6, 1, tzinfo=UTC)
TENANT = TenantId("default")
CA = Dated(subject="device CA", not_after=NOW + timedelta(days=900), todo="Plan it.")


class FixedClock:
    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment


class FakeReports:
    """Counts and alerts; nothing else is asked."""

    def __init__(self, push_dead: int = 0, alerts: tuple[AlertLine, ...] = ()) -> None:
        self.push_dead = push_dead
        self.alerts = alerts

    async def count(self) -> Counts:
        return Counts(
            enrollments={("Device", "enrolled"): 3},
            live_commands=1,
            wakes=2,
            push_dead=self.push_dead,
            alerts=len(self.alerts),
            tokens={},
        )

    async def list_alerts(self, tenant: TenantId, *, limit: int) -> tuple[AlertLine, ...]:
        assert tenant == TENANT
        return self.alerts[:limit]


class NoEscrows:
    async def find(self, tenant: TenantId, holder: Holder) -> tuple[Escrow, ...]:
        assert tenant == TENANT
        assert holder
        return ()


class NoCertificates:
    async def list_push_certificates(self, tenant: TenantId) -> tuple[PushCertificate, ...]:
        assert tenant == TENANT
        return ()


class FakeWakes:
    """Only when the next one is due."""

    def __init__(self, due_at: datetime | None) -> None:
        self.due_at = due_at

    async def next_due_at(self) -> datetime | None:
        return self.due_at


class FakeWalks:
    """A place that can be written, or cannot."""

    def __init__(self, trouble: StorageFailed | None) -> None:
        self.trouble = trouble

    async def save_place(self, walk: str, place: str) -> None:
        assert walk
        assert place
        if self.trouble is not None:
            raise self.trouble


async def examine(
    reports: FakeReports,
    now: datetime = NOW,
    due_at: datetime | None = None,
    writing: StorageFailed | None = None,
) -> dict[str, Finding]:
    asked: dict[str, Any] = {
        "reports": reports,
        "certificates": NoCertificates(),
        "wakes": FakeWakes(due_at),
        "walks": FakeWalks(writing),
        "escrows": NoEscrows(),
    }
    service = HealthService(**asked, clock=FixedClock(now), dated=[CA])
    return {finding.subject: finding for finding in await service.examine()}


@pytest.mark.parametrize(
    ("left", "severity"),
    [
        (timedelta(days=31), Severity.OK),
        (timedelta(days=29), Severity.WARNING),
        (timedelta(days=6), Severity.CRITICAL),
        (timedelta(0), Severity.CRITICAL),
        (timedelta(days=-400), Severity.CRITICAL),
    ],
)
def test_what_ends_is_told_in_time(left: timedelta, severity: Severity) -> None:
    """A warning a month before, and loud in the last week."""
    finding = ending(Dated(subject="device CA", not_after=NOW + left, todo="Renew it."), NOW)
    assert finding.severity is severity
    assert bool(finding.todo) is (severity is not Severity.OK)


async def test_dead_push_tokens_are_counted() -> None:
    """The doctor's list: dead push tokens."""
    assert (await examine(FakeReports()))["push tokens"].severity is Severity.OK
    found = (await examine(FakeReports(push_dead=2)))["push tokens"]
    assert found.severity is Severity.WARNING
    assert "2 of 3" in found.sentence


async def test_an_alert_is_told_with_its_sentence() -> None:
    """Status words that do not say what to do are hated. (users.md 4.3)"""
    alert = Alert(
        tenant=TENANT, subject="A", kind="topic-not-held", sentence="Nobody holds the topic of A."
    )
    line = AlertLine(alert=alert, count=3, first_at=NOW, last_at=NOW)
    found = (await examine(FakeReports(alerts=(line,))))["alert topic-not-held, A"]
    assert found.severity is Severity.WARNING
    assert found.sentence.startswith("Nobody holds the topic of A. (3 times")


async def test_a_clock_before_our_time_is_critical() -> None:
    """users.md 5.4 case 58: NTP missing at start."""
    found = await examine(FakeReports(), datetime(1970, 1, 1, tzinfo=UTC))
    assert found["clock"].severity is Severity.CRITICAL


def test_a_push_certificate_is_told_of_two_months_before_its_end() -> None:
    """Whoever owns the Apple account has to be found first. (check-in-and-commands.md 5.6)"""
    for left, severity in ((61, Severity.OK), (59, Severity.WARNING), (6, Severity.CRITICAL)):
        dated = Dated(
            subject="push certificate",
            not_after=NOW + timedelta(days=left),
            todo="Renew it.",
            warn_before=WARN_OF_PUSH_BEFORE,
        )
        assert ending(dated, NOW).severity is severity


@pytest.mark.parametrize(
    ("late", "severity"),
    [
        (None, Severity.OK),
        (timedelta(days=-1), Severity.OK),
        (timedelta(minutes=4), Severity.OK),
        (timedelta(minutes=5), Severity.WARNING),
        (timedelta(minutes=59), Severity.WARNING),
        (timedelta(hours=1), Severity.CRITICAL),
    ],
)
async def test_a_push_that_nobody_took_is_told_of(
    late: timedelta | None, severity: Severity
) -> None:
    """Where only `--only web` processes run, devices are answered and none is ever woken."""
    due_at = None if late is None else NOW - late
    found = (await examine(FakeReports(), due_at=due_at))["due pushes"]
    assert found.severity is severity
    if severity:
        assert "Nobody pushes" in found.sentence
        assert "Is a worker running?" in found.todo


class BrokenReports(FakeReports):
    """The database went away."""

    @override
    async def count(self) -> Counts:
        raise StorageFailed("the database cannot be reached", host="db")


async def test_a_database_that_can_only_be_read_is_critical() -> None:
    """Devices are answered 503, and each list that the doctor reads looks fine."""
    assert (await examine(FakeReports()))["database"].severity is Severity.OK
    found = await examine(FakeReports(), writing=StorageFailed("the database refused"))
    assert found["database"].severity is Severity.CRITICAL
    assert found["database"].sentence == "The database refused."
    assert found["database"].todo
    assert found["push tokens"].severity is Severity.OK


async def test_what_needs_no_database_is_looked_at_without_one() -> None:
    found = await examine(BrokenReports())
    assert {subject: one.severity.name for subject, one in found.items()} == {
        "clock": "OK", "device CA": "OK", "database": "CRITICAL",
    }  # fmt: skip
    assert found["database"].sentence == "The database cannot be reached (host=db)."
