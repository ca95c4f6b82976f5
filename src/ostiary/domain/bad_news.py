"""What an acknowledged command did not do: the status says done, and the answer's own words say otherwise."""

from typing import Final

from ostiary.domain.decision import Alert
from ostiary.domain.enrollment import Enrollment
from ostiary.formats.fields import Fields
from ostiary.protocol.mdm.lights_out import LightsOutAnswer, decode_lom_answers
from ostiary.protocol.mdm.reported import as_text

_NAMED_AT_MOST: Final = 5


def bad_news(device: Enrollment, request_type: str, result: Fields) -> tuple[Alert, ...]:
    """What an operator has to hear of this answer; nothing of most. (escrowed-secrets.md 4.6, 4.11)"""
    match request_type:
        case "DeviceLock":
            return _unprotected(device, result)
        case "LOMDeviceRequest":
            return _not_switched(device, result)
        case _:
            return ()


def _unprotected(device: Enrollment, result: Fields) -> tuple[Alert, ...]:
    """Without a passcode a locked iPhone opens for whoever holds it. (DL-04)"""
    if as_text(result.as_mapping().get("MessageResult")) != "NoPasscodeSet":
        return ()
    sentence = (
        "The device was locked and is not protected: it has no passcode, so whoever holds it can open it. Put it into "
        "Lost Mode if it is supervised, or erase it."
    )
    alert = Alert(
        tenant=device.tenant, subject=device.id, kind="lock-without-passcode", sentence=sentence
    )
    return (alert,)


def _not_switched(controller: Enrollment, result: Fields) -> tuple[Alert, ...]:
    """One Acknowledged may hold some that failed. (LO-02)"""
    answers = decode_lom_answers(result)
    failed = [one for one in answers if not one.succeeded]
    if not failed:
        return ()
    named = "; ".join(_told(one) for one in failed[:_NAMED_AT_MOST])
    sentence = (
        f"Of {len(answers)} Macs that this one was to switch, {len(failed)} were not: {named}. The others were. If one "
        "was restarted, its addresses changed: send it `lom-setup-request` and try again."
    )
    alert = Alert(
        tenant=controller.tenant,
        subject=controller.id,
        kind="lights-out-failed",
        sentence=sentence,
    )
    return (alert,)


def _told(answer: LightsOutAnswer) -> str:
    return f"request {answer.uuid} ({answer.trouble or 'no reason given'})"
