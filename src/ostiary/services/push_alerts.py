"""What an operator is told when pushes do not work: one alert a topic or device, with what to do."""

from typing import Final

from ostiary.domain.decision import Alert
from ostiary.domain.push_target import PushTarget
from ostiary.ports.push import PushOutcome, PushVerdict

AWAY_AFTER: Final = 5
"""Failures in a row after which "try again" is worth somebody's look: a minute or two."""


def alert_after(outcome: PushOutcome, channel: PushTarget, *, failures: int) -> Alert | None:
    """The alert that a push's outcome deserves; None for what mends itself or is a device's ordinary life.

    `failures` counts this push. A 410 is ordinary: the device was erased, or will send a new token.

    Source: check-in-and-commands.md 5.5.
    """
    reason = outcome.reason or "no reason given"
    match outcome.verdict:
        case PushVerdict.TOPIC_PAUSED:
            return _about_topic(
                channel,
                "push-topic-paused",
                f"APNs does not accept our certificate for this topic ({reason}), so none of its devices can be "
                "woken. Renew the push certificate in Apple's portal, or resume the topic if APNs was at fault.",
            )
        case PushVerdict.OUR_BUG:
            return _about_topic(
                channel,
                "push-rejected",
                f"APNs rejects a push of ours ({reason}); it is tried again in a day. Please report this.",
            )
        case PushVerdict.TOKEN_DEAD if outcome.reason == "BadDeviceToken":
            return Alert(
                tenant=channel.tenant,
                subject=channel.id,
                kind="push-token-bad",
                sentence="APNs does not know this push token (BadDeviceToken): it is damaged or belongs to another "
                "environment. The device cannot be woken until it sends a new one.",
            )
        case PushVerdict.RETRY if failures == AWAY_AFTER:
            return _about_topic(
                channel,
                "apns-away",
                f"A push failed {AWAY_AFTER} times in a row ({reason}): APNs is in trouble or out of reach. Pushes are "
                "tried again by themselves; look at the way out to Apple's push hosts, ports 443 and 2197.",
            )
        case _:
            return None


def _about_topic(channel: PushTarget, kind: str, sentence: str) -> Alert:
    return Alert(tenant=channel.tenant, subject=channel.topic, kind=kind, sentence=sentence)
