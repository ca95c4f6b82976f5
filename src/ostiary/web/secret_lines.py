"""Escrowed secrets as lines of JSON; a value is in none of them but those of a reveal."""

import base64
from datetime import datetime

from ostiary.domain.bootstrap_health import BootstrapHealth
from ostiary.domain.escrow_view import ROTATED, SecretView
from ostiary.domain.severity import Severity
from ostiary.domain.token import TokenRecord
from ostiary.secret import Secret
from ostiary.services.reveal import CONTESTED, Revealed, Shown
from ostiary.services.secrets_desk import Examined
from ostiary.web.lines import Line, moment, token_line

_SEVERITIES = {Severity.OK: "fine", Severity.WARNING: "warning", Severity.CRITICAL: "critical"}


def severity_word(severity: Severity) -> str:
    """How bad it is, for people."""
    return _SEVERITIES[severity]


def bootstrap_line(examined: Examined) -> Line:
    """The health of one bootstrap token."""
    device, health = examined.device, examined.health
    return {
        "id": device.id,
        "serial": device.facts.serial_number,
        "name": device.facts.device_name,
        "model": device.facts.product_name or device.facts.model,
        "os": device.facts.os_version,
        "enrollment": device.state.value,
        "last_seen": moment(device.last_seen_at),
        "health": health.word.value,
        "severity": severity_word(health.severity),
        "means": health.sentence,
        "todo": health.todo,
        "causes": list(health.causes),
        "supported": health.supported,
        "allowed": health.allowed,
        "escrowed": health.escrowed,
        "generation": health.generation,
        "received": moment(health.received_at),
        "proven": moment(health.proven_at),
        "proven_by": health.proven_by,
        "preflight": health.preflight,
        "secure_token_holders": None if health.holders is None else list(health.holders),
        "accounts_reported": moment(health.accounts_at),
        "at_the_mac": _at_the_mac(health),
    }


def secret_line(view: SecretView, now: datetime) -> Line:
    """Where one escrowed secret stands."""
    return {
        "kind": view.kind.value,
        "state": view.standing.word,
        "means": view.standing.consequence,
        "todo": view.standing.remedy,
        "since": moment(view.since),
        "generation": view.current.generation if view.current is not None else None,
        "candidate": view.candidate.generation if view.candidate is not None else None,
        "uncertain": view.is_uncertain,
        "values": [
            token_line(record, now)
            for record in (view.current, view.candidate)
            if record is not None
        ],
        "trouble": view.trouble,
        "notes": list(view.notes),
        "disclosed": moment(view.disclosed_at),
        "rotation_due": moment(view.rotation_due_at),
        "generations": view.generations,
        "can": list(view.can),
    }


def generation_line(record: TokenRecord, now: datetime) -> Line:
    """One generation of one secret, with when a person last saw it."""
    return token_line(record, now) | {"disclosed": moment(record.disclosed_at)}


def revealed_line(revealed: Revealed) -> Line:
    """What a person is shown. The only line with values: never log it."""
    return {
        "id": revealed.enrollment_id,
        "kind": revealed.kind.value,
        "uncertain": revealed.is_uncertain,
        "sentence": _sentence(revealed),
        "rotation_due": moment(revealed.rotation_due_at),
        "rotates": revealed.kind in ROTATED,
        "not_rotated_yet": revealed.replacement.open_why,
        "never_rotated": revealed.replacement.never_why,
        "values": [_shown(one) for one in revealed.shown],
    }


def _shown(one: Shown) -> Line:
    encoding, value = _written(one.value)
    return {
        "generation": one.generation,
        "role": one.role,
        "state": one.word,
        "cause": one.cause,
        "received": moment(one.received_at),
        "encoding": encoding,
        "value": value,
    }


def _written(secret: Secret) -> tuple[str, str]:
    """Text as it is; whatever a terminal could not print, in base64."""
    value = secret.reveal()
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = "\0"
    return ("text", text) if text.isprintable() else ("base64", base64.b64encode(value).decode())


def _sentence(revealed: Revealed) -> str:
    parts = (_restart(revealed), _doubt(revealed), _damage(revealed))
    return " ".join(part for part in parts if part)


def _restart(revealed: Revealed) -> str:
    """Which is in force now, and which after the restart. (4.5)"""
    if (since := revealed.restart_awaited_since) is None:
        return ""
    by_role = {one.role: one.generation for one in revealed.shown}
    now, then = by_role.get("current"), by_role.get("candidate")
    at = f"It said so at {since:%Y-%m-%d %H:%M} UTC; if it has restarted since, the change is in force."
    if now is not None and then is not None:
        return f"Generation {now} is in force now; the device took generation {then} and uses it from its next restart on. {at}"
    if then is not None:
        return f"The device took it and uses it from its next restart on; it is not in force before. {at}"
    return f"It is in force now; the device took its removal and is without it from its next restart on. {at}"


def _doubt(revealed: Revealed) -> str:
    if revealed.is_waiting:
        return "The device does not hold this value yet: its command waits for the device."
    if not revealed.is_uncertain:
        return ""
    if any(one.role == CONTESTED for one in revealed.shown):
        return "Another certificate that claimed this device told this value: nobody says that it is the device's own."
    if len(revealed.shown) == 1:
        return "Whether the device holds this value is not certain: no answer came, or it said otherwise."
    return "Nobody can say which of these the device holds: try the first, which was in force before, then the second."


def _damage(revealed: Revealed) -> str:
    if not revealed.unopened:
        return ""
    numbers = ", ".join(str(one) for one in revealed.unopened)
    return (
        f"May be in force as well, and does not open: generation {numbers}. It is damaged in the database; if none of the "
        "others works, look for it in a backup."
    )


def _at_the_mac(health: BootstrapHealth) -> list[Line]:
    return [
        {"command": one.command, "says": list(one.says), "means": one.means}
        for one in health.at_the_mac
    ]
