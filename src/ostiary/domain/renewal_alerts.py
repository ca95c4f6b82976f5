"""What people are told about identities: that one was not renewed, that one ends, that renewing has stopped."""

from datetime import datetime

from ostiary.domain.decision import Alert
from ostiary.domain.enrollment import Enrollment
from ostiary.domain.token import TenantId


def renewal_failed(device: Enrollment, why: str, again_at: datetime) -> Alert:
    """A device was asked for a new identity, and nothing came of it; the old one is in use as before."""
    return Alert(
        tenant=device.tenant,
        subject=device.id,
        kind="identity-renewal-failed",
        sentence=f"The device's identity was not renewed: {why}. It speaks with the old one as before, and is asked "
        f"again on {again_at:%Y-%m-%d}. If it fails time and again, look at `ostiary queue list --all` for "
        "what the device said, and whether it reaches this server's /scep.",
    )


def ends_soon(device: Enrollment, not_after: datetime, now: datetime) -> Alert:
    """A device was asked and has not renewed, and its identity is at its end or beyond."""
    ends = "ended" if not_after <= now else "ends"
    return Alert(
        tenant=device.tenant,
        subject=device.id,
        kind="identity-ends",
        sentence=f"The device's identity {ends} on {not_after:%Y-%m-%d}, and no new one has come. Switch the device on "
        "where it reaches this server. After the end it can still fetch its renewal for as long as the "
        "policy expired_grace says; after that it must be enrolled anew.",
    )


def cannot_renew(device: Enrollment, not_after: datetime, now: datetime) -> Alert:
    """An identity nears its end on a device whose profile came from another server."""
    ends = "ended" if not_after <= now else "ends"
    return Alert(
        tenant=device.tenant,
        subject=device.id,
        kind="identity-cannot-be-renewed",
        sentence=f"The device's identity {ends} on {not_after:%Y-%m-%d}, and its enrollment profile is not one that this "
        "server issued, so it cannot be replaced in place. Enroll the device with this server.",
    )


def renewals_stopped(tenant: TenantId, why: str) -> Alert:
    """No further device is asked until those that failed have succeeded."""
    return Alert(
        tenant=tenant,
        subject="identity renewal",
        kind="identity-renewals-stopped",
        sentence=f"No further identity is renewed: {why}. Look at `ostiary identity list` for what they answered and mend "
        "the cause. The devices that failed are asked again by themselves, and the others follow once these "
        "have renewed. If only these devices are at fault, name others that go first with "
        "`ostiary policy set renewal_canaries`.",
    )
