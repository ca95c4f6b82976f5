"""The renewal of identities in memory: the same looks and moves, over dictionaries."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from ostiary.domain.decision import Alert
from ostiary.domain.enrollment import Binding, EnrollmentKey
from ostiary.domain.renewal import CommandSight, Renewal, RenewalPhase, Sight, in_order
from ostiary.domain.renewal_wave import Tally
from ostiary.ports.renewals import EndingPlace
from ostiary.storage.memory.store import Store
from ostiary.storage.memory.tables import Tables
from ostiary.storage.memory.write import raise_alert


class MemoryRenewals:
    """What the renewal of identities asks, of dictionaries."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def list_ending(
        self, after: EndingPlace | None, until: datetime, *, limit: int
    ) -> tuple[Binding, ...]:
        return tuple(self._ending(after, until)[:limit])

    async def list_unscheduled(
        self, after: EndingPlace | None, until: datetime, *, limit: int
    ) -> tuple[Binding, ...]:
        known = self._store.tables.renewals
        found = [one for one in self._ending(after, until) if one.enrollment_key not in known]
        return tuple(found[:limit])

    async def look(self, keys: Sequence[EnrollmentKey]) -> tuple[Sight, ...]:
        tables = self._store.tables
        wanted = dict.fromkeys(keys)
        return tuple(_look(tables, key) for key in wanted if key in tables.enrollments)

    async def list_looks(self, now: datetime, *, limit: int) -> tuple[EnrollmentKey, ...]:
        return self._keys(lambda one: not one.phase.wants_turn, now, limit)

    async def list_due(self, now: datetime, *, limit: int) -> tuple[EnrollmentKey, ...]:
        return self._keys(lambda one: one.phase.wants_turn, now, limit)

    async def list_canaries(self, *, limit: int) -> tuple[Renewal, ...]:
        known = sorted(self._store.tables.renewals.items())
        return tuple(one for _, one in known if one.is_canary)[:limit]

    async def tally(self, now: datetime) -> Tally:
        hour, day = now - timedelta(hours=1), now - timedelta(days=1)
        known = self._store.tables.renewals.values()

        def asked(since: datetime) -> int:
            return sum(one.asked_at is not None and since < one.asked_at <= now for one in known)

        def finished(phase: RenewalPhase) -> int:
            return sum(
                one.phase is phase and one.finished_at is not None and day < one.finished_at <= now
                for one in known
            )

        return Tally(
            asked_last_hour=asked(hour),
            asked_last_day=asked(day),
            completed_last_day=finished(RenewalPhase.COMPLETED),
            failed_last_day=finished(RenewalPhase.FAILED),
        )

    async def schedule(self, renewals: Sequence[Renewal]) -> None:
        with self._store.writing() as tables:
            for one in renewals:
                if one.enrollment_key in tables.enrollments:
                    tables.renewals.setdefault(one.enrollment_key, one)

    async def move(
        self,
        before: Renewal | None,
        after: Renewal | None,
        at: datetime,
        alerts: Sequence[Alert] = (),
    ) -> bool:
        with self._store.writing() as tables:
            if not _move(tables, before, after):
                return False
            for alert in alerts:
                raise_alert(tables, alert, at)
        return True

    def _ending(self, after: EndingPlace | None, until: datetime) -> list[Binding]:
        return [
            one
            for one in in_order(self._store.tables.bindings.values())
            if one.superseded_at is None
            and one.not_after <= until
            and (
                after is None
                or (one.not_after, one.fingerprint) > (after.not_after, after.fingerprint)
            )
        ]

    def _keys(
        self, belongs: Callable[[Renewal], bool], now: datetime, limit: int
    ) -> tuple[EnrollmentKey, ...]:
        known = sorted(self._store.tables.renewals.values(), key=lambda one: one.look_at)
        found = [one.enrollment_key for one in known if belongs(one) and one.look_at <= now]
        return tuple(found[:limit])


def _move(tables: Tables, before: Renewal | None, after: Renewal | None) -> bool:
    named = before or after
    if named is None:
        return True
    known = tables.renewals.get(named.enrollment_key)
    if (known and known.version) != (before and before.version):
        return False
    if after is None:
        del tables.renewals[named.enrollment_key]
        return True
    if named.enrollment_key not in tables.enrollments:
        return False
    version = after.version if before is None else before.version + 1
    tables.renewals[named.enrollment_key] = replace(after, version=version)
    return True


def _look(tables: Tables, key: EnrollmentKey) -> Sight:
    bound = (one for one in tables.bindings.values() if one.enrollment_key == key)
    renewal = tables.renewals.get(key)
    return Sight(
        enrollment=tables.enrollments[key],
        bindings=in_order(one for one in bound if one.superseded_at is None),
        renewal=renewal,
        command=_command(tables, renewal),
    )


def _command(tables: Tables, renewal: Renewal | None) -> CommandSight | None:
    if renewal is None or renewal.command_uuid is None:
        return None
    place = (renewal.enrollment_key, renewal.command_uuid)
    if (live := tables.commands.get(place)) is not None:
        return CommandSight(state=live.state, hand_outs=live.hand_outs)
    if (closed := tables.closed.get(place)) is None:
        return None
    return CommandSight(
        state=closed.state,
        hand_outs=closed.hand_outs,
        closed_at=closed.closed_at,
        result=closed.result,
    )
