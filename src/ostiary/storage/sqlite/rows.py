"""Rows become values here, and values rows; nobody outside this room sees a row."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Final, TypeVar

from ostiary.domain.command import ClosedCommand, CommandState, LiveCommand, Priority
from ostiary.domain.enrollment import (
    Binding,
    Bound,
    Credential,
    Enrollment,
    InstalledProfile,
    Proof,
    Purpose,
    Standing,
    State,
    UserSession,
)
from ostiary.domain.token import (
    KeyedDigest,
    RecordId,
    SealedValue,
    TokenKind,
    TokenPointer,
    TokenRecord,
    TokenState,
)
from ostiary.protocol.mdm.checkin import DeviceFacts
from ostiary.protocol.mdm.identity import EnrollmentType
from ostiary.storage.references import decode_references, encode_references

Row = tuple[Any, ...]
EnumT = TypeVar("EnumT", bound=Enum)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def micros(at: datetime) -> int:
    """Microseconds since 1970, exact."""
    return (at - _EPOCH) // _MICROSECOND


def micros_or_none(at: datetime | None) -> int | None:
    return None if at is None else (at - _EPOCH) // _MICROSECOND


def moment(stored: int) -> datetime:
    """The aware UTC moment that `micros` wrote."""
    return _EPOCH + timedelta(0, 0, stored)


def moment_or_none(stored: int | None) -> datetime | None:
    return None if stored is None else _EPOCH + timedelta(0, 0, stored)


def _by_value(words: type[EnumT]) -> Mapping[Any, EnumT]:
    """A table from stored word to member: a fifth of the time that calling the enumeration takes."""
    return {word.value: word for word in words}


_TYPES: Final = _by_value(EnrollmentType)
_STATES: Final = _by_value(State)
_STANDINGS: Final = _by_value(Standing)
_PROOFS: Final = _by_value(Proof)
_PURPOSES: Final = _by_value(Purpose)
_KINDS: Final = _by_value(TokenKind)
_TOKEN_STATES: Final = _by_value(TokenState)
_COMMAND_STATES: Final = _by_value(CommandState)
_PRIORITIES: Final = _by_value(Priority)

FIXED_COLUMNS: Final = (
    "key", "tenant", "id", "type", "parent_key", "state", "standing", "topic", "serial_number",
)  # fmt: skip
"""Named in indexes, and hardly ever changed: an update that leaves them out spares the indexes."""
ENROLLMENT_COLUMNS: Final = (
    *FIXED_COLUMNS,
    "proof", "device_name", "model", "model_name", "product_name", "os_version",
    "build_version", "created_at", "authenticated_at", "enrolled_at", "last_seen_at",
    "released_at", "contested_at",
    "push_record", "push_digest", "push_received_at", "push_arrived_at",
    "push_dead_since", "push_dead_reason", "pushed_at",
    "unlock_record", "unlock_digest", "unlock_received_at", "unlock_arrived_at",
    "bootstrap_record", "bootstrap_digest", "bootstrap_received_at", "bootstrap_arrived_at",
    "awaiting", "came_erased", "not_on_console", "user_short_name", "user_long_name",
    "access_rights", "capabilities", "has_session", "session_nonce", "session_token",
    "renewing_fingerprint", "accepted_fingerprint", "token_updates", "version",
)  # fmt: skip
BINDING_COLUMNS: Final = (
    "fingerprint", "tenant", "enrollment_key", "proof", "bound_at", "not_after", "superseded_at",
)  # fmt: skip
TOKEN_COLUMNS: Final = (
    "id", "tenant", "holder", "kind", "generation", "digest", "size", "state", "cause", "source",
    "fingerprint", "relationship", "received_at", "changed_at", "expires_at", "proven_at",
    "proven_by", "disclosed_at", "value",
)  # fmt: skip
COMMAND_COLUMNS: Final = (
    "sequence", "uuid", "enrollment_key", "request_type", "priority", "reference", "state",
    "queued_at", "source", "sent_at", "hand_outs", "payload",
)  # fmt: skip
CREDENTIAL_COLUMNS: Final = (
    "fingerprint", "tenant", "purpose", "bound_serial", "bound_enrollment", "bound_user",
    "access_rights", "capabilities", "issued_at", "not_after", "challenge_id",
)  # fmt: skip
ENROLLMENT_WIDTH: Final = len(ENROLLMENT_COLUMNS)
TOKEN_WIDTH: Final = len(TOKEN_COLUMNS)
_LISTS: Final = {
    "$enrollment": ("e", ENROLLMENT_COLUMNS),
    "$binding": ("b", BINDING_COLUMNS),
    "$token": ("t", TOKEN_COLUMNS),
    "$public_token": ("t", TOKEN_COLUMNS[:-1]),
    "$command": ("c", COMMAND_COLUMNS),
    "$credential": ("d", CREDENTIAL_COLUMNS),
}


def with_columns(statement: str) -> str:
    """The statement with `$enrollment`, `$token` … replaced by the columns that the functions below read.

    Tables go by one letter: enrollment e, binding b, token t, command c, credential d.
    """
    for name, (alias, columns) in _LISTS.items():
        statement = statement.replace(name, ", ".join(f"{alias}.{column}" for column in columns))
    return statement


def enrollment_from(row: Row, seen_at: datetime | None = None) -> Enrollment:
    """The enrollment in a row of exactly ENROLLMENT_COLUMNS; `seen_at` is a contact that may be later than the row's."""
    (
        key, tenant, id_, type_, parent_key, state, standing, topic, serial_number,
        proof, device_name, model, model_name, product_name, os_version,
        build_version, created_at, authenticated_at, enrolled_at, last_seen_at,
        released_at, contested_at,
        push_record, push_digest, push_received_at, push_arrived_at,
        push_dead_since, push_dead_reason, pushed_at,
        unlock_record, unlock_digest, unlock_received_at, unlock_arrived_at,
        bootstrap_record, bootstrap_digest, bootstrap_received_at, bootstrap_arrived_at,
        awaiting, came_erased, not_on_console, user_short_name, user_long_name,
        access_rights, capabilities, has_session, session_nonce, session_token,
        renewing_fingerprint, accepted_fingerprint, token_updates, version,
    ) = row  # fmt: skip
    return Enrollment(
        key=key,
        tenant=tenant,
        id=id_,
        type=_TYPES[type_],
        parent_key=parent_key,
        state=_STATES[state],
        standing=_STANDINGS[standing],
        proof=_PROOFS[proof],
        facts=DeviceFacts(
            serial_number=serial_number,
            device_name=device_name,
            model=model,
            model_name=model_name,
            product_name=product_name,
            os_version=os_version,
            build_version=build_version,
        ),
        topic=topic,
        created_at=moment(created_at),
        authenticated_at=moment(authenticated_at),
        enrolled_at=moment_or_none(enrolled_at),
        last_seen_at=_later(moment_or_none(last_seen_at), seen_at),
        released_at=moment_or_none(released_at),
        contested_at=moment_or_none(contested_at),
        push=_pointer(push_record, push_digest, push_received_at, push_arrived_at),
        push_dead_since=moment_or_none(push_dead_since),
        push_dead_reason=push_dead_reason,
        pushed_at=moment_or_none(pushed_at),
        unlock=_pointer(unlock_record, unlock_digest, unlock_received_at, unlock_arrived_at),
        bootstrap=_pointer(
            bootstrap_record, bootstrap_digest, bootstrap_received_at, bootstrap_arrived_at
        ),
        awaiting=bool(awaiting),
        came_erased=bool(came_erased),
        not_on_console=None if not_on_console is None else bool(not_on_console),
        user_short_name=user_short_name,
        user_long_name=user_long_name,
        profile=profile_from(access_rights, capabilities),
        session=UserSession(nonce=session_nonce, auth_token=session_token) if has_session else None,
        renewing_fingerprint=renewing_fingerprint,
        accepted_fingerprint=accepted_fingerprint,
        token_updates=token_updates,
        version=version,
    )


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None or other is None:
        return one or other
    return max(one, other)


def enrollment_values(row: Enrollment, seen_at: datetime | None = None) -> Row:
    """The values of ENROLLMENT_COLUMNS, in their order; `seen_at` is a contact that the row does not tell of yet."""
    facts, session = row.facts, row.session
    last_seen_at = row.last_seen_at
    if seen_at is not None and (last_seen_at is None or last_seen_at < seen_at):
        last_seen_at = seen_at
    return (
        row.key, row.tenant, row.id, row.type.value, row.parent_key,
        row.state.value, row.standing.value, row.topic, facts.serial_number,
        row.proof.value, facts.device_name, facts.model, facts.model_name,
        facts.product_name, facts.os_version, facts.build_version,
        micros(row.created_at), micros(row.authenticated_at), micros_or_none(row.enrolled_at),
        micros_or_none(last_seen_at), micros_or_none(row.released_at),
        micros_or_none(row.contested_at),
        *_pointer_values(row.push),
        micros_or_none(row.push_dead_since), row.push_dead_reason, micros_or_none(row.pushed_at),
        *_pointer_values(row.unlock),
        *_pointer_values(row.bootstrap),
        row.awaiting, row.came_erased or None, row.not_on_console,
        row.user_short_name, row.user_long_name,
        *profile_values(row.profile),
        session is not None,
        None if session is None else session.nonce,
        None if session is None else session.auth_token,
        row.renewing_fingerprint, row.accepted_fingerprint, row.token_updates, row.version + 1,
    )  # fmt: skip


def _pointer(
    record: str | None, digest: bytes | None, received_at: int | None, arrived_at: int | None
) -> TokenPointer | None:
    if record is None or digest is None or received_at is None or arrived_at is None:
        return None
    return TokenPointer(
        record_id=RecordId(record),
        digest=KeyedDigest(digest),
        received_at=moment(received_at),
        arrived_at=moment(arrived_at),
    )


def _pointer_values(pointer: TokenPointer | None) -> Row:
    if pointer is None:
        return (None, None, None, None)
    return (
        pointer.record_id,
        pointer.digest,
        micros(pointer.received_at),
        micros(pointer.arrived_at),
    )


def profile_from(access_rights: int | None, capabilities: str | None) -> InstalledProfile | None:
    """The installed profile that two columns hold; capabilities stand one a line."""
    if access_rights is None:
        return None
    words = capabilities.split("\n") if capabilities else ()
    return InstalledProfile(access_rights=access_rights, capabilities=frozenset(words))


def profile_values(profile: InstalledProfile | None) -> Row:
    if profile is None:
        return (None, None)
    return (profile.access_rights, "\n".join(sorted(profile.capabilities)))


def binding_from(row: Row) -> Binding:
    fingerprint, tenant, enrollment_key, proof, bound_at, not_after, superseded_at = row
    return Binding(
        fingerprint=fingerprint,
        tenant=tenant,
        enrollment_key=enrollment_key,
        proof=_PROOFS[proof],
        bound_at=moment(bound_at),
        not_after=moment(not_after),
        superseded_at=moment_or_none(superseded_at),
    )


def binding_values(binding: Binding) -> Row:
    return (
        binding.fingerprint,
        binding.tenant,
        binding.enrollment_key,
        binding.proof.value,
        micros(binding.bound_at),
        micros(binding.not_after),
        micros_or_none(binding.superseded_at),
    )


def token_from(row: Row) -> TokenRecord:
    """The record in a row of TOKEN_COLUMNS; without the last column, its value is empty."""
    (
        id_, tenant, holder, kind, generation, digest, size, state, cause, source,
        fingerprint, relationship, received_at, changed_at, expires_at, proven_at, proven_by,
        disclosed_at,
    ) = row[:TOKEN_WIDTH - 1]  # fmt: skip
    return TokenRecord(
        id=id_,
        tenant=tenant,
        holder=holder,
        kind=_KINDS[kind],
        generation=generation,
        value=SealedValue(row[-1] if len(row) == TOKEN_WIDTH else b""),
        digest=digest,
        size=size,
        state=_TOKEN_STATES[state],
        cause=cause,
        source=source,
        fingerprint=fingerprint,
        relationship=relationship,
        received_at=moment(received_at),
        changed_at=moment(changed_at),
        expires_at=moment_or_none(expires_at),
        proven_at=moment_or_none(proven_at),
        proven_by=proven_by,
        disclosed_at=moment_or_none(disclosed_at),
    )


def token_values(record: TokenRecord) -> Row:
    """The values of TOKEN_COLUMNS without the generation, which the statement itself finds."""
    return (
        record.id, record.tenant, record.holder, record.kind.value,
        record.digest, record.size, record.state.value, record.cause, record.source,
        record.fingerprint, record.relationship,
        micros(record.received_at), micros(record.changed_at),
        micros_or_none(record.expires_at), micros_or_none(record.proven_at), record.proven_by,
        micros_or_none(record.disclosed_at), record.value,
    )  # fmt: skip


def command_from(row: Row) -> LiveCommand:
    (
        sequence, uuid, enrollment_key, request_type, priority, reference, state,
        queued_at, source, sent_at, hand_outs, payload,
    ) = row  # fmt: skip
    return LiveCommand(
        uuid=uuid,
        enrollment_key=enrollment_key,
        request_type=request_type,
        priority=_PRIORITIES[priority],
        payload=payload,
        references=() if reference is None else decode_references(reference),
        state=_COMMAND_STATES[state],
        queued_at=moment(queued_at),
        source=source,
        sequence=sequence,
        sent_at=moment_or_none(sent_at),
        hand_outs=hand_outs,
    )


def command_values(command: LiveCommand) -> Row:
    """The values of COMMAND_COLUMNS without the sequence, which storage gives."""
    return (
        command.uuid,
        command.enrollment_key,
        command.request_type,
        command.priority.value,
        encode_references(command.references),
        command.state.value,
        micros(command.queued_at),
        command.source,
        micros_or_none(command.sent_at),
        command.hand_outs,
        command.payload,
    )


def closed_values(command: ClosedCommand) -> Row:
    return (
        command.uuid,
        command.enrollment_key,
        command.request_type,
        command.state.value,
        micros(command.queued_at),
        micros(command.closed_at),
        command.source,
        command.hand_outs,
        command.result,
    )


def credential_from(row: Row) -> Credential:
    (
        fingerprint, tenant, purpose, serial_number, enrollment_key, user,
        access_rights, capabilities, issued_at, not_after, challenge_id,
    ) = row  # fmt: skip
    return Credential(
        fingerprint=fingerprint,
        tenant=tenant,
        purpose=_PURPOSES[purpose],
        bound=Bound(serial_number=serial_number, enrollment_key=enrollment_key, user=user),
        profile=profile_from(access_rights, capabilities),
        issued_at=moment(issued_at),
        not_after=moment(not_after),
        challenge_id=challenge_id,
    )


def credential_values(credential: Credential) -> Row:
    return (
        credential.fingerprint,
        credential.tenant,
        credential.purpose.value,
        *bound_values(credential.bound),
        *profile_values(credential.profile),
        micros(credential.issued_at),
        micros(credential.not_after),
        credential.challenge_id,
    )


def bound_values(bound: Bound) -> Row:
    return (bound.serial_number, bound.enrollment_key, bound.user)
