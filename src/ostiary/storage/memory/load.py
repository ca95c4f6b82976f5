"""The load of a decision, from dictionaries."""

from collections.abc import Callable

from ostiary.domain.command import CommandState, LiveCommand
from ostiary.domain.decision import Ask, ByCertificate, ByName, QueueView, Snapshot
from ostiary.domain.enrollment import Enrollment, Standing
from ostiary.domain.token import TenantId
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.storage.memory.tables import Tables


def load(tables: Tables, ask: Ask) -> Snapshot:
    """What `ask` names."""
    who = ask.who
    device, channel = _find(tables, ask)
    binding = tables.bindings.get(who.fingerprint) if isinstance(who, ByCertificate) else None
    tenant = _tenant(ask, device)
    if isinstance(who, ByCertificate) and binding is not None:
        tenant = binding.tenant
    snapshot = Snapshot(
        binding=binding,
        device=device,
        channel=channel,
        wake=None if channel is None else tables.wakes.get(channel.key),
        **_queue(tables, ask, channel),
        **_relationships(tables, ask, tenant, device),
        token=_pointed(tables, ask, device),
        topic_is_held=_is_held(tables, ask, tenant),
    )
    return snapshot
