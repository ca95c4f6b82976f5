"""Secrets of a Mac beside the bootstrap token: the FileVault recovery key and the Recovery Lock.

Source: escrowed-secrets.md 4.3, 4.4 (Simulated device).
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography import x509

from ostiary_sim.cms import ContentCipher, encode_enveloped
from ostiary_sim.outcomes import CommandFailed, CommandMalformed

_ESCROW: Final = "com.apple.security.FDERecoveryKeyEscrow"
_FILEVAULT: Final = "com.apple.MCX.FileVault2"
_LETTERS: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_GROUPS: Final = 6
_GROUP_LETTERS: Final = 4


@dataclass(slots=True, kw_only=True)
class Volume:
    """The start-up disk."""

    serial: str
    recovery_key: str | None = field(default=None, repr=False)
    """The personal recovery key; None: not encrypted."""
    escrowed: bytes | None = field(default=None, repr=False)
    """The key, enveloped for the server; None: it was made before any escrow profile."""

    @property
    def encrypted(self) -> bool:
        """Say whether FileVault is on."""
        return self.recovery_key is not None

    def encrypt(
        self,
        rng: random.Random,
        profiles: Iterable[Mapping[str, Any]],
        cipher: ContentCipher = ContentCipher.AES_256,
        *,
        by_key_identifier: bool = False,
    ) -> str:
        """Make a new key, and FileVault on; the key is escrowed only if an escrow profile is installed already."""
        key = draw_recovery_key(rng)
        certificate = find_escrow_certificate(profiles)
        self.recovery_key, self.escrowed = key, None
        if certificate is not None:
            self.escrowed = encode_enveloped(
                key.encode(), certificate, cipher, by_key_identifier=by_key_identifier
            )
        return key

    def answers(self) -> dict[str, object]:
        """The FileVault part of SecurityInfo."""
        known: dict[str, object] = {
            "FDE_Enabled": self.encrypted,
            "FDE_HasPersonalRecoveryKey": self.encrypted,
            "FDE_HasInstitutionalRecoveryKey": False,
        }
        if self.escrowed is not None:
            known["FDE_PersonalRecoveryKeyCMS"] = self.escrowed
            known["FDE_PersonalRecoveryKeyDeviceKey"] = self.serial
        return known


@dataclass(slots=True, kw_only=True)
class RecoveryLock:
    """The password of recoveryOS on Apple silicon."""

    password: str | None = field(default=None, repr=False)

    def change(self, current: object, new: object, *, apply: bool) -> None:
        """Set, change or (with an empty `new`) clear the password.

        Raises:
            CommandMalformed: no new password.
            CommandFailed: one is set, and `current` is not it.
        """
        if not isinstance(new, str):
            raise CommandMalformed("NewPassword is missing")
        if self.password is not None and current != self.password:
            raise CommandFailed("The current password is not correct.")
        if apply:
            self.password = new or None


def wants_filevault(profiles: Iterable[Mapping[str, Any]]) -> bool:
    """Say whether an installed profile turns FileVault on, which then happens at a login."""
    return any(
        payload.get("PayloadType") == _FILEVAULT and payload.get("Enable") == "On"
        for top in profiles
        for payload in top.get("PayloadContent", [])
        if isinstance(payload, dict)
    )


def draw_recovery_key(rng: random.Random) -> str:
    """Six groups of four capitals and digits."""
    groups = ("".join(rng.choices(_LETTERS, k=_GROUP_LETTERS)) for _ in range(_GROUPS))
    return "-".join(groups)


def find_escrow_certificate(
    profiles: Iterable[Mapping[str, Any]],
) -> x509.Certificate | None:
    """The certificate that installed profiles name for recovery keys; it sits in the same profile."""
    for top in profiles:
        payloads = [each for each in top.get("PayloadContent", []) if isinstance(each, dict)]
        by_uuid = {each.get("PayloadUUID"): each for each in payloads}
        for payload in payloads:
            if payload.get("PayloadType") == _ESCROW:
                named = by_uuid.get(payload.get("EncryptCertPayloadUUID"), {})
                return x509.load_der_x509_certificate(named["PayloadContent"])
    return None
