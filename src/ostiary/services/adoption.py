"""A second look at a certificate that was refused as not paired: an operator or a policy may have let it in."""

from ostiary.domain.adoption import apply_adoption
from ostiary.domain.decision import Ask, ByCertificate
from ostiary.domain.policy import Policy
from ostiary.domain.visitor import DeviceIdentity
from ostiary.ports.clock import Clock
from ostiary.ports.storage import Enrollments
from ostiary.protocol.mdm.identity import Channel


async def adopt(
    enrollments: Enrollments,
    identity: DeviceIdentity,
    channel: Channel,
    policy: Policy,
    clock: Clock,
) -> bool:
    """Whether the certificate is bound now, so that the message may be decided once more. (3.8 rules 3, 6)"""
    now = clock.now()
    who = ByCertificate(fingerprint=identity.fingerprint, channel=channel, tenant=identity.tenant)
    change = await enrollments.decide(
        Ask(who=who, relationships=True),
        lambda seen: apply_adoption(seen, channel, identity, policy, now),
    )
    return change.answer
