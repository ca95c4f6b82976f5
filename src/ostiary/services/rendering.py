"""The bytes of a command that leaves: opened, and its references filled, between the commit and the wire."""

from typing import Final

from ostiary.domain.answer import HandOut
from ostiary.domain.command import LiveCommand
from ostiary.domain.first_commands import SETTINGS
from ostiary.domain.token import Holder, RecordId, SealedValue, TenantId, TokenKind
from ostiary.domain.visitor import DeviceIdentity
from ostiary.errors import Malformed, TooLarge, Unavailable
from ostiary.formats import plist
from ostiary.formats.plist import NotEncodable, PlistValue
from ostiary.ports.sealer import EpochUnknown, SealBroken, Sealer, SealLabel
from ostiary.ports.storage import Enrollments
from ostiary.protocol.mdm.commands import decode_raw_command, standard_form
from ostiary.protocol.mdm.connect import (
    CommandUuid,
    ConnectReport,
    encode_command,
    is_derived,
)
from ostiary.protocol.mdm.filling import fill
from ostiary.secret import Secret

COMMAND_KIND: Final = "command"
_DATA: Final = frozenset({TokenKind.UNLOCK, TokenKind.BOOTSTRAP})


class CommandDoesNotOpen(Unavailable):
    """A command cannot be written, and will not be later: something in it is damaged, gone, or has no place in a command.

    A key that is not known here (`EpochUnknown`), or a database that does not answer, is not such a case: the device
    asks again.
    """

    hint = "The database was damaged or restored in part; restore it whole, or cancel the command."

    def __init__(
        self,
        *,
        kind: TokenKind | None = None,
        record_id: RecordId | None = None,
        is_own: bool = False,
        is_gone: bool = False,
        unwritable: str | None = None,
    ) -> None:
        """`unwritable` says what is wrong with something that did open."""
        super().__init__(kind=kind, record_id=record_id, is_gone=is_gone)
        self.kind = kind
        self.record_id = record_id
        self.is_own = is_own
        self.is_gone = is_gone
        self.unwritable = unwritable


class CommandWriter:
    """Writes commands. The payload of one is in clear only here."""

    def __init__(self, enrollments: Enrollments, sealer: Sealer) -> None:
        self._enrollments = enrollments
        self._sealer = sealer

    async def write(
        self,
        identity: DeviceIdentity,
        message: ConnectReport,
        going: HandOut,
        profile: bytes | None,
    ) -> bytes:
        """The command's body, its references filled with the values as they are now. (escrowed-secrets.md 4.0.2 rule 6)

        Each is opened as this device's: a pointer that names another's record gives nothing away. (rule 3)

        Raises:
            CommandDoesNotOpen
        """
        command, tenant = going.command, identity.tenant
        minted = profile if going.with_profile else None
        if not command.payload:
            body = _standard_body(command)
        else:
            written = self._queued(command.payload, command_label(tenant, command.uuid))
            if not going.fills and minted is None:
                return written.reveal()
            body = _read_body(written)
        holder = Holder(message.channel.device_id)
        for reference, record_id in going.fills:
            value = await self._value(tenant, holder, reference.kind, record_id)
            fill(body, reference.key, _written(reference.kind, record_id, value))
        for reference in command.references:
            if minted is not None and reference.is_minted:
                fill(body, reference.key, minted)
        try:
            return encode_command(command.uuid, body)
        except NotEncodable as error:
            raise CommandDoesNotOpen(unwritable=str(error)) from error

    async def _value(
        self, tenant: TenantId, holder: Holder, kind: TokenKind, record_id: RecordId
    ) -> Secret:
        record = await self._enrollments.load_record(record_id)
        if record is None:
            raise CommandDoesNotOpen(kind=kind, record_id=record_id, is_gone=True)
        label = SealLabel(tenant=tenant, holder=holder, kind=kind, record_id=record_id)
        try:
            return self._sealer.unseal(record.value, label)
        except EpochUnknown:
            raise
        except SealBroken as broken:
            is_own = (record.tenant, record.holder, record.kind) == (tenant, holder, kind)
            raise CommandDoesNotOpen(kind=kind, record_id=record_id, is_own=is_own) from broken

    def _queued(self, payload: SealedValue, label: SealLabel) -> Secret:
        try:
            return self._sealer.unseal(payload, label)
        except EpochUnknown:
            raise
        except SealBroken as broken:
            raise CommandDoesNotOpen from broken


def _standard_body(command: LiveCommand) -> dict[str, PlistValue]:
    """What an empty payload stands for, unless its text is lost.

    Standard commands that a person queued with an earlier version are stored so too, and wait for weeks. Among these only
    Settings may have said something else that a device would act upon: there the command has to be one that this server
    named itself, as no caller can.
    """
    try:
        if command.request_type != SETTINGS or is_derived(command.uuid):
            return dict(standard_form(command.request_type))
    except KeyError:
        pass  # one of ours that has no standard form: it was sealed
    raise CommandDoesNotOpen(unwritable="nothing is stored of it")


def _read_body(written: Secret) -> dict[str, PlistValue]:
    """The queued command, to be filled. One of an earlier version may be larger than what is queued now."""
    try:
        return dict(decode_raw_command(written.reveal()).command.as_mapping())
    except (Malformed, TooLarge) as error:
        raise CommandDoesNotOpen(unwritable=str(error)) from error


def _written(kind: TokenKind, record_id: RecordId, value: Secret) -> PlistValue:
    """Tokens are data in a command, passwords and codes are text.

    A recovery key may be any bytes: as text it is one that the Mac refuses, and no report is refused for it here.

    Raises:
        CommandDoesNotOpen: XML has no way to say it, such as a control character.
    """
    if kind in _DATA:
        return value.reveal()
    text = value.reveal().decode("utf-8", "replace")
    try:
        plist.encode({"": text})
    except NotEncodable as error:
        raise CommandDoesNotOpen(kind=kind, record_id=record_id, unwritable=str(error)) from error
    return text


def command_label(tenant: TenantId, uuid: CommandUuid) -> SealLabel:
    """What a queued payload is sealed under: it opens as this command's only."""
    return SealLabel(
        tenant=tenant, holder=Holder(uuid), kind=COMMAND_KIND, record_id=RecordId(uuid)
    )
