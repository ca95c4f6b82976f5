"""GetToken while no policy mints tokens: each kind of request is refused for what it lacks. (1.3.7)"""

from typing import Final

from ostiary.errors import Malformed, Refused
from ostiary.protocol.mdm.checkin import GetToken
from ostiary.services.reply import Reply

MAID: Final = "com.apple.maid"
WATCH_PAIRING: Final = "com.apple.watch.pairing"


class UnknownTokenService(Malformed):
    """GetToken asks for a service that Apple does not document."""


class PairingIncomplete(Malformed):
    """A watch pairing token needs SecurityToken, PhoneUDID and WatchUDID."""


class TokenServiceNotSetUp(Refused):
    """Nobody has set this server up to mint tokens of this kind."""

    hint = "Managed Apple Account tokens need the organization's server token and key; watch pairing is not offered."


def refuse_to_mint(message: GetToken) -> Reply:
    """Raise what is wrong with the request; none can be granted yet, and none is answered with an empty token.

    Raises:
        UnknownTokenService, PairingIncomplete: answered 400. (CI-36, CI-38)
        TokenServiceNotSetUp: answered 400.
    """
    if message.service_type not in (MAID, WATCH_PAIRING):
        raise UnknownTokenService
    if message.service_type == WATCH_PAIRING and message.pairing is None:
        raise PairingIncomplete
    raise TokenServiceNotSetUp(service=message.service_type)
