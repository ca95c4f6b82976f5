"""Records as lines of JSON, for people and programs: names, times and states, never a token's value."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ostiary.domain.enrollment import Binding, Enrollment
from ostiary.domain.erasure import Erasure
from ostiary.domain.push_healing import healing_of, why_dead
from ostiary.domain.rehearsal import Rehearsed
from ostiary.domain.token import TokenRecord
from ostiary.domain.token_standing import standing_of
from ostiary.errors import OstiaryError
from ostiary.ports.reports import AlertLine, CommandLine
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.services.push_certificates import PushTopicStatus
from ostiary.services.retention import Outlook
from ostiary.web.problems import family_of

Line = dict[str, Any]


def enrollment_line(row: Enrollment) -> Line:
    """One enrollment or user channel, as lists show it."""
    return {
        "id": row.id,
        "type": row.type.value,
        "state": row.state.value,
        "standing": row.standing.value,
        "proof": row.proof.value,
        "serial": row.facts.serial_number,
        "name": row.user_long_name if row.is_user_channel else row.facts.device_name,
        "model": row.facts.product_name or row.facts.model,
        "os": row.facts.os_version,
        "push": _push_word(row),
        "last_seen": moment(row.last_seen_at),
        "enrolled": moment(row.enrolled_at),
    }


def enrollment_facts(row: Enrollment, erasure: Erasure | None = None) -> Line:
    """One enrollment with all that is known of it, and what became of its last erase."""
    return enrollment_line(row) | {
        "key": row.key,
        "tenant": row.tenant,
        "topic": row.topic,
        "build": row.facts.build_version,
        "authenticated": moment(row.authenticated_at),
        "contested": moment(row.contested_at),
        "awaiting_configuration": row.awaiting,
        "token_updates": row.token_updates,
        "push_token_arrived": moment(row.push.arrived_at if row.push else None),
        "push_dead_since": moment(row.push_dead_since),
        "push_dead_reason": row.push_dead_reason,
        "push_heals": healing_of(row) if row.push_dead_since is not None else None,
        "pushed": moment(row.pushed_at),
        "unlock_token_arrived": moment(row.unlock.arrived_at if row.unlock else None),
        "bootstrap_token_arrived": moment(row.bootstrap.arrived_at if row.bootstrap else None),
        "erase": erasure.value if erasure is not None else None,
    }


def dead_push_line(row: Enrollment) -> Line:
    """One channel that nobody can wake: since when, why, and what would heal it."""
    return {
        "id": row.id,
        "type": row.type.value,
        "model": row.facts.product_name or row.facts.model,
        "dead_since": moment(row.push_dead_since),
        "reason": row.push_dead_reason,
        "why": why_dead(row.push_dead_reason),
        "last_seen": moment(row.last_seen_at),
        "heals": healing_of(row),
    }


def binding_line(binding: Binding) -> Line:
    """One certificate that an enrollment speaks with, or spoke with."""
    return {
        "fingerprint": binding.fingerprint,
        "proof": binding.proof.value,
        "bound": moment(binding.bound_at),
        "not_after": moment(binding.not_after),
        "superseded": moment(binding.superseded_at),
    }


def token_line(record: TokenRecord, now: datetime) -> Line:
    """One generation of one token, with its state and what that means."""
    standing = standing_of(record, now)
    return {
        "holder": record.holder,
        "kind": record.kind.value,
        "generation": record.generation,
        "state": standing.word,
        "consequence": standing.consequence,
        "remedy": standing.remedy,
        "cause": record.cause,
        "source": record.source,
        "size": record.size,
        "digest": record.digest.hex()[:16],
        "certificate": record.fingerprint,
        "received": moment(record.received_at),
        "changed": moment(record.changed_at),
        "expires": moment(record.expires_at),
        "proven": moment(record.proven_at),
        "proven_by": record.proven_by,
        "record": record.id,
    }


def command_line(line: CommandLine) -> Line:
    """One command: never its payload."""
    return {
        "uuid": line.uuid,
        "enrollment": line.enrollment_id,
        "request_type": line.request_type,
        "state": line.state,
        "queued": moment(line.queued_at),
        "sent": moment(line.sent_at),
        "closed": moment(line.closed_at),
        "hand_outs": line.hand_outs,
        "source": line.source,
        "result": line.result,
    }


def alert_line(line: AlertLine) -> Line:
    """One alert."""
    return {
        "subject": line.alert.subject,
        "kind": line.alert.kind,
        "sentence": line.alert.sentence,
        "count": line.count,
        "first": moment(line.first_at),
        "last": moment(line.last_at),
    }


def outlook_line(outlook: Outlook, values: Mapping[str, str]) -> Line:
    """What retention would remove of one kind of records, and by which policies."""
    names = outlook.policy.split(", ")
    return {
        "records": outlook.records,
        "number": outlook.number,
        "is_all": outlook.is_all,
        "policy": ", ".join(f"{name}={values[name]}" for name in names),
        "means": outlook.means,
    }


def push_topic_line(topic: PushTopicStatus) -> Line:
    """One push topic, its certificate's life, and how many enrollments hang on it."""
    return {
        "topic": topic.topic,
        "not_before": moment(topic.not_before),
        "not_after": moment(topic.not_after),
        "imported": moment(topic.imported_at),
        "enrollments": topic.enrollments,
        "paused": moment(topic.paused_since),
        "paused_reason": topic.paused_reason,
    }


def rehearsed_line(enrollment_id: EnrollmentId, target: Rehearsed, *, allowed: bool) -> Line:
    """What a command would come to at one target, and who that is; `allowed` says whether all may be queued at once."""
    device = target.device
    known: Line = {
        "name": device.facts.device_name if device else None,
        "serial": device.facts.serial_number if device else None,
        "model": (device.facts.product_name or device.facts.model) if device else None,
        "os": device.facts.os_version if device else None,
        "last_seen": moment(target.channel.last_seen_at) if target.channel else None,
    }
    would = {"would_be_queued": allowed and target.refused is None}
    return {"id": enrollment_id} | known | would | refusal(target.refused)


def refusal(error: OstiaryError | None) -> dict[str, str | None]:
    """Why one of several did not work, as a problem would tell it; nothing where it did."""
    if error is None:
        return {"error": None, "hint": None, "family": None}
    family = family_of(error)
    return {
        "error": str(error),
        "hint": error.hint,
        "family": family.__name__ if family else None,
    }


def moment(at: datetime | None) -> str | None:
    """A moment as people and programs read it: UTC, whole seconds, RFC 3339."""
    return None if at is None else at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _push_word(row: Enrollment) -> str:
    if row.push is None:
        return "missing"
    return "dead" if row.push_dead_since is not None else "ok"
