"""A Mac's network user logs in: the exchange of UserAuthenticate, and the session that follows. (1.5)"""

from dataclasses import replace
from datetime import datetime
from typing import Protocol

from ostiary.domain import alerts
from ostiary.domain.answer import Accepted, Declined, Goodbye, LoginChallenge, LoginDecided
from ostiary.domain.decision import Change, Snapshot
from ostiary.domain.enrollment import Enrollment, EnrollmentKey, Standing, State, UserSession
from ostiary.domain.pairing import EnrollmentIsOut, require_paired
from ostiary.domain.policy import BadDigest, Policy, UserLogin
from ostiary.domain.token import KeyedDigest
from ostiary.domain.visitor import DeviceIdentity
from ostiary.protocol.mdm.checkin import DeviceFacts, UserAuthenticate
from ostiary.protocol.mdm.identity import Channel
from ostiary.values import dataclass

LoginAnswer = Accepted | Declined | Goodbye | LoginChallenge | LoginDecided


class HasUserNames(Protocol):
    """A message that says what its user is called."""

    @property
    def user_short_name(self) -> str | None: ...

    @property
    def user_long_name(self) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenDigest:
    """A digest response that is right: for this user, over this nonce."""

    user: str
    nonce: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """One request of the exchange, with fresh values for whatever the rule may hand out."""

    message: UserAuthenticate
    identity: DeviceIdentity
    nonce: str
    """Fresh, for a challenge."""
    auth_token: KeyedDigest
    """Digest of a fresh AuthToken, for a login that succeeds."""
    answered: ProvenDigest | None
    """Whose password the digest response proves, if it proves any."""
    key: EnrollmentKey
    policy: Policy
    now: datetime


def apply_login(seen: Snapshot, login: Login) -> Change[LoginAnswer]:
    """Decline, manage without proof, or challenge and prove, as policy says.

    Every first request ends the session before it: its AuthToken is refused from then on. (CI-35)
    """
    device = require_paired(seen, login.identity, login.message.channel)
    if isinstance(device, Goodbye):
        return Change(at=login.now, answer=device)
    if not (device.state.is_served or device.state is State.PENDING):
        raise EnrollmentIsOut(enrollment_id=device.id)
    if login.policy.user_login is UserLogin.DECLINE:
        return Change(at=login.now, answer=Declined())
    if (declined := no_room(seen, device, login.policy, login.now)) is not None:
        return declined
    before = seen.channel or begin_user_channel(
        device, login.message.channel, login.key, login.now, names=login.message
    )
    if login.policy.user_login is UserLogin.EMPTY_CHALLENGE:
        if login.message.digest_response is not None:
            return Change(at=login.now, answer=Accepted())
        return _store(before, None, LoginChallenge(None), login)
    if login.message.digest_response is None:
        return _store(before, UserSession(nonce=login.nonce), LoginChallenge(login.nonce), login)
    return _prove(before, login)


def _prove(before: Enrollment, login: Login) -> Change[LoginAnswer]:
    """A nonce is good for one answer, right or wrong; and nobody's password proves another's channel."""
    asked = before.session.nonce if before.session else None
    said = login.answered
    named = login.message.user_short_name or before.user_short_name
    if said is not None and said.nonce == asked and said.user == (named or said.user):
        known = replace(before, user_short_name=said.user)
        session = UserSession(auth_token=login.auth_token)
        return _store(known, session, LoginDecided(proven=True), login)
    refused = login.policy.bad_digest is BadDigest.DECLINE
    return _store(
        before, UserSession(), Declined() if refused else LoginDecided(proven=False), login
    )


def _store(
    before: Enrollment, session: UserSession | None, answer: LoginAnswer, login: Login
) -> Change[LoginAnswer]:
    return Change(at=login.now, answer=answer, rows=(replace(before, session=session),))


def require_session(channel: Enrollment, auth_token: KeyedDigest | None) -> bool:
    """Whether a user channel's request may be served: where a proven login is asked for, its AuthToken is the current one.

    Without a session nobody was given an AuthToken, so one that comes is stale, or another channel's.
    False is answered 410, never 401. (1.5)
    """
    session = channel.session
    if session is None:
        return auth_token is None
    return session.auth_token is not None and session.auth_token == auth_token


def no_room(
    seen: Snapshot, device: Enrollment, policy: Policy, now: datetime
) -> Change[Declined] | None:
    """None if one more user channel may begin on the device; else the change that declines its user. (docs/decisions/0016)"""
    if seen.channel is not None or seen.users < policy.most_user_channels:
        return None
    raised = (alerts.too_many_users(device, seen.users),)
    return Change(at=now, answer=Declined(), alerts=raised)


def begin_user_channel(
    device: Enrollment, channel: Channel, key: EnrollmentKey, now: datetime, *, names: HasUserNames
) -> Enrollment:
    """A user channel's row before its first TokenUpdate."""
    return Enrollment(
        key=key,
        tenant=device.tenant,
        id=channel.id,
        type=channel.type,
        parent_key=device.key,
        state=State.ABSENT,
        standing=Standing.CURRENT,
        proof=device.proof,
        facts=DeviceFacts(),
        topic=device.topic,
        created_at=now,
        authenticated_at=device.authenticated_at,
        user_short_name=names.user_short_name,
        user_long_name=names.user_long_name,
    )
