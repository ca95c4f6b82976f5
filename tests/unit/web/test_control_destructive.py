"""What the command line may do to many devices at once: counted, and confirmed by their number."""

import httpx

from enrolled import NOW
from escrowed import enroll_mac
from ostiary.domain.decision import Ask, ByName, Change
from ostiary.domain.facts import FactSheet, SheetName
from ostiary.domain.token import DEFAULT_TENANT
from ostiary.house import House
from ostiary.protocol.mdm.enrollment_profile import decode_url
from ostiary.protocol.mdm.identity import EnrollmentId

WHERE = {"PrimaryIPv6AddressList": ["fe80::1"], "LOMProtocolVersion": 1}


async def told_where_it_listens(house: House, name: str) -> None:
    mac = await enroll_mac(house, name)
    sheet = FactSheet(
        enrollment_key=mac.key, name=SheetName.LIGHTS_OUT, facts=WHERE, reported_at=NOW
    )
    who = ByName(tenant=DEFAULT_TENANT, enrollment_id=EnrollmentId(name))
    await house.storage.enrollments.decide(
        Ask(who=who), lambda _seen: Change(at=NOW, answer=None, facts=(sheet,))
    )


async def forbid_all(operator: httpx.AsyncClient) -> None:
    said = {"name": "most_destructive_an_hour", "value": "0"}
    (await operator.post("/policies", json=said)).raise_for_status()


async def test_macs_are_switched_beyond_the_cap_once_somebody_counted_them(
    house: House, operator: httpx.AsyncClient
) -> None:
    """escrowed-secrets.md 4.11: the controller is one, those that it switches are many."""
    await enroll_mac(house, "CONTROLLER")
    for name in ("A", "B"):
        await told_where_it_listens(house, name)
    await forbid_all(operator)
    targets = {"A": "a.lom.example.org", "B": "b.lom.example.org"}
    ask = {"controller": "CONTROLLER", "switch": "off", "targets": targets}
    codes = []
    for confirm in (None, 1, 2):
        answer = await operator.post("/lights-out", json=ask | {"confirm": confirm})
        codes.append(answer.json().get("code", answer.status_code))
    assert codes == ["too_many_destructive", "another_number_confirmed", 200]


async def test_the_profile_that_is_served_here_is_the_one_that_must_be_counted(
    house: House, operator: httpx.AsyncClient
) -> None:
    """A slip of `remove-profile` would unenroll a fleet."""
    await enroll_mac(house, "A")
    await forbid_all(operator)
    own = decode_url(house.settings.url).identifier
    codes = {}
    for identifier in (own, f"{own}.wifi"):
        ask = {"ids": ["A"], "command": "remove-profile", "identifier": identifier}
        answer = await operator.post("/commands", json=ask)
        codes[identifier] = answer.json().get("code", answer.status_code)
    assert codes == {own: "too_many_destructive", f"{own}.wifi": 200}
