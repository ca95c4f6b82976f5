"""Commands that only a Mac understands, about its recovery key and its Recovery Lock.

Source: escrowed-secrets.md 4.3, 4.4.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cryptography import x509

from ostiary_sim.cms import encode_enveloped
from ostiary_sim.mac_secrets import draw_recovery_key, find_escrow_certificate
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
    known = {user.password for user in device.users.values() if user.password}
    if volume.recovery_key is None or offered not in known | {volume.recovery_key}:
        raise CommandFailed("The FileVault password is not correct.")
    volume.recovery_key = draw_recovery_key(device.rng)
    content, cipher = volume.recovery_key.encode(), device.levers.envelope_cipher
    escrow = find_escrow_certificate(device.other_profiles.values())
    volume.escrowed = None if escrow is None else encode_enveloped(content, escrow, cipher)
    reply_to = command.get("ReplyEncryptionCertificate")
    if not isinstance(reply_to, bytes) or device.levers.omit_rotate_result:
        return Outcome()
    certificate = x509.load_der_x509_certificate(reply_to)
    enveloped = encode_enveloped(content, certificate, cipher)
    return Outcome(keys={"RotateResult": {"EncryptedNewRecoveryKey": enveloped}})


async def set_recovery_lock(device: "Device", _channel: "Channel", command: Command) -> Outcome:
    """Set, change or clear the password of recoveryOS."""
    _check_apple_silicon(device)
    device.recovery_lock.change(
        command.get("CurrentPassword"),
        command.get("NewPassword"),
        # In Setup Assistant it is acknowledged and not in force (field fact a).
        apply=not device.awaiting and not device.levers.recovery_lock_not_applied,
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
