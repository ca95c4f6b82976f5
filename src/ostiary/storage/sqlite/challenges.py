"""Invitations and challenges on SQLite; what a challenge was spent for is decided once."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

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
from ostiary.storage.sqlite.engine import Engine, Transaction
from ostiary.storage.sqlite.rows import (
    Row,
    bound_values,
    credential_values,
    enrollment_from,
    micros,
    micros_or_none,
    moment,
    moment_or_none,
    profile_values,
    with_columns,
)
from ostiary.storage.sqlite.write_news import add_audit
from ostiary.storage.sqlite.write_tokens import add_records, step_records
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
    INSERT INTO invitation ({_INVITATION}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""  # noqa: S608 - made of constants
INVITATION_BY_CODE: Final = f"""
    SELECT {_INVITATION} FROM invitation WHERE code = ?
"""  # noqa: S608 - made of constants; served by invitation_by_code
INVITATION_BY_ID: Final = f"""
    SELECT {_INVITATION} FROM invitation WHERE id = ?
"""  # noqa: S608 - made of constants; served by the primary key
USE_INVITATION: Final = "UPDATE invitation SET uses_left = uses_left - 1 WHERE id = ?"
ADD_CHALLENGE: Final = f"""
    INSERT INTO challenge ({_CHALLENGE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""  # noqa: S608 - made of constants
CHALLENGE_BY_DIGEST: Final = f"""
    SELECT {_CHALLENGE} FROM challenge WHERE digest = ?
"""  # noqa: S608 - made of constants; served by challenge_by_digest
SPEND_CHALLENGE: Final = """
    UPDATE challenge SET spent_at = ?, spent_by_key = ?, issued = ? WHERE id = ?
"""
UNUSED_OF_SERIAL: Final = """
    SELECT id, purpose FROM challenge
     WHERE bound_serial = ?1 AND tenant = ?2 AND valid_until > ?3
       AND invitation_id IS NULL AND spent_at IS NULL
"""  # served by challenge_of_serial
UNUSED_OF_ENROLLMENT: Final = """
    SELECT id, purpose FROM challenge
     WHERE bound_enrollment = ?1 AND tenant = ?2 AND valid_until > ?3
       AND invitation_id IS NULL AND spent_at IS NULL
"""  # served by challenge_of_enrollment
END_CHALLENGE: Final = "UPDATE challenge SET valid_until = ? WHERE id = ?"
ADD_CREDENTIAL: Final = """
    INSERT INTO credential (fingerprint, tenant, purpose, bound_serial, bound_enrollment,
                            bound_user, access_rights, capabilities, issued_at, not_after,
                            challenge_id, certificate)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
CERTIFICATE: Final = "SELECT certificate FROM credential WHERE fingerprint = ?"
COUNT_RENEWALS: Final = """
    SELECT count(*) FROM credential WHERE bound_enrollment = ? AND issued_at >= ?
"""  # served by credential_of_enrollment
RENEWABLE: Final = with_columns("""
    SELECT $enrollment
      FROM binding b JOIN enrollment e ON e.key = b.enrollment_key
     WHERE b.fingerprint = ? AND b.superseded_at IS NULL AND e.standing <> 'ended'
""")  # served by the primary keys


class SqliteChallenges:
    """Invitations, challenges and credentials on one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def add_invitation(self, invitation: Invitation, audit: AuditEntry) -> None:
        def work(transaction: Transaction) -> None:
            transaction.write(ADD_INVITATION, _invitation_values(invitation))
            add_audit(transaction, audit, invitation.created_at)

        await self._engine.run(work)

    async def find_invitation(self, code: KeyedDigest) -> Invitation | None:
        def work(transaction: Transaction) -> Invitation | None:
            row = transaction.read(INVITATION_BY_CODE, (code,)).fetchone()
            return None if row is None else invitation_from(row)

        return await self._engine.run(work)

    async def add_challenge(self, challenge: Challenge, *, replaces: bool = False) -> None:
        def work(transaction: Transaction) -> None:
            if replaces:
                unused = _unused(
                    transaction, challenge.tenant, challenge.bound, challenge.created_at
                )
                same = [id_ for id_, purpose in unused.items() if purpose == challenge.purpose]
                _end(transaction, same, TokenState.SUPERSEDED, REPLACED, challenge.created_at)
            transaction.write(ADD_CHALLENGE, _challenge_values(challenge))
            add_records(transaction, challenge_record(challenge))

        await self._engine.run(work)

    async def withdraw_challenges(
        self,
        tenant: TenantId,
        *,
        serial_number: str | None,
        enrollment_key: EnrollmentKey,
        at: datetime,
    ) -> None:
        bound = Bound(serial_number=serial_number, enrollment_key=enrollment_key)

        def work(transaction: Transaction) -> None:
            unused = _unused(transaction, tenant, bound, at)
            _end(transaction, unused, TokenState.REVOKED, WITHDRAWN, at)

        await self._engine.run(work)

    async def find_challenge(self, digest: KeyedDigest) -> Found | None:
        return await self._engine.run(lambda transaction: _find(transaction, digest))

    async def spend(
        self, digest: KeyedDigest, rule: Callable[[Challenge, Invitation | None], Spend | None]
    ) -> bytes:
        def work(transaction: Transaction) -> bytes:
            if (found := _find(transaction, digest)) is None:
                raise ChallengeUnknown
            challenge, invitation, certificate = found
            if (spend := rule(challenge, invitation)) is not None:
                _spend(transaction, spend)
                return spend.certificate
            if certificate is None:
                raise ChangeDoesNotFit("no certificate was issued for this challenge")
            return certificate

        return await self._engine.run(work)

    async def add_credential(self, credential: Credential, certificate: bytes) -> None:
        await self._engine.run(
            lambda transaction: _add_credential(transaction, credential, certificate)
        )

    async def count_renewals(self, key: EnrollmentKey, *, since: datetime) -> int:
        def work(transaction: Transaction) -> int:
            ((number,),) = transaction.read(COUNT_RENEWALS, (key, micros(since)))
            return int(number)

        return await self._engine.run(work)

    async def find_renewable(self, fingerprint: Fingerprint) -> Enrollment | None:
        def work(transaction: Transaction) -> Enrollment | None:
            row = transaction.read(RENEWABLE, (fingerprint,)).fetchone()
            return None if row is None else enrollment_from(row)

        return await self._engine.run(work)


def _find(transaction: Transaction, digest: KeyedDigest) -> Found | None:
    row = transaction.read(CHALLENGE_BY_DIGEST, (digest,)).fetchone()
    if row is None:
        return None
    challenge = challenge_from(row)
    invitation = certificate = None
    if challenge.invitation_id is not None:
        found = transaction.read(INVITATION_BY_ID, (challenge.invitation_id,)).fetchone()
        invitation = None if found is None else invitation_from(found)
    if challenge.issued is not None:
        issued = transaction.read(CERTIFICATE, (challenge.issued,)).fetchone()
        certificate = None if issued is None else bytes(issued[0])
    return challenge, invitation, certificate


def _unused(
    transaction: Transaction, tenant: TenantId, bound: Bound, now: datetime
) -> dict[RecordId, str]:
    """Purposes of the unused challenges that were made for this device, by id."""
    found: dict[RecordId, str] = {}
    for statement, name in (
        (UNUSED_OF_SERIAL, bound.serial_number),
        (UNUSED_OF_ENROLLMENT, bound.enrollment_key),
    ):
        if name is not None:
            found.update(transaction.read(statement, (name, tenant, micros(now))).fetchall())
    return found


def _end(
    transaction: Transaction, ids: Iterable[RecordId], state: TokenState, cause: str, at: datetime
) -> None:
    for id_ in ids:
        transaction.write(END_CHALLENGE, (micros(at), id_))
        step_records(transaction, TokenStep(record_id=id_, state=state, cause=cause), at=at)


def _spend(transaction: Transaction, spend: Spend) -> None:
    challenge = spend.challenge
    spent_at = challenge.spent_at or spend.credential.issued_at
    transaction.write(
        SPEND_CHALLENGE, (micros(spent_at), challenge.spent_by_key, challenge.issued, challenge.id)
    )
    step = TokenStep(record_id=challenge.id, state=TokenState.RETIRED, cause=USED)
    step_records(transaction, step, at=spent_at)
    if challenge.invitation_id is not None:
        transaction.write(USE_INVITATION, (challenge.invitation_id,))
    _add_credential(transaction, spend.credential, spend.certificate)


def _add_credential(transaction: Transaction, credential: Credential, certificate: bytes) -> None:
    transaction.write(ADD_CREDENTIAL, (*credential_values(credential), certificate))


def _invitation_values(invitation: Invitation) -> Row:
    return (
        invitation.id,
        invitation.tenant,
        invitation.code,
        *bound_values(invitation.bound),
        micros(invitation.valid_until),
        invitation.uses_left,
        micros(invitation.created_at),
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
        bound=Bound(serial_number=serial_number, enrollment_key=enrollment_key, user=user),
        valid_until=moment(valid_until),
        uses_left=uses_left,
        created_at=moment(created_at),
        created_by=created_by,
    )


def _challenge_values(challenge: Challenge) -> Row:
    return (
        challenge.id,
        challenge.tenant,
        challenge.digest,
        challenge.purpose.value,
        *bound_values(challenge.bound),
        *profile_values(challenge.profile),
        challenge.invitation_id,
        micros(challenge.valid_until),
        micros(challenge.created_at),
        micros_or_none(challenge.spent_at),
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
        bound=Bound(serial_number=serial_number, enrollment_key=enrollment_key, user=user),
        profile=InstalledProfile(access_rights=access_rights, capabilities=frozenset(words)),
        invitation_id=invitation_id,
        valid_until=moment(valid_until),
        created_at=moment(created_at),
        spent_at=moment_or_none(spent_at),
        spent_by_key=spent_by_key,
        issued=issued,
    )
