"""Commands that only a Mac understands, about its recovery key and its Recovery Lock.

Source: escrowed-secrets.md 4.3, 4.4.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cryptography import x509

from ostiary_sim.cms import encode_enveloped
from ostiary_sim.outcomes import CommandFailed, CommandMalformed, Outcome

if TYPE_CHECKING:
    from ostiary_sim.channel import Channel
    from ostiary_sim.device import Device

Command = Mapping[str, Any]


async def rotate_filevault_key(device: "Device", _channel: "Channel", command: Command) -> Outcome:
    """A user's password or the present key buys a new one, enveloped for the reply certificate."""
    if command.get("KeyType") != "personal":
        raise CommandMalformed("only personal recovery keys are simulated")
    volume = device.volume
    offered = command.get("FileVaultUnlock", {}).get("Password")
    if not isinstance(offered, str) or not _opens(device, offered):
        raise CommandFailed("The FileVault password is not correct.")
    reply_to = command.get("ReplyEncryptionCertificate")
    certificate = None if reply_to is None else _read_certificate(reply_to)
    levers = device.levers
    by_key = levers.envelope_by_key_identifier
    key = volume.encrypt(
        device.rng,
        device.other_profiles.values(),
        levers.envelope_cipher,
        by_key_identifier=by_key,
    )
    crashes, levers.rotation_crashes = levers.rotation_crashes, False
    if certificate is None or levers.omit_rotate_result or crashes:
        return Outcome(unsaid=crashes)
    enveloped = encode_enveloped(
        key.encode(), certificate, levers.envelope_cipher, by_key_identifier=by_key
    )
    return Outcome(keys={"RotateResult": {"EncryptedNewRecoveryKey": enveloped}})


def _opens(device: "Device", password: str) -> bool:
    """Say whether this opens the disk: the recovery key does, and whoever has a SecureToken."""
    key = device.volume.recovery_key
    if key is None or not password:
        return False
    able = (user for user in device.users.values() if user.secure_token)
    return password == key or any(user.accepts(password) for user in able)


def _read_certificate(der: object) -> x509.Certificate:
    if not isinstance(der, bytes):
        raise CommandMalformed("ReplyEncryptionCertificate is not data")
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError:
        raise CommandFailed("ReplyEncryptionCertificate is not a certificate.") from None


async def set_recovery_lock(device: "Device", _channel: "Channel", command: Command) -> Outcome:
    """Set, change or clear the password of recoveryOS."""
    _check_apple_silicon(device)
    device.recovery_lock.change(
        command.get("CurrentPassword"),
        command.get("NewPassword"),
        # In Setup Assistant it is acknowledged and not in force (field fact a).
        apply=not device.in_setup_assistant and not device.levers.recovery_lock_not_applied,
    )
    return Outcome()


async def verify_recovery_lock(device: "Device", _channel: "Channel", command: Command) -> Outcome:
    """Say whether the password is the one in force."""
    _check_apple_silicon(device)
    offered = command.get("Password")
    if not isinstance(offered, str):
        raise CommandMalformed("Password is missing")
    matches = device.recovery_lock.password is not None and offered == device.recovery_lock.password
    return Outcome(keys={"PasswordVerified": matches})


def _check_apple_silicon(device: "Device") -> None:
    if not device.personality.apple_silicon:
        raise CommandFailed("Recovery Lock needs Apple silicon.")
