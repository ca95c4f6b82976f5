"""The alerts that decisions raise: a stable word, and a sentence that says what to do."""

from ostiary.domain.command import LiveCommand
from ostiary.domain.decision import Alert
from ostiary.domain.enrollment import Enrollment
from ostiary.domain.escrow import Escrow, concerns_secrets
from ostiary.domain.secret_shell import as_arguments
from ostiary.domain.token import Fingerprint, Holder, TenantId, TokenKind
from ostiary.protocol.mdm.checkin import Topic
from ostiary.protocol.mdm.connect import ErrorLink
from ostiary.protocol.mdm.identity import EnrollmentId


def topic_not_held(tenant: TenantId, topic: Topic) -> Alert:
    """No push certificate for a topic that a device names. (TU-8, CI-11)"""
    return Alert(
        tenant=tenant,
        subject=topic,
        kind="topic-not-held",
        sentence="A device names a push topic for which no push certificate is held. "
        "Import the certificate of this topic with `ostiary apns import`, or enroll with the right profile.",
    )


def topic_changed(device: Enrollment, topic: Topic) -> Alert:
    """A known topic, and not the one this enrollment began with. (TU-8)"""
    return Alert(
        tenant=device.tenant,
        subject=device.id,
        kind="topic-changed",
        sentence=f"The device moved to the push topic {topic}; a topic cannot change for an installed payload. "
        "Look whether two devices share this identity.",
    )


def contested(device_id: EnrollmentId, tenant: TenantId, newcomer: Fingerprint) -> Alert:
    """Another certificate claims a live enrollment without proof. (2.3)"""
    return Alert(
        tenant=tenant,
        subject=device_id,
        kind="contested",
        sentence=f"Certificate {newcomer} claims this enrollment while another certificate still serves it. Both are "
        "kept apart. If the device was erased or enrolled anew, accept the newcomer with "
        f"`ostiary device accept-certificate {as_arguments(device_id)}`; otherwise turn it away with "
        f"`ostiary device keep-certificate {as_arguments(device_id)}`, and find out who holds that certificate.",
    )


def contest_settled(device: Enrollment, how: str) -> Alert:
    """A contest ended; who won, and why."""
    return Alert(
        tenant=device.tenant,
        subject=device.id,
        kind="contest-settled",
        sentence=f"The newcomer took this enrollment over: {how}. Tokens of the earlier relationship are in history.",
    )


def not_paired(tenant: TenantId, claimed: EnrollmentId, fingerprint: Fingerprint) -> Alert:
    """A trusted certificate that is not bound named an existing enrollment. (3.8 rule 6, BT-11)"""
    return Alert(
        tenant=tenant,
        subject=claimed,
        kind="certificate-not-paired",
        sentence=f"Certificate {fingerprint} spoke for this enrollment without being bound to it, and was refused. If "
        "the device renewed its identity outside the MDM profile, accept it once with "
        f"`ostiary device accept-certificate --fingerprint {fingerprint} {as_arguments(claimed)}`.",
    )


def command_malformed(device: Enrollment, request_type: str) -> Alert:
    """The device could not parse a command: our bug. (CQ-12)"""
    return Alert(
        tenant=device.tenant,
        subject=device.id,
        kind="command-malformed",
        sentence=f"The device answered CommandFormatError to {request_type}; the command is closed as failed. "
        "If you wrote it by hand, compare it with Apple's schema; if Ostiary did, report a bug.",
    )


def release_failed(device: Enrollment, request_type: str, chain: tuple[ErrorLink, ...]) -> Alert:
    """A device that waits in Setup Assistant did not take its release. (3.5)"""
    said = chain[0].description if chain else "no reason given"
    return Alert(
        tenant=device.tenant,
        subject=device.id,
        kind="still-awaiting",
        sentence=f"{request_type} failed ({said[:200]}); the device may still wait in Setup Assistant. "
        f"Send {request_type} again once the cause is gone.",
    )


def value_returned(tenant: TenantId, holder: Holder, kind: TokenKind) -> Alert:
    """A value that another one had replaced is in force again: an old message may have been played once more. (users.md 5.4)"""
    return Alert(
        tenant=tenant,
        subject=holder,
        kind=f"{kind}-token-returned",
        sentence=f"The {kind} token went back to a value that another one had replaced. A device has no reason for "
        "that, but an old message sent once more does it. Compare the times in `ostiary token history "
        f"{as_arguments(holder)}`: both values are kept. If the device cannot explain it, find out who else holds its certificate.",
    )


def tokens_change_too_often(tenant: TenantId, holder: Holder, kind: TokenKind) -> Alert:
    """A device hands over new values without end; brief ones are forgotten, so that it cannot fill the disk."""
    return Alert(
        tenant=tenant,
        subject=holder,
        kind=f"{kind}-token-flood",
        sentence=f"The {kind} token changes so often that the briefest values are no longer kept. The one in force, "
        "the proven ones and those that served longest are. Look at the device: a fault, or somebody with its "
        "certificate, sends these messages.",
    )


def too_many_users(device: Enrollment, most: int) -> Alert:
    """A user beyond what policy allows on one device is declined for the login session. (TU-13)"""
    return Alert(
        tenant=device.tenant,
        subject=device.id,
        kind="too-many-users",
        sentence=f"The device has {most} user channels, and another user was not taken under management. If these "
        "are real people, allow more with `ostiary policy set most_user_channels`; otherwise find out who "
        "holds this device's certificate.",
    )


def destructive_withheld(device: Enrollment, request_type: str, why: str) -> Alert:
    """A destructive command did not leave: its target is not any more what it was when it was queued."""
    return Alert(
        tenant=device.tenant,
        subject=device.id,
        kind="destructive-withheld",
        sentence=f"{request_type} was cancelled instead of handed out: {why}. Look at "
        f"`ostiary device show {as_arguments(device.id)}`; if it is still meant, queue it again.",
    )


def command_does_not_open(
    device: Enrollment, command: LiveCommand, what: str, *, for_ever: bool = False
) -> Alert:
    """A command could not be written when its turn came: something in it is damaged. (escrowed-secrets.md 4.0.2 rule 4)

    `for_ever`: another such command would end the same way.
    """
    before = "It was not handed out"
    if command.hand_outs > 1:
        before += " now, and may have been before"
    looks = (
        f"Where the secret stands says `ostiary token escrow {as_arguments(device.id)}`; queue"
        if concerns_secrets(command)
        else "Queue"
    )
    looks += " it again if it is still meant"
    if for_ever:
        looks = (
            "Queued again it would end the same way. A FileVault key that cannot be written is shown by `ostiary token "
            f"reveal {as_arguments(device.id)} filevault-key`, and rotated with the password of one of the Mac's users: "
            f"`ostiary token rotate --unlock-with-stdin {as_arguments(device.id)} filevault-key`"
        )
    return Alert(
        tenant=device.tenant,
        subject=device.id,
        kind="command-does-not-open",
        sentence=f"{command.request_type} {command.uuid} was cancelled when its turn came: {what}. {before}; the commands "
        f"behind it go on, and the bytes are kept as they are. {looks}. If other devices have "
        "this alert too, the database is damaged: restore it from a backup.",
    )


def secret_records_gone(device: Enrollment, uuid: str | None) -> Alert:
    """A message speaks of stored secrets that are not in the ledger any more. (escrowed-secrets.md 4.0.2 rule 4)"""
    what = "A message of the device" if uuid is None else f"The answer to command {uuid}"
    return Alert(
        tenant=device.tenant,
        subject=device.id,
        kind="secret-records-gone",
        sentence=f"{what} speaks of a stored secret that is not in the database any more: the database was restored in "
        "part, or rows were deleted. It was booked, and of the lost value nothing was noted. What is left says "
        f"`ostiary token escrow --all {as_arguments(device.id)}`; restore the database whole if there is a backup with more.",
    )


def command_waits_for_key(device: Enrollment, command: LiveCommand) -> Alert:
    """A command names a key that stays unknown: it and all behind it wait. (escrowed-secrets.md 4.0.2 rule 4)"""
    return Alert(
        tenant=device.tenant,
        subject=device.id,
        kind="command-waits-for-key",
        sentence=f"{command.request_type} {command.uuid} cannot be handed out, and the commands behind it wait: it names a "
        "sealing key that is not known here. `ostiary key check` on each node says whether its root key is the one of "
        "the database. If that is well, the command itself is damaged: cancel it with `ostiary queue cancel "
        f"{as_arguments(device.id, command.uuid)}`, and queue it again.",
    )


def secret_uncertain(device: Enrollment, escrow: Escrow) -> Alert:
    """Nobody knows which of two values a device holds. (escrowed-secrets.md 4.0.3 rows 7b, 9)"""
    return Alert(
        tenant=device.tenant,
        subject=device.id,
        kind=f"{escrow.kind}-uncertain",
        sentence=f"Which {escrow.kind} is in force on this device is not known: {escrow.trouble}. Every value that may "
        f"be is kept: `ostiary token escrow {as_arguments(device.id)}` lists them, the likeliest first.",
    )


def secret_told_too_often(device: Enrollment, kind: TokenKind) -> Alert:
    """Another value, and another, with answers to commands that have ended: no device makes so many in a day."""
    return Alert(
        tenant=device.tenant,
        subject=device.id,
        kind=f"{kind}-told-too-often",
        sentence=f"The device says too many different values of its {kind}, with answers to commands that ended long ago. "
        "Those in force, the ones in doubt and the first few of a day are kept, the others are not. Find out who holds "
        f"the device's certificate; `ostiary token escrow --all {as_arguments(device.id)}` lists what came.",
    )


def answer_before_hand_out(device: Enrollment, request_type: str) -> Alert:
    """A report about a command with a secret that was never handed out. (escrowed-secrets.md 4.0.3 row 10)"""
    return Alert(
        tenant=device.tenant,
        subject=device.id,
        kind="answer-before-hand-out",
        sentence=f"The device answered a {request_type} that was never handed to it. Nothing was decided by that, and the "
        "command stays in line. After a backup was restored this may be the answer to a command that the backup does "
        "not know as sent: look at the secret with `ostiary token escrow`. Else something is wrong with the device.",
    )


def envelope_unreadable(device: Enrollment) -> Alert:
    """A FileVault recovery key came that no key of ours opens. (FV-03)"""
    return Alert(
        tenant=device.tenant,
        subject=device.id,
        kind="filevault-envelope-unreadable",
        sentence="The Mac sent a FileVault recovery key that no escrow key of ours opens. It is kept as it came, and the "
        "key known before is kept too. Look whether another server's FileVault profile is installed; then send "
        f"ours and rotate: `ostiary token rotate {as_arguments(device.id)} filevault-key`.",
    )


def bootstrap_suspect(device: Enrollment, said: str) -> Alert:
    """The Mac could not use its bootstrap token. (BT-21)"""
    return Alert(
        tenant=device.tenant,
        subject=device.id,
        kind="bootstrap-suspect",
        sentence=f"The Mac says that erasing all content and settings would fail ({said}). The bootstrap token that is "
        "held is kept; have it escrowed anew: `sudo profiles install -type bootstraptoken` at the Mac.",
    )


def bootstrap_read(device: Enrollment, why: str) -> Alert:
    """A bootstrap token was fetched when nothing explains it. (design.md 5, users.md 1G)"""
    return Alert(
        tenant=device.tenant,
        subject=device.id,
        kind="bootstrap-token-read",
        sentence=f"The bootstrap token of this device was fetched {why}. Devices fetch it when a user logs in who needs a "
        "SecureToken, for an update, or before an erase. If nobody at the device can explain it, somebody may have its "
        "certificate, or a signed request out of a log: have the token replaced (`sudo profiles install -type "
        f"bootstraptoken` at the Mac) and the identity renewed (`ostiary identity renew {as_arguments(device.id)}`).",
    )
