"""The doctor's questions about a running house: what will fail, what has failed, and what to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from ostiary.domain.severity import Severity
from ostiary.domain.token import DEFAULT_TENANT, TenantId
from ostiary.errors import Unavailable
from ostiary.ports.clock import Clock
from ostiary.ports.escrow import Escrows
from ostiary.ports.reports import Reports
from ostiary.ports.retention import Walks
from ostiary.ports.storage import PushCertificates, Wakes
from ostiary.services.open_alerts import OpenAlerts
from ostiary.services.resealing import ResealingService, Standing

WARN_BEFORE: Final = timedelta(days=30)
WARN_OF_PUSH_BEFORE: Final = timedelta(days=60)
"""A push certificate is renewed in Apple's portal, by whoever owns its account: that takes longest. (5.6)"""
CRITICAL_BEFORE: Final = timedelta(days=7)
PUSHES_WAIT: Final = timedelta(minutes=5)
"""A push is taken within seconds where somebody pushes; more after a storm, and then the line says so."""
PUSHES_STAND_STILL: Final = timedelta(hours=1)
FIRST_SANE_MOMENT: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""Ostiary did not exist before; a clock that shows less is wrong."""
MOST_ALERTS: Final = 20
_WRITTEN: Final = "doctor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    severity: Severity
    sentence: str
    todo: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dated:
    """Something of ours that ends one day."""

    subject: str
    not_after: datetime
    todo: str
    warn_before: timedelta = WARN_BEFORE


class HealthService:
    """Looks at what only the house knows; files and modes are looked at by the command itself."""

    def __init__(
        self,
        reports: Reports,
        certificates: PushCertificates,
        wakes: Wakes,
        walks: Walks,
        escrows: Escrows,
        clock: Clock,
        dated: Sequence[Dated] = (),
        tenant: TenantId = DEFAULT_TENANT,
        resealing: ResealingService | None = None,
    ) -> None:
        self._reports = reports
        self._open_alerts = OpenAlerts(reports, escrows)
        self._certificates = certificates
        self._wakes = wakes
        self._walks = walks
        self._clock = clock
        self._dated = dated
        self._tenant = tenant
        self._resealing = resealing

    async def examine(self) -> tuple[Finding, ...]:
        """Every finding, good ones too: what is not mentioned was not looked at."""
        now = self._clock.now()
        return (*examine_dated(self._dated, now), *await self._database_findings(now))

    async def _database_findings(self, now: datetime) -> list[Finding]:
        """What only the database can tell; that it cannot is the finding then."""
        try:
            found = [
                *await self._push_findings(now),
                await self._overdue_finding(now),
                *await self._count_findings(),
                *await self._sealing_findings(),
                *await self._alert_findings(),
            ]
        except Unavailable as error:
            return [database_finding(error)]
        return [await self._write_finding(now), *found]

    async def _write_finding(self, now: datetime) -> Finding:
        """Reading is no proof: a full disk, a copy of another server, a file of somebody else's can be read."""
        try:
            await self._walks.save_place(_WRITTEN, now.isoformat())
        except Unavailable as error:
            return database_finding(error)
        return Finding(subject="database", severity=Severity.OK, sentence="It takes changes.")

    async def _push_findings(self, now: datetime) -> list[Finding]:
        certificates = await self._certificates.list_push_certificates(self._tenant)
        if not certificates:
            return [
                Finding(
                    subject="push certificate",
                    severity=Severity.WARNING,
                    sentence="There is none: no device can enroll or be woken.",
                    todo="Ask for one with `ostiary apns csr`, bring it in with `ostiary apns import`.",
                )
            ]
        findings = []
        for certificate in certificates:
            dated = Dated(
                subject=f"push certificate {certificate.topic}",
                not_after=certificate.not_after,
                todo="Renew it in Apple's portal with the same Apple account; do not create a new one.",
                warn_before=WARN_OF_PUSH_BEFORE,
            )
            findings.append(ending(dated, now))
            if certificate.paused_since is not None:
                findings.append(
                    Finding(
                        subject=f"pushes of {certificate.topic}",
                        severity=Severity.CRITICAL,
                        sentence=f"Paused since {certificate.paused_since:%Y-%m-%d %H:%M} UTC: "
                        f"{certificate.paused_reason}. None of its devices is woken.",
                        todo="Import a working certificate of this topic, which ends the pause; or, if APNs was at fault, "
                        f"`ostiary apns resume {certificate.topic}`.",
                    )
                )
        return findings

    async def _overdue_finding(self, now: datetime) -> Finding:
        """Whoever pushes takes what is due at once and puts it off; a push that stays due was taken by nobody."""
        due_at = await self._wakes.next_due_at()
        late = timedelta(0) if due_at is None else now - due_at
        if due_at is None or late < PUSHES_WAIT:
            return Finding(subject="due pushes", severity=Severity.OK, sentence="None is late.")
        return Finding(
            subject="due pushes",
            severity=Severity.CRITICAL if late >= PUSHES_STAND_STILL else Severity.WARNING,
            sentence=f"Nobody pushes: the oldest is due since {due_at:%Y-%m-%d %H:%M} UTC.",
            todo="Is a worker running? `ostiary serve` has one, `ostiary serve --only web` has none; the log of the "
            "worker says what keeps it.",
        )

    async def _count_findings(self) -> list[Finding]:
        counts = await self._reports.count()
        enrolled = sum(counts.enrollments.values())
        dead = Finding(
            subject="push tokens",
            severity=Severity.WARNING if counts.push_dead else Severity.OK,
            sentence=f"{counts.push_dead} of {enrolled} enrollments and user channels have a dead one.",
            todo="These stay enrolled, and nobody can wake them; `ostiary token dead` says what heals each."
            if counts.push_dead
            else "",
        )
        queue = Finding(
            subject="queue",
            severity=Severity.OK,
            sentence=f"{counts.live_commands} commands wait, {counts.wakes} channels are to be pushed.",
        )
        return [dead, queue]

    async def _sealing_findings(self) -> list[Finding]:
        return [] if self._resealing is None else [sealing_finding(await self._resealing.stand())]

    async def _alert_findings(self) -> list[Finding]:
        alerts = await self._open_alerts.list(self._tenant, limit=MOST_ALERTS)
        return [
            Finding(
                subject=f"alert {line.alert.kind}, {line.alert.subject}",
                severity=Severity.WARNING,
                sentence=f"{line.alert.sentence} ({line.count} times, last {line.last_at:%Y-%m-%d %H:%M} UTC)",
            )
            for line in alerts
        ] or [Finding(subject="alerts", severity=Severity.OK, sentence="None.")]


def examine_dated(dated: Sequence[Dated], now: datetime) -> tuple[Finding, ...]:
    """What can be told without the database: the clock, and what it judges."""
    return (_clock_finding(now), *(ending(one, now) for one in dated))


def database_finding(error: Unavailable) -> Finding:
    """What to say of a database that does not do what it is asked: devices are answered 503 meanwhile."""
    said = str(error)
    return Finding(
        subject="database",
        severity=Severity.CRITICAL,
        sentence=f"{said[:1].upper()}{said[1:]}.",
        todo=error.hint,
    )


def sealing_finding(standing: Standing) -> Finding:
    """What to say of a rotation of the sealing keys: it is a warning while older values wait for it."""
    subject, progress = "sealing keys", standing.progress
    if progress is not None and progress.broken:
        return Finding(
            subject=subject,
            severity=Severity.CRITICAL,
            sentence=f"{progress.broken} older values do not open; the log names them (value_does_not_open).",
            todo="`ostiary key check` says whether a key is missing. Restore what was altered from a backup.",
        )
    if not standing.is_rotated:
        said = "Never rotated; every value is under the first epoch."
        return Finding(subject=subject, severity=Severity.OK, sentence=said)
    epochs = ", ".join(f"{epoch} of {tenant}" for tenant, epoch in standing.targets.items())
    if progress is not None and progress.ended_at is not None:
        said = f"All values are under epoch {epochs}, since {progress.ended_at:%Y-%m-%d %H:%M} UTC."
        return Finding(subject=subject, severity=Severity.OK, sentence=said)
    begun = (
        "A worker has not begun."
        if progress is None
        else f"Begun {progress.since:%Y-%m-%d %H:%M} UTC, {progress.resealed} so far."
    )
    return Finding(
        subject=subject,
        severity=Severity.WARNING,
        sentence=f"Older values are being sealed anew under epoch {epochs}. {begun}",
        todo="Is a worker running? It goes on by itself; `ostiary key check` counts what is left.",
    )


def ending(dated: Dated, now: datetime) -> Finding:
    """What to say of something that ends: critical in its last week and after."""
    left = dated.not_after - now
    if left <= timedelta(0):
        sentence, severity = f"Ended on {dated.not_after:%Y-%m-%d}.", Severity.CRITICAL
    else:
        sentence = f"Ends on {dated.not_after:%Y-%m-%d}, in {left.days} days."
        severity = (
            Severity.CRITICAL
            if left < CRITICAL_BEFORE
            else Severity.WARNING
            if left < dated.warn_before
            else Severity.OK
        )
    return Finding(
        subject=dated.subject,
        severity=severity,
        sentence=sentence,
        todo=dated.todo if severity else "",
    )


def _clock_finding(now: datetime) -> Finding:
    if now < FIRST_SANE_MOMENT:
        return Finding(
            subject="clock",
            severity=Severity.CRITICAL,
            sentence=f"It shows {now:%Y-%m-%d}, which cannot be.",
            todo="Set the clock; certificates are judged by it.",
        )
    return Finding(subject="clock", severity=Severity.OK, sentence=f"{now:%Y-%m-%d %H:%M} UTC.")
