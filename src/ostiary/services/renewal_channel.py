"""The command channel of a device whose identity has ended: it may fetch its renewal, and nothing else."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import structlog
from typing_extensions import override

from ostiary.domain.decision import Ask, Change, Snapshot
from ostiary.domain.enrollment import Enrollment, Standing
from ostiary.domain.pairing import CertificateNotPaired
from ostiary.domain.token import RecordId, TokenRecord
from ostiary.domain.visitor import DeviceIdentity
from ostiary.domain.wake import debounced
from ostiary.errors import Refused
from ostiary.ports.storage import Challenges, Enrollments
from ostiary.protocol.mdm.connect import CommandUuid, ConnectReport, Status
from ostiary.services.connect import CommandChannel
from ostiary.services.identity_renewal import IdentityRenewalService
from ostiary.services.reply import Farewell, Media, Reply

INSTALL_PROFILE: Final = "InstallProfile"

log = structlog.get_logger()

AnswerT = TypeVar("AnswerT")


class IdentityEnded(Refused):
    """The device's identity certificate has ended; until it is renewed, the device may only fetch the renewal."""

    hint = (
        "The device is given its renewal when it next asks for commands. If `ostiary identity list` shows that this "
        "failed, enroll the device anew."
    )


class RenewalChannel:
    """Answers reports under certificates that have ended, within the grace that policy gives. Never 401.

    The certificate must be bound to the enrollment in force, as always. Results of commands that were handed out
    before are taken, or the device would repeat them for ever; of the queue it sees its own renewal alone, so that
    a key which should have been gone learns nothing more. (Of check-ins the door lets a TokenUpdate through: it says
    how the device is woken, and a device whose TokenUpdate is refused repeats it and asks for nothing else.)

    Source: check-in-and-commands.md 3.8 step 7 ("by policy"), 3.4 rules 3 and 4; docs/divergences.md.
    """

    def __init__(
        self,
        enrollments: Enrollments,
        challenges: Challenges,
        renewals: IdentityRenewalService,
        channel_over: Callable[[Enrollments], CommandChannel],
    ) -> None:
        """`channel_over` makes the command channel over what of the storage is to be seen."""
        self._enrollments = enrollments
        self._challenges = challenges
        self._renewals = renewals
        self._channel_over = channel_over

    async def handle(self, identity: DeviceIdentity, message: ConnectReport) -> Reply | Farewell:
        """Book a report, and answer a poll with the renewal; it is asked for now if nobody has.

        Raises:
            IdentityEnded: a user's channel, or a relationship that is not the one in use.
            CertificateNotPaired: bound to nothing that is in force.
        """
        row = await self._row(identity, message)
        uuid = None
        if message.status is Status.IDLE and row.state.is_served:
            uuid = await self._renewals.renew_for_visitor(row.key)
        seen = _RenewalAlone(self._enrollments, uuid, polls=message.status is Status.IDLE)
        reply = await self._channel_over(seen).handle(identity, message)
        if isinstance(reply, Reply) and reply.media is Media.COMMAND:
            log.info("renewal_handed_to_ended_identity", command_uuid=uuid)
        return reply

    async def _row(self, identity: DeviceIdentity, message: ConnectReport) -> Enrollment:
        row = await self._challenges.find_renewable(identity.fingerprint)
        if row is None:
            raise CertificateNotPaired(fingerprint=identity.fingerprint)
        if message.channel.is_user_channel or row.standing is not Standing.CURRENT:
            raise IdentityEnded(fingerprint=identity.fingerprint)
        return row


@dataclass(frozen=True, slots=True)
class _RenewalAlone(Enrollments):
    """Storage in which a channel's queue holds its renewal and nothing else."""

    inner: Enrollments
    renewal: CommandUuid | None
    polls: bool

    @override
    async def decide(
        self, ask: Ask, rule: Callable[[Snapshot], Change[AnswerT]]
    ) -> Change[AnswerT]:
        def narrowed(seen: Snapshot) -> Change[AnswerT]:
            # What waits cannot be handed out yet, so the channel keeps its wake and is pushed for its renewal.
            change = replace(rule(self._shown(seen)), drop_wakes=())
            if self.polls or change.wakes or not seen.queue or seen.channel is None:
                return change
            return replace(change, wakes=(debounced(seen.channel.key, change.at, seen.wake),))

        asks = replace(ask, reported=self.renewal) if self.polls else ask
        return await self.inner.decide(asks, narrowed)

    @override
    async def load_record(self, record_id: RecordId) -> TokenRecord | None:
        return await self.inner.load_record(record_id)

    def _shown(self, seen: Snapshot) -> Snapshot:
        """A poll named its renewal in place of a report; a report sees no queue at all."""
        if not self.polls:
            return replace(seen, queue=(), has_deferred=False)
        waits = seen.reported is not None and seen.reported.request_type == INSTALL_PROFILE
        return replace(
            seen,
            queue=(seen.reported,) if seen.reported is not None and waits else (),
            reported=None,
            reported_is_closed=False,
            has_deferred=False,
        )
