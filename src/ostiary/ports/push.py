"""Waking devices: one push, what APNs said, and the certificates with which we may push."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ostiary.domain.token import RecordId
from ostiary.protocol.apns.outcome import PushOutcome, PushVerdict
from ostiary.protocol.mdm.checkin import PushAddress, Topic
from ostiary.secret import Secret

__all__ = ["ClientCertificate", "ClientCertificates", "PushOutcome", "PushVerdict", "Pusher"]


class Pusher(Protocol):
    """Sends pushes; holds its connections, reloads certificates by itself."""

    async def push(self, address: PushAddress, *, expires_at: datetime) -> PushOutcome:
        """Send one push. Never raises for what APNs or the network does: that is an outcome."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificate:
    """What a pusher shows APNs for one topic. Another `record_id` means another certificate."""

    record_id: RecordId
    chain_pem: bytes
    """Leaf first."""
    key_pem: Secret


class ClientCertificates(Protocol):
    """Where a pusher finds its certificates; asked often, so it answers cheaply when nothing changed."""

    async def load_client_certificate(self, topic: Topic) -> ClientCertificate | None:
        """The current certificate of a topic, opened. Raises `SealBroken`."""
