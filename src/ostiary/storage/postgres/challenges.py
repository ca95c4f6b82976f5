"""Invitations and challenges on PostgreSQL; what a challenge was spent for is decided once."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final, NamedTuple

from ostiary.domain.decision import AuditEntry
from ostiary.domain.enrollment import (
    Bound,
    Credential,
    Enrollment,
    EnrollmentKey,
    InstalledProfile,
    Purpose,
)
from ostiary.domain.invitation import Challenge, Invitation, Spend
from ostiary.domain.token import (
    Fingerprint,
    KeyedDigest,
    RecordId,
    TenantId,
    TokenState,
    TokenStep,
)
from ostiary.storage.errors import ChallengeUnknown, ChangeDoesNotFit
from ostiary.storage.ledger import challenge_record
from ostiary.storage.postgres.pool import Pool
from ostiary.storage.postgres.rows import (
    Row,
    Values,
    bound_from,
    bound_values,
    credential_values,
    enrollment_from,
    profile_values,
    with_columns,
)
from ostiary.storage.postgres.session import Session
from ostiary.storage.postgres.text import unescape
from ostiary.storage.postgres.write_news import add_audit
from ostiary.storage.postgres.write_tokens import add_record, step_record
from ostiary.storage.wording import REPLACED, USED, WITHDRAWN

Found = tuple[Challenge, Invitation | None, bytes | None]

_INVITATION: Final = """
    id, tenant, code, bound_serial, bound_enrollment, bound_user, valid_until, uses_left,
    created_at, created_by
"""
_CHALLENGE: Final = """
    id, tenant, digest, purpose, bound_serial, bound_enrollment, bound_user, access_rights,
    capabilities, invitation_id, valid_until, created_at, spent_at, spent_by_key, issued
"""
ADD_INVITATION: Final = f"""
    INSERT INTO invitation ({_INVITATION}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""  # noqa: S608 - made of constants
INVITATION_BY_CODE: Final = f"""
    SELECT {_INVITATION} FROM invitation WHERE code = $1
"""  # noqa: S608 - made of constants; served by invitation_by_code
INVITATION_BY_ID: Final = f"""
    SELECT {_INVITATION} FROM invitation WHERE id = $1
"""  # noqa: S608 - made of constants; served by the primary key
LOCK_INVITATION: Final = f"{INVITATION_BY_ID} FOR NO KEY UPDATE"
USE_INVITATION: Final = "UPDATE invitation SET uses_left = uses_left - 1 WHERE id = $1"
ADD_CHALLENGE: Final = f"""
    INSERT INTO challenge ({_CHALLENGE}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
"""  # noqa: S608 - made of constants
CHALLENGE_BY_DIGEST: Final = f"""
    SELECT {_CHALLENGE} FROM challenge WHERE digest = $1
"""  # noqa: S608 - made of constants; served by challenge_by_digest
LOCK_CHALLENGE: Final = f"{CHALLENGE_BY_DIGEST} FOR NO KEY UPDATE"
"""Whoever asks for the same challenge waits, and then sees what came of it."""
SPEND_CHALLENGE: Final = """
    UPDATE challenge SET spent_at = $1, spent_by_key = $2, issued = $3 WHERE id = $4
"""
END_OF_SERIAL: Final = """
    UPDATE challenge SET valid_until = $3
     WHERE bound_serial = $1 AND tenant = $2 AND valid_until > $3
       AND invitation_id IS NULL AND spent_at IS NULL AND purpose = ANY($4)
    RETURNING id
"""  # served by challenge_of_serial
END_OF_ENROLLMENT: Final = """
    UPDATE challenge SET valid_until = $3
     WHERE bound_enrollment = $1 AND tenant = $2 AND valid_until > $3
       AND invitation_id IS NULL AND spent_at IS NULL AND purpose = ANY($4)
    RETURNING id
"""  # served by challenge_of_enrollment
ADD_CREDENTIAL: Final = """
    INSERT INTO credential (fingerprint, tenant, purpose, bound_serial, bound_enrollment,
                            bound_user, access_rights, capabilities, issued_at, not_after,
                            challenge_id, certificate)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
"""
CERTIFICATE: Final = "SELECT certificate FROM credential WHERE fingerprint = $1"
COUNT_RENEWALS: Final = """
    SELECT count(*) FROM credential WHERE bound_enrollment = $1 AND issued_at >= $2
"""  # served by credential_of_enrollment
RENEWABLE: Final = with_columns("""
    SELECT $enrollment
      FROM binding b JOIN enrollment e ON e.key = b.enrollment_key
     WHERE b.fingerprint = $1 AND b.superseded_at IS NULL AND e.standing <> 'ended'
""")  # served by the primary keys


class PostgresChallenges:
    """Invitations, challenges and credentials on one engine."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add_invitation(self, invitation: Invitation, audit: AuditEntry) -> None:
        async def work(session: Session) -> None:
            await session.run(ADD_INVITATION, *_invitation_values(invitation))
            await add_audit(session, audit, invitation.created_at)

        await self._pool.transact(work)

    async def find_invitation(self, code: KeyedDigest) -> Invitation | None:
        row = await self._pool.row(INVITATION_BY_CODE, code)
        return None if row is None else invitation_from(row)

    async def add_challenge(self, challenge: Challenge, *, replaces: bool = False) -> None:
        async def work(session: Session) -> None:
            if replaces:
                ended = _Ended(TokenState.SUPERSEDED, REPLACED, challenge.created_at)
                await _end(session, challenge.tenant, challenge.bound, (challenge.purpose,), ended)
            await session.run(ADD_CHALLENGE, *_challenge_values(challenge))
            await add_record(session, challenge_record(challenge))

        await self._pool.transact(work)

    async def withdraw_challenges(
        self,
        tenant: TenantId,
        *,
        serial_number: str | None,
        enrollment_key: EnrollmentKey,
        at: datetime,
    ) -> None:
        bound = Bound(serial_number=serial_number, enrollment_key=enrollment_key)
        ended = _Ended(TokenState.REVOKED, WITHDRAWN, at)
        await self._pool.transact(lambda session: _end(session, tenant, bound, Purpose, ended))

    async def find_challenge(self, digest: KeyedDigest) -> Found | None:
        return await self._pool.transact(lambda session: _find(session, digest))

    async def spend(
        self, digest: KeyedDigest, rule: Callable[[Challenge, Invitation | None], Spend | None]
    ) -> bytes:
        async def work(session: Session) -> bytes:
            if (found := await _find(session, digest, to_spend=True)) is None:
                raise ChallengeUnknown
            challenge, invitation, certificate = found
            if (spend := rule(challenge, invitation)) is not None:
                await _spend(session, spend)
                return spend.certificate
            if certificate is None:
                raise ChangeDoesNotFit("no certificate was issued for this challenge")
            return certificate

        return await self._pool.transact(work)

    async def add_credential(self, credential: Credential, certificate: bytes) -> None:
        await self._pool.transact(lambda session: _add_credential(session, credential, certificate))

    async def count_renewals(self, key: EnrollmentKey, *, since: datetime) -> int:
        ((number,),) = await self._pool.rows(COUNT_RENEWALS, key, since)
        return int(number)

    async def find_renewable(self, fingerprint: Fingerprint) -> Enrollment | None:
        row = await self._pool.row(RENEWABLE, fingerprint)
        return None if row is None else enrollment_from(row)


async def _find(session: Session, digest: KeyedDigest, *, to_spend: bool = False) -> Found | None:
    row = await session.row(LOCK_CHALLENGE if to_spend else CHALLENGE_BY_DIGEST, digest)
    if row is None:
        return None
    challenge = challenge_from(row)
    invitation = certificate = None
    if challenge.invitation_id is not None:
        found = await session.row(
            LOCK_INVITATION if to_spend else INVITATION_BY_ID, challenge.invitation_id
        )
        invitation = None if found is None else invitation_from(found)
    if challenge.issued is not None:
        issued = await session.row(CERTIFICATE, challenge.issued)
        certificate = None if issued is None else bytes(issued[0])
    return challenge, invitation, certificate


class _Ended(NamedTuple):
    """How and when a challenge that nobody used ends."""

    state: TokenState
    cause: str
    at: datetime


async def _end(
    session: Session, tenant: TenantId, bound: Bound, purposes: Iterable[Purpose], ended: _Ended
) -> None:
    """End the unused challenges that were made for this device."""
    words = [purpose.value for purpose in purposes]
    for statement, name in (
        (END_OF_SERIAL, bound.serial_number),
        (END_OF_ENROLLMENT, bound.enrollment_key),
    ):
        if name is None:
            continue
        for (id_,) in await session.rows(statement, name, tenant, ended.at, words):
            step = TokenStep(record_id=RecordId(id_), state=ended.state, cause=ended.cause)
            await step_record(session, step, ended.at)


async def _spend(session: Session, spend: Spend) -> None:
    challenge = spend.challenge
    spent_at = challenge.spent_at or spend.credential.issued_at
    await session.run(
        SPEND_CHALLENGE, spent_at, challenge.spent_by_key, challenge.issued, challenge.id
    )
    step = TokenStep(record_id=challenge.id, state=TokenState.RETIRED, cause=USED)
    await step_record(session, step, spent_at)
    if challenge.invitation_id is not None:
        await session.run(USE_INVITATION, challenge.invitation_id)
    await _add_credential(session, spend.credential, spend.certificate)


async def _add_credential(session: Session, credential: Credential, certificate: bytes) -> None:
    await session.run(ADD_CREDENTIAL, *credential_values(credential), certificate)


def _invitation_values(invitation: Invitation) -> Values:
    return (
        invitation.id,
        invitation.tenant,
        invitation.code,
        *bound_values(invitation.bound),
        invitation.valid_until,
        invitation.uses_left,
        invitation.created_at,
        invitation.created_by,
    )


def invitation_from(row: Row) -> Invitation:
    """The invitation in a row of the statements above."""
    (
        id_, tenant, code, serial_number, enrollment_key, user, valid_until, uses_left,
        created_at, created_by,
    ) = row  # fmt: skip
    return Invitation(
        id=id_,
        tenant=tenant,
        code=code,
        bound=bound_from(serial_number, enrollment_key, user),
        valid_until=valid_until,
        uses_left=uses_left,
        created_at=created_at,
        created_by=unescape(created_by),
    )


def _challenge_values(challenge: Challenge) -> Values:
    return (
        challenge.id,
        challenge.tenant,
        challenge.digest,
        challenge.purpose.value,
        *bound_values(challenge.bound),
        *profile_values(challenge.profile),
        challenge.invitation_id,
        challenge.valid_until,
        challenge.created_at,
        challenge.spent_at,
        challenge.spent_by_key,
        challenge.issued,
    )


def challenge_from(row: Row) -> Challenge:
    """The challenge in a row of the statements above."""
    (
        id_, tenant, digest, purpose, serial_number, enrollment_key, user, access_rights,
        capabilities, invitation_id, valid_until, created_at, spent_at, spent_by_key, issued,
    ) = row  # fmt: skip
    words = capabilities.split("\n") if capabilities else ()
    return Challenge(
        id=RecordId(id_),
        tenant=tenant,
        digest=digest,
        purpose=Purpose(purpose),
        bound=bound_from(serial_number, enrollment_key, user),
        profile=InstalledProfile(access_rights=access_rights, capabilities=frozenset(words)),
        invitation_id=invitation_id,
        valid_until=valid_until,
        created_at=created_at,
        spent_at=spent_at,
        spent_by_key=spent_by_key,
        issued=issued,
    )
