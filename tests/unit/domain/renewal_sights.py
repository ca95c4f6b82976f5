"""Relationships as the renewal of identities sees them, each part as a test wants it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from ostiary.domain.command import CommandState
from ostiary.domain.enrollment import (
    Binding,
    Enrollment,
    EnrollmentKey,
    InstalledProfile,
    Proof,
    Standing,
    State,
)
from ostiary.domain.renewal import CommandSight, Renewal, RenewalPhase, Sight
from ostiary.domain.token import DEFAULT_TENANT, Fingerprint
from ostiary.protocol.mdm.checkin import DeviceFacts, Topic
from ostiary.protocol.mdm.connect import CommandUuid
from ostiary.protocol.mdm.identity import EnrollmentId, EnrollmentType

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
UUID = CommandUuid("RENEW-1")


def key(number: int) -> EnrollmentKey:
    return EnrollmentKey(f"{number:032x}")


def binding(number: int = 1, **changes: Any) -> Binding:
    """A certificate of two years that ends in a hundred days, if nothing else is said."""
    facts: dict[str, Any] = {
        "fingerprint": Fingerprint(f"{number:064x}"),
        "tenant": DEFAULT_TENANT,
        "enrollment_key": key(number),
        "proof": Proof.PROVEN,
        "bound_at": NOW - timedelta(days=630),
        "not_after": NOW + timedelta(days=100),
    }
    return Binding(**{**facts, **changes})


def enrollment(number: int = 1, **changes: Any) -> Enrollment:
    facts: dict[str, Any] = {
        "key": key(number),
        "tenant": DEFAULT_TENANT,
        "id": EnrollmentId(f"UDID-{number}"),
        "type": EnrollmentType.DEVICE,
        "parent_key": None,
        "state": State.ENROLLED,
        "standing": Standing.CURRENT,
        "proof": Proof.PROVEN,
        "facts": DeviceFacts(serial_number=f"SERIAL{number}"),
        "topic": Topic("com.apple.mgmt.External.one"),
        "created_at": NOW - timedelta(days=630),
        "authenticated_at": NOW - timedelta(days=630),
        "last_seen_at": NOW - timedelta(hours=1),
        "profile": InstalledProfile(access_rights=8191, capabilities=frozenset()),
    }
    return Enrollment(**{**facts, **changes})


def renewal(number: int = 1, **changes: Any) -> Renewal:
    facts: dict[str, Any] = {
        "enrollment_key": key(number),
        "tenant": DEFAULT_TENANT,
        "phase": RenewalPhase.SCHEDULED,
        "fingerprint": Fingerprint(f"{number:064x}"),
        "look_at": NOW,
    }
    return Renewal(**{**facts, **changes})


def asked_renewal(number: int = 1, **changes: Any) -> Renewal:
    """A device that was asked two hours ago."""
    facts = {
        "phase": RenewalPhase.ASKED,
        "asked_at": NOW - timedelta(hours=2),
        "command_uuid": UUID,
    }
    return renewal(number, **{**facts, **changes})


def sight(number: int = 1, **changes: Any) -> Sight:
    facts: dict[str, Any] = {"enrollment": enrollment(number), "bindings": (binding(number),)}
    return Sight(**{**facts, **changes})


def command(state: CommandState, **changes: Any) -> CommandSight:
    return CommandSight(**{"state": state, "hand_outs": 0, **changes})
