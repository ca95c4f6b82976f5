"""When an unbound certificate may be bound without an Authenticate: an operator or a policy said so. (3.8 rules 3, 6)"""

from dataclasses import replace
from datetime import datetime

from ostiary.domain import alerts
from ostiary.domain.authenticate import bind_accepted, may_speak_of, proves_renewal
from ostiary.domain.decision import Change, Snapshot, Supersede
from ostiary.domain.enrollment import Enrollment, Proof, Standing, State
from ostiary.domain.pairing import speaks_for
from ostiary.domain.policy import Policy
from ostiary.domain.visitor import DeviceIdentity
from ostiary.protocol.mdm.identity import Channel


def apply_adoption(
    seen: Snapshot, channel: Channel, identity: DeviceIdentity, policy: Policy, now: datetime
) -> Change[bool]:
    """Whether the certificate is bound now; if not, and it named a known enrollment, operators learn of it.

    Asked only after a decision refused the certificate as not paired. (CI-47, BT-11)
    """
    refused: Change[bool] = Change(at=now, answer=False)
    current = next((row for row in seen.relationships if row.standing is Standing.CURRENT), None)
    if current is None or not speaks_for(current, channel):
        return refused
    if seen.binding is None and current.state is not State.REVOKED:
        if proves_renewal(seen.credential, current) and current.state.is_served:
            # Renewed without any check-in message (RenewalReq): its first use completes it. (3.8 rules 5, 6)
            bound = _answering_yes(bind_accepted(current, identity, now, proof=Proof.PROVEN))
            return replace(bound, supersede=(_others_of(current, identity),))
        if current.accepted_fingerprint == identity.fingerprint:
            return _answering_yes(bind_accepted(current, identity, now, proof=Proof.ACCEPTED))
        is_free = not seen.current_has_binding and may_speak_of(seen.credential, current)
        if policy.bind_on_first_use and is_free:
            return _answering_yes(bind_accepted(current, identity, now, proof=Proof.FIRST_USE))
    return replace(
        refused, alerts=(alerts.not_paired(identity.tenant, current.id, identity.fingerprint),)
    )


def _others_of(current: Enrollment, identity: DeviceIdentity) -> Supersede:
    return Supersede(
        enrollment_key=current.key,
        keep=identity.fingerprint,
        cause="the renewed certificate is in use",
    )


def _answering_yes(bound: Change[None]) -> Change[bool]:
    return Change(
        at=bound.at,
        answer=True,
        rows=bound.rows,
        bind=bound.bind,
        records=bound.records,
    )
