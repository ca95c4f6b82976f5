"""A device acts only as itself: its certificate is bound to one relationship, checked in every decision."""

from dataclasses import replace

from ostiary.domain.answer import Goodbye
from ostiary.domain.decision import Snapshot
from ostiary.domain.enrollment import Enrollment, State
from ostiary.domain.visitor import DeviceIdentity
from ostiary.errors import Refused
from ostiary.protocol.mdm.identity import Channel, EnrollmentId


class CertificateNotPaired(Refused):
    """The certificate is valid, and not bound to the enrollment that the message names."""

    hint = (
        "If the certificate was renewed outside the MDM profile, `ostiary device accept-certificate` "
        "accepts it; if the device was restored from another's backup, enroll it again."
    )


class CertificateSuperseded(Refused):
    """The certificate was replaced by a newer one of the same enrollment."""

    hint = "The device should use its newest identity; if it lost that, enroll it again."


class EnrollmentIsOut(Refused):
    """The enrollment has checked out, or never sent its first TokenUpdate."""

    hint = "Enroll the device again."


def require_paired(
    seen: Snapshot, identity: DeviceIdentity, channel: Channel | None
) -> Enrollment | Goodbye:
    """The relationship that the certificate speaks for, or Goodbye if an operator released it.

    Raises:
        CertificateNotPaired: unbound, bound to another enrollment, or of another tenant.
        CertificateSuperseded: renewed away.

    Source: check-in-and-commands.md 3.8 binding rules 3 to 5.
    """
    binding, device = seen.binding, seen.device
    if binding is None or device is None:
        raise CertificateNotPaired(fingerprint=identity.fingerprint)
    if binding.tenant != identity.tenant:
        raise CertificateNotPaired(fingerprint=identity.fingerprint)
    if channel is not None and not speaks_for(device, channel):
        raise CertificateNotPaired(
            enrollment_id=channel.device_id, fingerprint=identity.fingerprint
        )
    if device.state is State.REVOKED:
        return Goodbye(device.facts.product_name, device.facts.os_version)
    if binding.superseded_at is not None:
        raise CertificateSuperseded(enrollment_id=device.id, fingerprint=identity.fingerprint)
    return device


def speaks_for(device: Enrollment, channel: Channel) -> bool:
    """Whether a channel is this device's own or one of its users': same id, same kind of enrollment."""
    same_kind = device.type.is_user_enrollment == channel.type.is_user_enrollment
    return device.id == channel.device_id and same_kind


def uses_old_certificate(seen: Snapshot, device: Enrollment) -> bool:
    """Whether a renewing device came with the certificate it had before. (2.4 row 8)"""
    if device.state is not State.RENEWING or seen.binding is None:
        return False
    return seen.binding.fingerprint != device.renewing_fingerprint


def rolled_back(seen: Snapshot, device: Enrollment) -> Enrollment:
    """The device row after a request: a renewal that failed on the device is over, both certificates stay bound."""
    if not uses_old_certificate(seen, device):
        return device
    return replace(device, state=State.ENROLLED, renewing_fingerprint=None)


def require_enrolled(state: State, device_id: EnrollmentId, *, enrolled: bool) -> None:
    """Refuse a device that is out, and with `enrolled` one that has not sent its first TokenUpdate. (2.4 row 4)

    Raises:
        EnrollmentIsOut
    """
    if not state.is_served and (enrolled or state is not State.PENDING):
        raise EnrollmentIsOut(enrollment_id=device_id)
