"""The switches that operators own: where the facts leave a choice, this is where it is made visible."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class RestoredBackup(StrEnum):
    """What a TokenUpdate of a checked-out enrollment means. (TU-15, TU-16)"""

    ACCEPT = "accept"
    REFUSE = "refuse"


class UserLogin(StrEnum):
    """How a Mac's network user is answered. (check-in-and-commands.md 1.5)"""

    DECLINE = "decline"
    EMPTY_CHALLENGE = "empty-challenge"
    DIGEST = "digest"


class BadDigest(StrEnum):
    """How a wrong digest is answered; Apple's pages disagree. (1.5)"""

    EMPTY_TOKEN = "empty-token"  # noqa: S105 - a policy's name
    DECLINE = "decline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One tenant's choices. Kept in the database, equal on all nodes; `ostiary policy list` explains them."""

    restored_backup: RestoredBackup = RestoredBackup.ACCEPT
    user_login: UserLogin = UserLogin.DECLINE
    bad_digest: BadDigest = BadDigest.EMPTY_TOKEN
    shared_ipad_users: bool = True
    """False: every Shared iPad user is declined with 410 for the login session. (TU-13)"""
    bind_on_first_use: bool = False
    """Bind an unused certificate to an enrollment that has none ("retroactive"). (3.8 rule 3)"""
    contest_silence: timedelta = timedelta(hours=24)
    """How long the old side of a contest may be silent before the newcomer takes its place. (2.3)"""
    accept_sha1: bool = True
    """Macs in the field sign with SHA-1. (3.8 rule 3)"""
    accept_expired_certificates: bool = False
    expired_grace: timedelta = timedelta(days=90)
    """So long after its end a bound certificate may still fetch the renewal of its identity, and nothing else. (3.8)"""
    renew_identities: bool = True
    """Ask devices for new identities in time; an identity that ends ends management. (6.1)"""
    renew_at_life_left: int = 33
    """Percent of a certificate's life."""
    renewals_a_day: int = 1000
    """At most; those that end within thirty days are asked all the same."""
    renewal_spread: timedelta = timedelta(days=7)
    """Over which devices are spread that enrolled together."""
    renewal_canary_share: int = 5
    """Percent of those due that are asked first, at least one; the others wait until these have renewed. 0: nobody waits."""
    renewal_canaries: str = ""
    """Enrollment ids of the devices that are asked first, instead of a share of those due."""
    keep_ended_commands: timedelta = timedelta(days=90)
    """With their results, after they ended. (domain/retention.py has the rules behind all of these)"""
    keep_cancelled_commands: timedelta = timedelta(days=30)
    most_ended_commands: int = 500
    """For each channel; the newest stay."""
    keep_push_tokens: timedelta = timedelta(days=30)
    """Older push tokens, after another took their place."""
    keep_device_secrets: timedelta = timedelta(days=365)
    """Older unlock and bootstrap tokens; the last ones and the proven one stay whatever their age."""
    most_brief_generations: int = 50
    """Of one token of one relationship that were in force for less than a day; the briefest go first, a day after they
    came."""
    keep_certificates: timedelta = timedelta(days=365)
    """What is known of certificates that were replaced, after their own end."""
    keep_challenges: timedelta = timedelta(days=30)
    """Enrollment challenges and invitations, after their end."""
    keep_alerts: timedelta = timedelta(days=180)
    """After they were last raised."""
    keep_ended_relationships: timedelta = timedelta(days=730)
    """Sides of a contest that lost, since they last spoke; never one that handed over a secret."""
    most_user_channels: int = 1000
    """On one device; further users are not managed."""
    rotate_after_reveal: timedelta = timedelta(hours=1)
    """After a person was shown a password or a recovery key that can be replaced. (escrowed-secrets.md 4.0.2 rule 7)"""
    most_destructive_an_hour: int = 50
    """Commands that erase, lock or shut down, queued for one tenant; more take the word of somebody who counted."""
    destructive_expires_after: timedelta = timedelta(0)
    """So long after it was queued a destructive command is not handed out any more; zero: however long it waited."""
    return_to_service: bool = True
    """Let a device that Automated Device Enrollment put into that mode reset itself when it asks to. (1.3.8)"""
    admin_account: str = ""
    """Short name of the administrator account that Setup Assistant makes on Macs; empty: none. (4.8)"""
    admin_full_name: str = ""
    """Its full name; empty: the short one."""
    admin_hidden: bool = True
