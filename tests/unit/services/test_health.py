"""What the doctor says of things that end, and of a clock that cannot be right."""

from datetime import UTC, datetime, timedelta

import pytest

from ostiary.domain.decision import Alert
from ostiary.domain.token import TenantId
from ostiary.ports.reports import AlertLine, Counts
from ostiary.ports.storage import PushCertificate
from ostiary.services.health import (
    WARN_OF_PUSH_BEFORE,
    Dated,
    Finding,
    HealthService,
    Severity,
    ending,
)

NOW = datetime(2026, 6, 1, tzinfo=UTC)
TENANT = TenantId("default")


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


async def examine(
    reports: FakeReports, now: datetime = NOW, due_at: datetime | None = None
) -> dict[str, Finding]:
    service = HealthService(reports, NoCertificates(), FakeWakes(due_at), FixedClock(now))  # type: ignore[arg-type]  # fakes of what is asked
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
    alert = Alert(tenant=TENANT, subject="A", kind="contested", sentence="Two devices claim A.")
    line = AlertLine(alert=alert, count=3, first_at=NOW, last_at=NOW)
    found = (await examine(FakeReports(alerts=(line,))))["alert contested, A"]
    assert found.severity is Severity.WARNING
    assert found.sentence.startswith("Two devices claim A. (3 times")


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
