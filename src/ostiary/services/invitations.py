"""Invitations: a person may fetch enrollment profiles with a code, bound to whom it was made for."""

import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from ostiary.domain.decision import AuditEntry
from ostiary.domain.enrollment import Bound
from ostiary.domain.invitation import Invitation
from ostiary.domain.token import DEFAULT_TENANT, RecordId, TenantId
from ostiary.errors import Malformed, Refused
from ostiary.ports.clock import Clock
from ostiary.ports.sealer import Sealer
from ostiary.ports.storage import Challenges
from ostiary.secret import Secret
from ostiary.services.allowance import FailureAllowance

CODE_LETTERS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: without I, L, O and U, so that a code survives being read aloud."""
CODE_LENGTH: Final = 20
"""100 random bits."""
_GROUP: Final = 4
_LONGEST_TYPED: Final = 64
_LOOKALIKES: Final = str.maketrans({"O": "0", "I": "1", "L": "1", "-": None, " ": None})

LONGEST_VALIDITY: Final = timedelta(days=366)
MOST_USES: Final = 100_000
_LONGEST_SERIAL: Final = 64
_LONGEST_USER: Final = 255


class InvitationUnusable(Malformed):
    """An invitation cannot be made like this."""

    hint = "`ostiary enroll invite --help` says what each option takes; none of them is needed."


class InvitationRefused(Refused):
    """This code does not open an invitation: it is mistyped, used up or too old."""

    hint = "Compare it with the invitation, or ask for a new one."


class InvitationService:
    """Makes invitations, and finds them by their code."""

    def __init__(
        self,
        *,
        challenges: Challenges,
        sealer: Sealer,
        clock: Clock,
        tenants: Sequence[TenantId] = (DEFAULT_TENANT,),
        allowance: FailureAllowance | None = None,
    ) -> None:
        self._challenges = challenges
        self._sealer = sealer
        self._clock = clock
        self._tenants = tenants
        self._allowance = allowance or FailureAllowance()

    async def invite(
        self, tenant: TenantId, bound: Bound, *, valid_for: timedelta, uses: int, actor: str
    ) -> tuple[Invitation, Secret]:
        """A stored invitation, and its code, which is shown once and kept only as a digest.

        `uses` counts certificates, not downloads. Raises InvitationUnusable.
        """
        _check(bound, valid_for, uses)
        code = Secret("".join(secrets.choice(CODE_LETTERS) for _ in range(CODE_LENGTH)).encode())
        now = self._clock.now()
        invitation = Invitation(
            id=RecordId(secrets.token_hex(16)),
            tenant=tenant,
            code=self._sealer.digest(tenant, code),
            bound=bound,
            valid_until=now + valid_for,
            uses_left=uses,
            created_at=now,
            created_by=actor,
        )
        audit = AuditEntry(
            tenant=tenant,
            actor=actor,
            verb="enroll.invite",
            subject=bound.serial_number or bound.user or bound.enrollment_key or "anybody",
            reason="",
        )
        await self._challenges.add_invitation(invitation, audit)
        return invitation, Secret(_in_groups(code.reveal().decode()).encode())

    async def find(self, typed: Secret) -> Invitation:
        """The invitation that a code opens, as a person typed it.

        Raises:
            InvitationRefused: unknown, used up or too old; which of them is not told.
            TooManyFailures: too many wrong codes lately.

        Source: users.md 5.4 item 23.
        """
        now = self._clock.now()
        code = _read_code(typed)
        invitation = await self._look_up(code) if code is not None else None
        if invitation is None or invitation.uses_left < 1 or now > invitation.valid_until:
            self._allowance.count_failure(now)
            raise InvitationRefused
        return invitation

    async def _look_up(self, code: Secret) -> Invitation | None:
        for tenant in self._tenants:
            digest = self._sealer.digest(tenant, code)
            if (found := await self._challenges.find_invitation(digest)) is not None:
                return found
        return None


def _in_groups(code: str) -> str:
    return "-".join(code[at : at + _GROUP] for at in range(0, len(code), _GROUP))


def _read_code(typed: Secret) -> Secret | None:
    """The code without what people add to it; None if it can be none."""
    if len(typed) > _LONGEST_TYPED:
        return None
    text = typed.reveal().decode("ascii", "replace").strip().upper().translate(_LOOKALIKES)
    is_code = len(text) == CODE_LENGTH and all(letter in CODE_LETTERS for letter in text)
    return Secret(text.encode()) if is_code else None


def _check(bound: Bound, valid_for: timedelta, uses: int) -> None:
    if not timedelta(0) < valid_for <= LONGEST_VALIDITY:
        raise InvitationUnusable("it must be valid for more than nothing and at most a year")
    if not 0 < uses <= MOST_USES:
        raise InvitationUnusable("it must be of use at least once", uses=uses, most=MOST_USES)
    serial, user = bound.serial_number, bound.user
    if serial is not None and not (
        0 < len(serial) <= _LONGEST_SERIAL and serial.isascii() and serial.isalnum()
    ):
        raise InvitationUnusable("a serial number has letters and digits only", field="serial")
    if user is not None and not (0 < len(user) <= _LONGEST_USER and user.isprintable()):
        raise InvitationUnusable("a user's name is printable and not empty", field="user")
