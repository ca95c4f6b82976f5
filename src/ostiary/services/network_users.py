"""Network users of Macs: HTTP Digest challenges against a password file made by Apache's `htdigest`. (1.5)"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ostiary.domain.user_login import ProvenDigest
from ostiary.errors import Malformed
from ostiary.secret import Secret

REALM: Final = "Ostiary"
_METHODS: Final = ("PUT", "POST", "GET")
"""Which method goes into the digest is unconfirmed, so each is tried. (1.5)"""
_PAIR: Final = re.compile(r'(\w+)\s*=\s*(?:"([^"]*)"|([^\s,]+))')
_LONGEST: Final = 4096


class PasswordFileUnreadable(Malformed):
    """The file of network users is not in htdigest's form: `user:realm:md5`, one a line."""

    hint = f"Make it with `htdigest -c FILE {REALM} USER`."


class NetworkUsers:
    """Knows, per user, MD5(user:realm:password), and so can tell whether a digest response is right."""

    def __init__(self, digest_by_user: Mapping[str, Secret]) -> None:
        self._digest_by_user = digest_by_user

    def challenge(self, nonce: str) -> str:
        """The DigestChallenge with this nonce."""
        return f'Digest nonce="{nonce}", realm="{REALM}"'

    def prove(self, response: Secret | None) -> ProvenDigest | None:
        """Whose digest response this is, and over which nonce, if it verifies under their password; else None."""
        if response is None or len(response) > _LONGEST:
            return None
        text = response.reveal().decode("utf-8", "replace")
        said = {name.lower(): quoted or bare for name, quoted, bare in _PAIR.findall(text)}
        user = said.get("username", "")
        known = self._digest_by_user.get(user)
        if known is None or said.get("realm") != REALM or "nonce" not in said:
            return None
        proven = [
            hmac.compare_digest(
                _response(known, said["nonce"], method, said.get("uri", "/")), answer
            )
            for method in _METHODS
            for answer in [said.get("response", "").lower().encode("utf-8", "replace")]
        ]
        return ProvenDigest(user=user, nonce=said["nonce"]) if any(proven) else None


def load_network_users(path: Path | None) -> NetworkUsers:
    """The users in an htdigest file; nobody without one.

    Raises:
        PasswordFileUnreadable
    """
    if path is None:
        return NetworkUsers({})
    users: dict[str, Secret] = {}
    for line in path.read_text("utf-8").splitlines():
        if not line.strip():
            continue
        match line.split(":"):
            case [user, realm, digest] if re.fullmatch(r"[0-9a-f]{32}", digest):
                if realm == REALM:
                    users[user] = Secret(digest.encode())
            case _:
                raise PasswordFileUnreadable(file=path.name)
    return NetworkUsers(users)


def _response(password_digest: Secret, nonce: str, method: str, uri: str) -> bytes:
    right = hashlib.md5(f"{method}:{uri}".encode(), usedforsecurity=False).hexdigest()
    both = b":".join([password_digest.reveal(), nonce.encode(), right.encode()])
    return hashlib.md5(both, usedforsecurity=False).hexdigest().encode()
