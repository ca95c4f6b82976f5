"""Which devices go first when identities are renewed: those that people name must be there, and be able to."""

from ostiary.domain.enrollment import Enrollment
from ostiary.domain.token import TenantId
from ostiary.errors import Conflicting, Missing
from ostiary.ports.reports import Reports
from ostiary.services.finding import find_enrollments
from ostiary.services.policies import (
    NOBODY,
    RENEWAL_CANARIES,
    decode_policy_value,
    names_in,
)


class CanaryUnknown(Missing):
    """Nothing is changed: a device that is to renew first is not known here, and would never be asked."""

    hint = (
        "Give enrollment ids or serial numbers, as `ostiary device list` shows them, with commas between; `none` leaves "
        "the choice to renewal_canary_share."
    )


class CanaryCannotRenew(Conflicting):
    """Nothing is changed: a device that is to renew first cannot renew from here, and would never be asked."""

    hint = "Name devices that are enrolled with a profile of this server; `ostiary identity list` shows them."


async def canaries_known(reports: Reports, tenant: TenantId, written: str) -> str:
    """The same devices by their enrollment ids, as the policy `renewal_canaries` keeps them.

    Raises:
        PolicyValueUnusable, CanaryUnknown, CanaryCannotRenew, SerialAmbiguous
    """
    names = names_in(decode_policy_value(RENEWAL_CANARIES, written))
    ids = [(await _device(reports, tenant, name)).id for name in names]
    return ",".join(dict.fromkeys(ids)) or NOBODY


async def _device(reports: Reports, tenant: TenantId, name: str) -> Enrollment:
    try:
        row, *_ = await find_enrollments(reports, tenant, name)
    except Missing:
        raise CanaryUnknown(name=name) from None
    if (why := _why_not(row)) is not None:
        raise CanaryCannotRenew(
            f"nothing is changed: {row.id} {why}, so it would never be asked", name=name
        )
    return row


def _why_not(row: Enrollment) -> str | None:
    if row.is_user_channel:
        return "is a user of a device, and devices renew"
    if not row.state.is_served:
        return f"is not enrolled ({row.state.value})"
    if row.profile is None:
        return "has an enrollment profile that this server did not issue"
    return None
