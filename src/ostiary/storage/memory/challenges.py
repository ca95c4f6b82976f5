"""Invitations and challenges in memory."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from ostiary.domain.decision import AuditEntry
from ostiary.domain.enrollment import Bound, Credential, Enrollment, EnrollmentKey, Standing
from ostiary.domain.invitation import Challenge, Invitation, Spend
from ostiary.domain.token import Fingerprint, KeyedDigest, TenantId, TokenState, TokenStep
from ostiary.storage.errors import ChallengeUnknown, ChangeDoesNotFit
from ostiary.storage.ledger import challenge_record
from ostiary.storage.memory.store import Store
from ostiary.storage.memory.tables import Tables
from ostiary.storage.memory.write import add_audit, add_record, step_record
from ostiary.storage.wording import REPLACED, USED, WITHDRAWN

Found = tuple[Challenge, Invitation | None, bytes | None]


class MemoryChallenges:
    """Invitations, challenges and credentials in dictionaries."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def add_invitation(self, invitation: Invitation, audit: AuditEntry) -> None:
        with self._store.writing() as tables:
            known = tables.invitations.values()
            if any(one.id == invitation.id or one.code == invitation.code for one in known):
                raise ChangeDoesNotFit("the invitation exists")
            tables.invitations[invitation.id] = invitation
            add_audit(tables, audit, invitation.created_at)

    async def find_invitation(self, code: KeyedDigest) -> Invitation | None:
        known = self._store.tables.invitations.values()
        return next((one for one in known if one.code == code), None)

    async def add_challenge(self, challenge: Challenge, *, replaces: bool = False) -> None:
        with self._store.writing() as tables:
            known = tables.challenges.values()
            if any(one.id == challenge.id or one.digest == challenge.digest for one in known):
                raise ChangeDoesNotFit("the challenge exists")
            if challenge.invitation_id not in (None, *tables.invitations):
                raise ChangeDoesNotFit("no such invitation")
            if replaces:
                for one in _unused(tables, challenge.tenant, challenge.bound, challenge.created_at):
                    if one.purpose is challenge.purpose:
                        _end(tables, one, TokenState.SUPERSEDED, REPLACED, challenge.created_at)
            tables.challenges[challenge.id] = challenge
            add_record(tables, challenge_record(challenge))

    async def withdraw_challenges(
        self,
        tenant: TenantId,
        *,
        serial_number: str | None,
        enrollment_key: EnrollmentKey,
        at: datetime,
    ) -> None:
        bound = Bound(serial_number=serial_number, enrollment_key=enrollment_key)
        with self._store.writing() as tables:
            for one in _unused(tables, tenant, bound, at):
                _end(tables, one, TokenState.REVOKED, WITHDRAWN, at)

    async def find_challenge(self, digest: KeyedDigest) -> Found | None:
        return _find(self._store.tables, digest)

    async def spend(
        self, digest: KeyedDigest, rule: Callable[[Challenge, Invitation | None], Spend | None]
    ) -> bytes:
        if (found := _find(self._store.tables, digest)) is None:
            raise ChallengeUnknown
        challenge, invitation, certificate = found
        if (spend := rule(challenge, invitation)) is not None:
            with self._store.writing() as tables:
                _spend(tables, spend)
            return spend.certificate
        if certificate is None:
            raise ChangeDoesNotFit("no certificate was issued for this challenge")
        return certificate

    async def add_credential(self, credential: Credential, certificate: bytes) -> None:
        with self._store.writing() as tables:
            _add_credential(tables, credential, certificate)

    async def count_renewals(self, key: EnrollmentKey, *, since: datetime) -> int:
        issued = [one for one, _ in self._store.tables.credentials.values()]
        return sum(one.bound.enrollment_key == key and one.issued_at >= since for one in issued)

    async def find_renewable(self, fingerprint: Fingerprint) -> Enrollment | None:
        tables = self._store.tables
        binding = tables.bindings.get(fingerprint)
        if binding is None or binding.superseded_at is not None:
            return None
        row = tables.enrollments[binding.enrollment_key]
        return None if row.standing is Standing.ENDED else row


def _find(tables: Tables, digest: KeyedDigest) -> Found | None:
    challenge = next((one for one in tables.challenges.values() if one.digest == digest), None)
    if challenge is None:
        return None
    invitation = certificate = None
    if challenge.invitation_id is not None:
        invitation = tables.invitations.get(challenge.invitation_id)
    if challenge.issued is not None:
        _, certificate = tables.credentials[challenge.issued]
    return challenge, invitation, certificate


def _unused(tables: Tables, tenant: TenantId, bound: Bound, now: datetime) -> tuple[Challenge, ...]:
    """The unused challenges that were made for this device."""
    return tuple(
        one
        for one in tables.challenges.values()
        if one.tenant == tenant
        and one.invitation_id is None
        and one.spent_at is None
        and one.valid_until > now
        and (
            (bound.serial_number is not None and one.bound.serial_number == bound.serial_number)
            or (
                bound.enrollment_key is not None
                and one.bound.enrollment_key == bound.enrollment_key
            )
        )
    )


def _end(tables: Tables, one: Challenge, state: TokenState, cause: str, at: datetime) -> None:
    tables.challenges[one.id] = replace(one, valid_until=at)
    step_record(tables, TokenStep(record_id=one.id, state=state, cause=cause), at)


def _spend(tables: Tables, spend: Spend) -> None:
    challenge = spend.challenge
    spent_at = challenge.spent_at or spend.credential.issued_at
    tables.challenges[challenge.id] = replace(
        tables.challenges[challenge.id],
        spent_at=spent_at,
        spent_by_key=challenge.spent_by_key,
        issued=challenge.issued,
    )
    step = TokenStep(record_id=challenge.id, state=TokenState.RETIRED, cause=USED)
    step_record(tables, step, spent_at)
    if challenge.invitation_id is not None:
        invitation = tables.invitations[challenge.invitation_id]
        if invitation.uses_left < 1:
            raise ChangeDoesNotFit("the invitation is used up")
        tables.invitations[invitation.id] = replace(invitation, uses_left=invitation.uses_left - 1)
    _add_credential(tables, spend.credential, spend.certificate)


def _add_credential(tables: Tables, credential: Credential, certificate: bytes) -> None:
    fingerprint = credential.fingerprint
    if fingerprint in tables.credentials:
        raise ChangeDoesNotFit("the certificate is known", fingerprint=fingerprint)
    tables.credentials[fingerprint] = (credential, certificate)
