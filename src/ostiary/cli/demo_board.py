"""What the demo shows: the server's own view of devices and tokens, beside what the devices say they do."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from ostiary_sim.events import Event

KINDS: Final = (
    "enrollment-challenge",
    "identity",
    "push",
    "unlock",
    "bootstrap",
    "filevault-key",
    "recovery-lock",
)

_STEPS: Final[Mapping[str, tuple[str, str]]] = {
    "identity_issued": ("got an identity", "got its identity certificate by SCEP"),
    "authenticated": ("authenticated", "Authenticate is accepted, and the certificate bound"),
    "token_update_accepted": ("tokens are sent", "TokenUpdate is accepted: its tokens are on disk"),
    "user_logged_in": ("logged in", "logged in"),
    "user_logged_out": ("logged out", "logged out"),
    "push_received": ("woken by a push", "was woken by a push"),
    "command_answered": ("answered", "answered"),
    "bootstrap_token_escrowed": ("token escrowed", "its bootstrap token is escrowed"),
    "bootstrap_token_fetched": ("token fetched", "got its bootstrap token back"),
    "filevault_on": ("disk encrypted", "FileVault is on; the recovery key is in its envelope"),
    "passcode_cleared": ("passcode gone", "its passcode is cleared"),
    "checked_out": ("checked out", "CheckOut is accepted"),
    "profile_removed": ("left management", "removed its enrollment profile"),
}
"""What an event is called in the table, and in a line below it."""
_UUID: Final = re.compile(r" [0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}")
_REPORT: Final = re.compile(r"report of command ([0-9A-F-]{36})")
_OMITTED: Final = ("the device ", "came with ")
_MARKS: Final[Mapping[str, str]] = {
    "queued": "waits",
    "sent": "sent",
    "deferred": "NotNow",
    "done": "done",
    "failed": "failed",
}
_SHORT_TYPES: Final[Mapping[str, str]] = {
    "ActivationLockBypassCode": "BypassCode",
    "VerifyRecoveryLock": "VerifyRecovery",
}
"""Commands whose names leave no room for what became of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLine:
    """One generation of one token, as the ledger tells it."""

    kind: str
    generation: int
    state: str
    known_by: str
    """What proved it, else what brought it."""
    is_proven: bool


@dataclass(slots=True, kw_only=True)
class BoardRow:
    """A device, or one of its users."""

    name: str
    who: str
    """The name for lines that stand alone."""
    serial: str
    channel: str
    """`device`, or a user's short name."""
    is_user: bool = False
    id: str = ""
    """The enrollment id; empty before there is one."""
    challenge: str = ""
    """The holder of the enrollment challenge in its profile."""
    step: str = "waits"
    state: str = "-"
    command: str = ""
    tokens: list[TokenLine] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Line:
    """One thing that happened, for people."""

    at: datetime
    who: str
    text: str


class Board:
    """Everything on the screen; filled from events and from what the server answers."""

    def __init__(self) -> None:
        self.act = ""
        """What is going on, in a sentence."""
        self.rows: list[BoardRow] = []
        self.lines: list[Line] = []

    def add(self, row: BoardRow) -> BoardRow:
        """Show one more row; a user's directly below the device's others."""
        below = [at for at, one in enumerate(self.rows) if one.serial == row.serial]
        self.rows.insert(below[-1] + 1 if below else len(self.rows), row)
        return row

    def hear(self, event: Event) -> None:
        """Take what a device said about itself."""
        row = self._row_of(event)
        words = _STEPS.get(event.what)
        if row is None or words is None:
            return
        row.step, text = words
        if event.what == "command_answered":
            text = f"{text} {event.detail}"
        self.lines.append(Line(at=event.at, who=row.who, text=text))

    def tell(self, at: datetime, text: str) -> None:
        """Add what a person did."""
        self.lines.append(Line(at=at, who="$", text=text))

    def answer(self, at: datetime, about: str, text: str) -> None:
        """Add what a command told that person."""
        self.lines.append(Line(at=at, who=about, text=text))

    def take(
        self,
        devices: list[dict[str, Any]],
        commands: list[dict[str, Any]],
        tokens: list[dict[str, Any]],
    ) -> None:
        """Take the server's view, as `device list`, `queue list --all` and `token list --all` print it."""
        state_of = {each["id"]: str(each["state"]) for each in devices}
        types = {str(each["uuid"]): str(each["request_type"]) for each in commands}
        for row in self.rows:
            row.state = state_of.get(row.id, "-")
            row.command = _last_command([each for each in commands if each["enrollment"] == row.id])
            row.tokens = _tokens(
                [each for each in tokens if each["holder"] in _holders(row)], types
            )

    def new_challenges(self, tokens: list[dict[str, Any]]) -> set[str]:
        """The holders of those enrollment challenges that no row owns yet."""
        owned = {row.challenge for row in self.rows}
        return {
            str(each["holder"])
            for each in tokens
            if each["kind"] == "enrollment-challenge" and each["holder"] not in owned
        }

    def _row_of(self, event: Event) -> BoardRow | None:
        for row in self.rows:
            if (row.serial, row.channel) == (event.serial, event.channel):
                return row
        return None


def _holders(row: BoardRow) -> set[str]:
    return {holder for holder in (row.id, row.challenge) if holder}


def _last_command(commands: list[dict[str, Any]]) -> str:
    """The command under way or next, else the one that ended last; `queue list` has them in this order."""
    if not commands:
        return ""
    last = commands[0]
    request_type = _SHORT_TYPES.get(last["request_type"], last["request_type"])
    return f"{request_type} {_MARKS.get(last['state'], last['state'])}"


def _tokens(tokens: list[dict[str, Any]], types: Mapping[str, str]) -> list[TokenLine]:
    shown = [each for each in tokens if each["kind"] in KINDS]
    shown.sort(key=lambda each: (KINDS.index(each["kind"]), each["generation"]))
    return [
        TokenLine(
            kind=each["kind"],
            generation=each["generation"],
            state=each["state"],
            known_by=_short(each["proven_by"] or each["cause"], types),
            is_proven=each["proven_by"] is not None,
        )
        for each in shown
    ]


def _short(text: str, types: Mapping[str, str]) -> str:
    """The sentence with a command's type for its UUID, or without it, and without words that go without saying here."""
    text = _REPORT.sub(lambda found: types.get(found[1], "a report"), text)
    text = _UUID.sub("", text)
    for omitted in _OMITTED:
        text = text.removeprefix(omitted)
    return text
