"""People on a simulated device: Mac accounts and Shared iPad users."""

from dataclasses import dataclass, field

from ostiary_sim.password_hash import PasswordHash


@dataclass(slots=True, kw_only=True)
class User:
    """One account."""

    short_name: str
    long_name: str
    guid: str
    """The GUID that a Mac sends as UserID or EnrollmentUserID; Shared iPad users hide behind one for all."""
    password: str = field(default="", repr=False)
    uid: int = 501
    mobile: bool = False
    """A network or mobile account: logs in with UserAuthenticate."""
    secure_token: bool = False
    logged_in: bool = False
    managed: bool = False
    """Has a user channel with the server."""
    refused: bool = False
    """The server answered 410: unmanaged until the next login."""
    auth_token: str | None = field(default=None, repr=False)
    """From UserAuthenticate; then part of every message of this user."""
    awaiting: bool = False
    """A Shared iPad user who waits for UserConfigured."""
    on_console: bool = True
    need_sync_response: bool = False
    user_configuration: bool = False
    password_hash: PasswordHash | None = field(default=None, repr=False)
    """Of an account that the server had made; `password` is then unknown on this Mac."""
    hidden: bool = False
    wrong_passwords: int = 0
    locked_out: bool = False
    """Too many wrong passwords: the right one does not help either."""

    def accepts(self, password: str) -> bool:
        """Say whether this is the account's password."""
        if self.password_hash is not None:
            return self.password_hash.matches(password)
        return password == self.password
