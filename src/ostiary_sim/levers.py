"""What a tester may pull on a simulated device to make it late, lossy, forgetful or hostile."""

import enum
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from ostiary_sim.cms import ContentCipher
from ostiary_sim.identity import Identity
from ostiary_sim.signature import SignatureForm


class Keep(enum.Enum):
    """Stands for an argument that was not given: send what the device would send by itself."""

    KEEP = "as the device would"


KEEP: Final = Keep.KEEP


class UnlockTokenAtRenewal(enum.Enum):
    """What an iPhone does with its UnlockToken when its profile is replaced; the documents leave it open."""

    SAME = "sent again, the same bytes"
    CHANGED = "a new one"
    OMITTED = "not sent"


class LateBypassCode(enum.Enum):
    """What a device says to ActivationLockBypassCode when the 15 days are over; the documents leave it open."""

    REFUSED = "Error"
    EMPTY = "Acknowledged, with an empty code"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reluctance:
    """When to answer NotNow."""

    request_types: frozenset[str] | None
    """None: to every command."""
    until: datetime | None
    """None: until told otherwise."""

    def covers(self, request_type: str, now: datetime) -> bool:
        """Say whether this command is put off now."""
        if self.until is not None and now >= self.until:
            return False
        return self.request_types is None or request_type in self.request_types


@dataclass(slots=True, kw_only=True)
class Levers:
    """The levers of one device; every default is a well-behaved device."""

    offline: bool = False
    """Nothing leaves the device."""
    break_off_after: int | None = None
    """Lose the connection after receiving so many commands, before executing the last. One session."""
    lose_reports: int = 0
    """Execute, then fail to deliver so many reports; they are cached and sent again."""
    report_twice: bool = False
    """Send each report a second time."""
    signature_form: SignatureForm | None = None
    """Another form than the personality's."""
    omit_signature: bool = False
    proxy_header: str | None = None
    """Carry the certificate in this header, as a TLS proxy would that asked the device for it (RFC 9440)."""
    sign_as: Identity | None = None
    """Sign with somebody else's identity."""
    signature_of_other_body: bytes | None = None
    """Attach the signature of this body instead."""
    signing_ahead: timedelta = timedelta()
    """Added to the device's clock in signingTime."""
    unlock_token_always: bool = False
    """Send the UnlockToken in every TokenUpdate, not only the first."""
    unlock_token_at_renewal: UnlockTokenAtRenewal = UnlockTokenAtRenewal.SAME
    unlock_token_dies_on_use: bool = False
    """The old UnlockToken is refused after one ClearPasscode."""
    passcode_error: tuple[str, int] = ("MCPasscodeErrorDomain", 5013)
    """Domain and code of the ErrorChain for a wrong UnlockToken; the documents name none."""
    envelope_cipher: ContentCipher = ContentCipher.AES_256
    """For FileVault recovery keys; which one a Mac uses is not settled."""
    envelope_by_key_identifier: bool = False
    """Name the envelope's recipient by its key, not by issuer and serial number."""
    omit_rotate_result: bool = False
    """Rotate the recovery key and do not tell it in the reply."""
    rotation_crashes: bool = False
    """Once: rotate the recovery key and go under before the reply. The Mac comes back with Idle."""
    recovery_lock_not_applied: bool = False
    """Acknowledge SetRecoveryLock without applying it."""
    recovery_lock_drops_at_renewal: bool = False
    setup_assistant_lingers: bool = False
    """A Mac stays in Setup Assistant after DeviceConfigured, until `finish_setup`."""
    firmware_not_changed: bool = False
    """Acknowledge SetFirmwarePassword with PasswordChanged false, and change nothing."""
    restart_waits_for_user: bool = False
    """RestartDevice is acknowledged and nobody agrees to restart; a tester calls `restart`."""
    lock_loses_reply: bool = False
    """Once: lock the Mac and lose the network before the report. It is never sent."""
    lock_message_result: str | None = None
    """Another MessageResult than the state of the device gives."""
    eacs_preflight: str | None = None
    """Another EACSPreflight than the Mac finds out; anything but `success` fails an erasure's preflight."""
    eacs_fails: bool = False
    """The preflight passes, and Erase All Content and Settings fails."""
    erase_without_reply: bool = False
    """EraseDevice is obeyed and never answered."""
    erase_cuts_network: bool = False
    """EraseDevice is answered, and then the device is offline (set `offline` to False to end that)."""
    only_wifi: bool = False
    """No Ethernet and no cellular: Return to Service needs WiFiProfileData."""
    snapshot_takes: timedelta = timedelta(minutes=5)
    """So long everything is put off after a device kept its apps and was configured."""
    bootstrap_once: bool = False
    """In return-to-service mode, escrow after the very first enrollment only, not after each."""
    admin_guid_hidden_for: int = 0
    """So many queries for AutoSetupAdminAccounts find nothing after the account was made."""
    find_my_renews_bypass_code: bool = False
    """Turning Find My on makes another bypass code, which the lock then uses (reported on iOS 11)."""
    late_bypass_code: LateBypassCode = LateBypassCode.REFUSED
    activation_lock_told: bool | None = None
    """Another IsActivationLockEnabled than the truth; the query is known to be wrong both ways."""
    lights_out_failures: dict[str, str] = field(default_factory=dict)
    """As a controller, fail the items for these DeviceDNSNames with these errors."""
    bootstrap_without_udid: bool = False
    """Send Set- and GetBootstrapToken as their schemas read: without any identity key."""
    extra_keys: dict[str, object] = field(default_factory=dict)
    """Further keys for every check-in message."""
    reluctances: list[Reluctance] = field(default_factory=list)
