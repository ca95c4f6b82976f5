"""A device is named by its enrollment id or its serial number, the same way in every command."""

import re

import httpx
import pytest

from escrowed import enroll_mac
from ostiary.domain.operator import EnrollmentUnknown
from ostiary.house import House
from ostiary.protocol.mdm.checkin import DeviceFacts
from ostiary.services.finding import SerialAmbiguous

TWICE = DeviceFacts(serial_number="TWICE", product_name="Mac14,2", os_version="15.1")
SAYS_ROGUE = DeviceFacts(serial_number="ROGUE", product_name="Mac14,2", os_version="15.1")


def tells_both(detail: str) -> bool:
    """Whether B and C are told, with what tells them apart."""
    one = r"\[serial number TWICE, Mac14,2, enrolled, [a-z-]+, since [0-9-]+\]"
    return re.search(rf"name=TWICE, ids=B {one}; C {one}", detail) is not None


async def furnish(house: House) -> None:
    await enroll_mac(house, "A")
    for name in ("B", "C"):
        await enroll_mac(house, name, facts=TWICE)


async def test_commands_are_queued_by_serial_number_once_for_each_device(
    house: House, operator: httpx.AsyncClient
) -> None:
    """users.md 3.1: what stands on the device is what people have at hand."""
    await furnish(house)
    ask = {"ids": ["SA", "A", "TWICE", "NOBODY"], "command": "security-info", "push": False}
    answer = (await operator.post("/commands", json=ask)).json()
    told = {one["id"]: one for one in answer["results"]}
    assert list(told) == ["A", "TWICE", "NOBODY"]
    assert told["A"]["error"] is None
    assert SerialAmbiguous().title in told["TWICE"]["error"]
    assert tells_both(told["TWICE"]["error"])
    assert EnrollmentUnknown().title in told["NOBODY"]["error"]
    tried = (await operator.post("/commands", json=ask | {"dry_run": True})).json()
    same = {one["id"]: (one["error"], one["family"]) for one in tried["results"]}
    assert same == {one: (said["error"], said["family"]) for one, said in told.items()}


async def test_the_queue_of_a_device_is_found_by_its_serial_number(
    house: House, operator: httpx.AsyncClient
) -> None:
    """`queue list`, `queue show` and `queue cancel`."""
    await furnish(house)
    ask = {"ids": ["A"], "command": "security-info", "push": False}
    uuid = (await operator.post("/commands", json=ask)).json()["uuid"]
    (line,) = (await operator.get("/commands", params={"id": "SA"})).json()["items"]
    assert (line["enrollment"], line["uuid"]) == ("A", uuid)
    shown = (await operator.get("/command", params={"id": "SA", "uuid": uuid})).json()["items"]
    assert [one["uuid"] for one in shown] == [uuid]
    done = await operator.post("/commands/cancel", json={"id": "SA", "uuid": uuid})
    assert done.json()["state"] == "cancelled"


async def test_nothing_goes_to_a_device_whose_id_is_anothers_serial_number(
    house: House, operator: httpx.AsyncClient
) -> None:
    """Its UDID is what a device says of itself: nobody is asked, nor is the rogue."""
    await enroll_mac(house, "VICTIM", facts=SAYS_ROGUE)
    await enroll_mac(house, "ROGUE")
    ask = {"ids": ["ROGUE"], "command": "security-info", "push": False}
    refused = f"{SerialAmbiguous().title} (name=ROGUE, ids=ROGUE ["
    for more in ({}, {"dry_run": True}):
        answer = (await operator.post("/commands", json=ask | more)).json()
        (told,) = answer["results"]
        assert told["id"] == "ROGUE"
        assert told["error"].startswith(refused)
    for path in ("/pushes", "/identities/renew"):
        done = (await operator.post(path, json={"ids": ["ROGUE"]})).json()
        (told,) = done if isinstance(done, list) else done["results"]
        assert told["id"] == "ROGUE"
        assert told["error"].startswith(refused)
    for name in (":ROGUE", "VICTIM"):
        seen = {"id": name, "all": "1"}
        before = (await operator.get("/commands", params=seen)).json()["items"]
        answer = (await operator.post("/commands", json=ask | {"ids": [name]})).json()
        (told,) = answer["results"]
        assert (told["id"], told["error"]) == (name.removeprefix(":"), None)
        after = (await operator.get("/commands", params=seen)).json()["items"]
        who = {one["source"] for one in after if one["uuid"] == answer["uuid"]}
        assert not [one for one in before if one["source"] in who]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/device?id=TWICE"),
        ("GET", "/commands?id=TWICE"),
        ("GET", "/command?uuid=X&id=TWICE"),
        ("GET", "/secrets?id=TWICE"),
        ("GET", "/tokens/history?id=TWICE"),
        ("POST", "/commands/cancel"),
        ("POST", "/device/release"),
        ("POST", "/device/keep-certificate"),
        ("POST", "/device/accept-certificate"),
        ("POST", "/filevault"),
        ("POST", "/secrets/change"),
        ("POST", "/secrets/verify"),
        ("POST", "/secrets/reveal"),
    ],
)
async def test_a_serial_number_of_two_devices_is_refused_and_both_are_told(
    house: House, operator: httpx.AsyncClient, method: str, path: str
) -> None:
    """Nobody guesses which one is meant."""
    await furnish(house)
    ask = {"id": "TWICE", "uuid": "X", "kind": "recovery-lock", "location": "here", "reason": "r"}
    answer = await operator.request(method, path, json=ask if method == "POST" else None)
    assert (answer.status_code, answer.json()["code"]) == (409, "serial_ambiguous")
    assert tells_both(answer.json()["detail"])


async def test_a_device_is_shown_and_its_tokens_are_told_by_its_serial_number(
    house: House, operator: httpx.AsyncClient
) -> None:
    await furnish(house)
    shown = (await operator.get("/device", params={"id": "SA"})).json()
    assert [row["id"] for row in shown["enrollments"]] == ["A"]
    told = (await operator.get("/tokens/history", params={"id": "SA"})).json()["items"]
    assert {one["holder"] for one in told} == {"A"}


@pytest.mark.parametrize("path", ["/pushes", "/identities/renew"])
async def test_devices_are_woken_and_renewed_by_serial_number(
    house: House, operator: httpx.AsyncClient, path: str
) -> None:
    """What is refused of a device is refused under its id."""
    await furnish(house)
    answer = (await operator.post(path, json={"ids": ["SA", "TWICE"]})).json()
    results = answer if isinstance(answer, list) else answer["results"]
    told = {one["id"]: str(one["error"]) for one in results}
    assert tells_both(told["TWICE"])
    assert EnrollmentUnknown().title not in told["A"]
