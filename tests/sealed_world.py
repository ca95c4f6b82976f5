"""A store with something sealed in every place that can hold it, and the values in clear to compare with."""

from typing import Any

from conformance.storage_twins import AnyStorage, store
from conformance.storage_values import audit, command, device, key, push_certificate, record
from ostiary.domain.token import DEFAULT_TENANT, Holder, RecordId, SealedValue, TokenKind
from ostiary.ports.resealing import Key, SealedIn, SealedRow, SealedValues
from ostiary.ports.retention import START
from ostiary.ports.sealer import Sealer, SealLabel
from ostiary.ports.storage import PendingPushKey
from ostiary.secret import Secret
from ostiary.storage.opening import Storage

KINDS = (TokenKind.PUSH, TokenKind.UNLOCK, TokenKind.BOOTSTRAP, TokenKind.FILEVAULT_KEY)
Place = tuple[SealedIn, Key]


def label(holder: str, kind: str, record_id: str) -> SealLabel:
    return SealLabel(
        tenant=DEFAULT_TENANT, holder=Holder(holder), kind=kind, record_id=RecordId(record_id)
    )


async def fill(
    storage: AnyStorage | Storage, sealer: Sealer, devices: int = 3, size: int = 40
) -> dict[Place, bytes]:
    """Put sealed values everywhere, and others that are not sealed among them; what is sealed, in clear."""
    clear: dict[Place, bytes] = {}

    def sealed(where: SealedIn, at: Key, under: SealLabel) -> SealedValue:
        clear[where, at] = f"canary {where} {at} ".encode().ljust(size, b".")
        return sealer.seal(Secret(clear[where, at]), under)

    number = 0
    for of in range(devices):
        parts: dict[str, Any] = {"rows": (device(of),), "records": [], "enqueue": []}
        for kind in KINDS:
            number += 1
            plain = record(number, of, kind)
            value = sealed(SealedIn.TOKENS, (plain.id,), label(plain.holder, plain.kind, plain.id))
            parts["records"].append(record(number, of, kind, value=value))
        for kind, public in ((TokenKind.IDENTITY, b"0 a certificate"), (TokenKind.API_TOKEN, b"")):
            number += 1
            parts["records"].append(record(number, of, kind, value=SealedValue(public)))
        for name in ("first", "second"):
            uuid = command(name, of).uuid
            payload = sealed(SealedIn.COMMANDS, (key(of), uuid), label(uuid, "command", uuid))
            parts["enqueue"].append(command(name, of, payload=payload))
        parts["enqueue"].append(command("standard", of, payload=SealedValue(b"")))
        await store(storage, **{name: tuple(some) for name, some in parts.items()})  # type: ignore[arg-type]  # an opened one has the same families
    await _fill_certificates(storage, sealed, number + 1)
    certificate = push_certificate(number + 1)
    # The ledger keeps the same bytes as its generation in force.
    clear[SealedIn.TOKENS, (certificate.record_id,)] = clear[
        SealedIn.PUSH_CERTIFICATES, (certificate.topic,)
    ]
    return clear


async def _fill_certificates(storage: AnyStorage | Storage, sealed: Any, number: int) -> None:
    plain = push_certificate(number)
    under = label(plain.topic, TokenKind.PUSH_CERTIFICATE, plain.record_id)
    value = sealed(SealedIn.PUSH_CERTIFICATES, (plain.topic,), under)
    held = push_certificate(number, sealed_key=value)
    await storage.push_certificates.save_push_certificate(held, audit("import"))
    pending_id, public_key = RecordId("9" * 32), "a1" * 32
    pending = PendingPushKey(
        record_id=pending_id,
        tenant=DEFAULT_TENANT,
        public_key=public_key,
        sealed_key=sealed(
            SealedIn.PENDING_PUSH_KEYS, (pending_id,), label(public_key, "key", pending_id)
        ),
        created_at=plain.imported_at,
    )
    await storage.push_certificates.save_pending_push_key(pending, audit("csr"))


async def rows(values: SealedValues) -> dict[Place, SealedRow]:
    """Everything sealed that a walk finds, by where it is."""
    found: dict[Place, SealedRow] = {}
    for where in SealedIn:
        place = START
        while True:
            page = await values.find_sealed(where, place, limit=7)
            for row in await values.load_sealed(where, [site.key for site in page.sites]):
                found[where, row.key] = row
            if (place := page.place) == START:
                break
    return found


async def opened(values: SealedValues, sealer: Sealer) -> dict[Place, bytes]:
    """All of it in clear. Raises SealBroken."""
    return {
        place: sealer.unseal(row.value, _label(place[0], row)).reveal()
        for place, row in (await rows(values)).items()
    }


async def epochs(values: SealedValues) -> set[int]:
    """Under which epochs there is anything."""
    return {int.from_bytes(row.value[1:5]) for row in (await rows(values)).values()}


def _label(where: SealedIn, row: SealedRow) -> SealLabel:
    kinds = {
        SealedIn.COMMANDS: "command",
        SealedIn.PUSH_CERTIFICATES: TokenKind.PUSH_CERTIFICATE.value,
        SealedIn.PENDING_PUSH_KEYS: "key",
    }
    return label(row.holder, row.kind or kinds[where], row.record_id)
