"""Whether a challenge may be spent by this key, now: the pure rule that storage runs on fresh state."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from ostiary.domain.invitation import Challenge, Invitation, Spend
from ostiary.errors import Refused
from ostiary.services.certificates import IssuedIdentity

RETRY_WINDOW: Final = timedelta(minutes=15)
"""How long the key that spent a challenge may ask again: a lost answer must not brick a device. (6.3 rule 2)"""


class ChallengeRefused(Refused):
    """The enrollment challenge is unknown, used, used up or too old."""

    hint = "Fetch a new enrollment profile; each one enrolls one device, once, and soon."


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """One attempt to spend a challenge."""

    key_digest: str
    now: datetime

    def is_repeat(self, challenge: Challenge, invitation: Invitation | None) -> bool:
        """Whether the certificate issued before is to be returned again; False: a fresh one may be issued.

        Raises:
            ChallengeRefused: neither.

        Source: check-in-and-commands.md 6.3 rules 1 and 2; cases SC-01, SC-02.
        """
        if challenge.spent_at is not None:
            if challenge.spent_by_key != self.key_digest:
                raise ChallengeRefused("the challenge was used by another key")
            if self.now > challenge.spent_at + RETRY_WINDOW:
                raise ChallengeRefused("the challenge was used, too long ago for a retry")
            return True
        if self.now > challenge.valid_until:
            raise ChallengeRefused("the challenge is too old")
        if invitation is not None and invitation.uses_left < 1:
            raise ChallengeRefused("the invitation is used up")
        return False

    def rule(
        self, challenge: Challenge, invitation: Invitation | None, identity: IssuedIdentity
    ) -> Spend | None:
        """The change that spends the challenge with `identity`; None to return the certificate issued before."""
        if self.is_repeat(challenge, invitation):
            return None
        spent = replace(
            challenge,
            spent_at=self.now,
            spent_by_key=self.key_digest,
            issued=identity.credential.fingerprint,
        )
        return Spend(
            challenge=spent, credential=identity.credential, certificate=identity.certificate
        )
