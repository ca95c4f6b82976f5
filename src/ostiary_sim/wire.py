"""One signed PUT and what came back: everything a device ever says to its MDM server goes through here.

Source: check-in-and-commands.md 1.1, 3.1, 3.7, 3.8.
"""

import json
import plistlib
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urljoin
from xml.parsers.expat import ExpatError

import httpx
from cryptography.hazmat.primitives import serialization

from ostiary_sim import signature
from ostiary_sim.clock import Clock
from ostiary_sim.connections import ClientFactory, Trust
from ostiary_sim.errors import MessageUnreadable
from ostiary_sim.identity import Identity
from ostiary_sim.installed import Installed
from ostiary_sim.levers import Levers
from ostiary_sim.personality import Personality, Platform
from ostiary_sim.profile import Management
from ostiary_sim.said import sentence_in

CHECK_IN_TYPE: Final = "application/x-apple-aspen-mdm-checkin"
COMMAND_TYPE: Final = "application/x-apple-aspen-mdm; charset=UTF-8"
NO_ANSWER: Final = 0
_REDIRECTS: Final = 5
_UNRECOGNIZED: Final = "com.apple.unrecognized.device"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the server said, or that it said nothing (status 0)."""

    status: int
    body: bytes = b""
    media_type: str = ""
    challenge: str | None = None
    """The WWW-Authenticate header."""

    @property
    def ok(self) -> bool:
        """Say whether the status is 2xx."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    @property
    def sentence(self) -> str:
        """What the server said about it in plain text; empty if nothing."""
        return sentence_in(self.media_type, self.body)

    def fields(self) -> dict[str, Any]:
        """The body as a property list (or JSON, where the server says so).

        Raises:
            MessageUnreadable: it is neither, or not a dictionary.
        """
        try:
            found = (
                json.loads(self.body)
                if self.media_type == "application/json"
                else plistlib.loads(self.body)
            )
        except (ExpatError, ValueError, plistlib.InvalidFileException) as problem:
            raise MessageUnreadable("the answer is not a property list") from problem
        if not isinstance(found, dict):
            raise MessageUnreadable("the answer is not a dictionary")
        return found

    def wants_sign_in(self, management: Management) -> bool:
        """Say whether this answer asks an account-driven enrollment to sign in again.

        Source: account-driven-enrollment.md, what a 401 means.
        """
        is_account_driven = management.enrollment_mode is not None
        return (
            self.status == HTTPStatus.UNAUTHORIZED
            and is_account_driven
            and self.challenge is not None
        )

    def unenrolls(self, personality: Personality, management: Management) -> bool:
        """Say whether this answer makes such a device leave management.

        Source: check-in-and-commands.md 2.5 step 10, 3.7.
        """
        if self.status == HTTPStatus.UNAUTHORIZED:
            return not self.wants_sign_in(management)
        if self.status != HTTPStatus.FORBIDDEN or not personality.obeys_unrecognized_device:
            return False
        try:
            return self.fields().get("code") == _UNRECOGNIZED
        except MessageUnreadable:
            return False


@dataclass(slots=True, kw_only=True)
class Wire:
    """Sends a device's messages under one profile and identity."""

    personality: Personality
    clients: ClientFactory
    clock: Clock
    levers: Levers

    async def put(
        self,
        message: Mapping[str, object],
        media_type: str,
        installed: Installed,
        access_token: str | None,
    ) -> Answer:
        """The server's answer to one message; a broken connection is an answer of status 0."""
        profile, identity = installed.profile, installed.identity
        management = profile.management
        if self.levers.offline:
            return Answer(status=NO_ANSWER)
        body = plistlib.dumps(dict(message), sort_keys=False)
        signs = management.sign_message
        url = management.check_in_url if media_type == CHECK_IN_TYPE else management.server_url
        headers = {"Content-Type": media_type, "User-Agent": self.personality.user_agent}
        if signs and not self.levers.omit_signature:
            headers[signature.HEADER] = self._sign(body, identity)
        if access_token is not None and self._shows_access_token(message):
            headers["Authorization"] = f"Bearer {access_token}"
        if self.levers.proxy_header is not None:
            headers[self.levers.proxy_header] = _certificate_header(identity)
        shown = None if signs else identity
        client = self.clients(Trust(anchors=profile.anchors, identity=shown))
        return await _follow(client, url, body, headers)

    def _shows_access_token(self, message: Mapping[str, object]) -> bool:
        """A Mac shows it on user channels alone. Source: account-driven-enrollment.md 1."""
        is_mac = self.personality.platform is Platform.MACOS
        return not is_mac or "EnrollmentUserID" in message or "UserID" in message

    def _sign(self, body: bytes, identity: Identity) -> str:
        levers = self.levers
        return signature.render_header(
            body if levers.signature_of_other_body is None else levers.signature_of_other_body,
            levers.sign_as or identity,
            levers.signature_form or self.personality.signature_form,
            self.clock() + levers.signing_ahead,
        )


def _certificate_header(identity: Identity) -> str:
    """Source: check-in-and-commands.md 3.8, the table of carriers."""
    der = identity.certificate.public_bytes(serialization.Encoding.DER)
    return f":{b64encode(der).decode('ascii')}:"


async def _follow(
    client: httpx.AsyncClient, url: str, body: bytes, headers: Mapping[str, str]
) -> Answer:
    """Redirects are followed with the same PUT and remembered by nobody. Source: check-in-and-commands.md 1.1."""
    try:
        for _ in range(_REDIRECTS):
            response = await client.put(
                url, content=body, headers=dict(headers), follow_redirects=False
            )
            if not response.has_redirect_location:
                kind = response.headers.get("content-type", "").split(";")[0].strip().lower()
                return Answer(
                    status=response.status_code,
                    body=response.content,
                    media_type=kind,
                    challenge=response.headers.get("www-authenticate"),
                )
            url = urljoin(url, response.headers["location"])
    except httpx.HTTPError:
        return Answer(status=NO_ANSWER)
    return Answer(status=NO_ANSWER)
