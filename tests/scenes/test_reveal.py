"""Secrets shown to people: on record before the value leaves, never less than what may be in force."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from database_file import database
from escrowed import escrow_values
from ostiary.domain.enrollment import Enrollment
from ostiary.domain.escrow import Escrow, EscrowState
from ostiary.domain.operator import EnrollmentUnknown, NotADevice
from ostiary.domain.reveal import Replacement
from ostiary.domain.rotation import ROTATES
from ostiary.domain.token import DEFAULT_TENANT, Holder, TokenKind
from ostiary.ports.sealer import SealBroken
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.services.caller import Caller, Scope, ScopeMissing
from ostiary.services.reveal import (
    GenerationUnknown,
    NotForPeople,
    NothingHeld,
    ReasonMissing,
    ReasonUnusable,
    Revealed,
)
from ostiary.services.secrets_desk import SecretsDesk
from ostiary.web.secret_lines import revealed_line
from scenes.house import MAC, OPERATOR, Device, House, Model

LOCK = TokenKind.RECOVERY_LOCK
HELPDESK = Caller(name="helpdesk", tenant=DEFAULT_TENANT, scopes=frozenset({Scope.SECRETS_REVEAL}))
N1, N2 = b"canary-first-password", b"canary-second-password"


async def held(
    house: House, mac: Device, values: Sequence[bytes], kind: TokenKind = LOCK, **state: Any
) -> Escrow:
    return await escrow_values(
        house.storage.enrollments,
        house.sealer,
        mac.id,
        kind,
        values,
        house.clock.now(),
        **state,
    )


async def reveal(
    house: House, mac: Device, kind: TokenKind = LOCK, caller: Caller = HELPDESK, **changes: Any
) -> Revealed:
    asked = {"reason": "ticket 4711", **changes}
    return await house.reveals.reveal(EnrollmentId(mac.id), kind, caller, **asked)


def values(revealed: Revealed) -> list[bytes]:
    return [one.value.reveal() for one in revealed.shown]


def audit(house: House) -> list[tuple[str, ...]]:
    with database(house.path) as connection:
        return connection.execute(
            "SELECT actor, verb, subject, reason FROM audit WHERE verb = 'secret-reveal'"
        ).fetchall()


async def due(house: House, mac: Device) -> Any:
    (escrow,) = await house.storage.escrows.find(DEFAULT_TENANT, Holder(mac.id))
    return escrow.due_at


@pytest.mark.case("ST-04")
async def test_a_reveal_is_audited_marked_and_followed_by_a_rotation(house: House) -> None:
    """With permission and reason. escrowed-secrets.md 4.0.2 rule 7."""
    mac = await house.enrolled(MAC)
    await held(house, mac, [N1])
    house.clock.advance(minutes=5)
    shown = await reveal(house, mac)
    assert values(shown) == [N1]
    assert not shown.is_uncertain
    assert audit(house) == [
        ("helpdesk", "secret-reveal", f"{mac.id} recovery-lock generation 1", "ticket 4711")
    ]
    (record,) = await house.history(mac.id, LOCK)
    assert record.disclosed_at == house.clock.now()
    assert shown.rotation_due_at == await due(house, mac) == house.clock.now() + timedelta(hours=1)


@pytest.mark.case("ST-04")
@pytest.mark.parametrize(
    ("scopes", "reason", "error"),
    [
        ({Scope.COMMANDS_SECRET, Scope.READ}, "ticket 4711", ScopeMissing),
        ({Scope.SECRETS_REVEAL}, "", ReasonMissing),
        ({Scope.SECRETS_REVEAL}, " \t", ReasonMissing),
        ({Scope.SECRETS_REVEAL}, "x" * 1001, ReasonUnusable),
        ({Scope.SECRETS_REVEAL}, "two\nlines", ReasonUnusable),
    ],
    ids=["no permission", "no reason", "blank reason", "long reason", "unprintable reason"],
)
async def test_without_permission_or_reason_nothing_is_shown_and_the_attempt_is_logged(
    house: House, scopes: set[str], reason: str, error: type[Exception]
) -> None:
    mac = await house.enrolled(MAC)
    await held(house, mac, [N1])
    caller = replace(HELPDESK, scopes=frozenset(scopes))
    with capture_logs() as logs, pytest.raises(error):
        await reveal(house, mac, caller=caller, reason=reason)
    (line,) = logs
    assert line["event"] == "reveal_refused"
    assert (line["actor"], line["enrollment_id"], line["kind"]) == (
        "helpdesk",
        mac.id,
        "recovery-lock",
    )
    assert audit(house) == []
    (record,) = await house.history(mac.id, LOCK)
    assert record.disclosed_at is None


async def test_an_administrator_may_and_says_why_all_the_same(house: House) -> None:
    mac = await house.enrolled(MAC)
    await held(house, mac, [N1])
    assert values(await reveal(house, mac, caller=OPERATOR)) == [N1]
    with pytest.raises(ReasonMissing):
        await reveal(house, mac, caller=OPERATOR, reason="")


@pytest.mark.case("RL-03")
@pytest.mark.parametrize("state", [EscrowState.IN_FLIGHT, EscrowState.UNCERTAIN])
async def test_where_nobody_knows_both_are_shown_the_old_one_first(
    house: House, state: EscrowState
) -> None:
    """4.0.3: n first."""
    mac = await house.enrolled(MAC)
    await held(house, mac, [N1, N2], candidate=1, state=state)
    shown = await reveal(house, mac)
    assert values(shown) == [N1, N2]
    assert [one.role for one in shown.shown] == ["current", "candidate"]
    assert shown.is_uncertain
    assert audit(house)[0][2] == f"{mac.id} recovery-lock generation 1, 2"
    assert all(record.disclosed_at for record in await house.history(mac.id, LOCK))


@pytest.mark.case("DL-02")
async def test_the_pin_of_a_lock_that_was_never_answered_is_shown_and_called_uncertain(
    house: House,
) -> None:
    mac = await house.enrolled(MAC)
    pin = TokenKind.LOCK_PIN
    await held(house, mac, [b"480159"], pin, current=None, candidate=0, state=EscrowState.IN_FLIGHT)
    shown = await reveal(house, mac, pin)
    assert (values(shown), shown.is_uncertain, shown.rotation_due_at) == ([b"480159"], True, None)


@pytest.mark.case("AA-04")
async def test_a_refused_rotation_shows_the_old_password_and_the_refused_one_by_number(
    house: House,
) -> None:
    """At no time is the true value missing from what an operator may still reveal."""
    mac = await house.enrolled(MAC)
    kind = TokenKind.ADMIN_PASSWORD
    await held(house, mac, [N1, N2], kind, trouble="the device refused it")
    assert values(await reveal(house, mac, kind)) == [N1]
    refused = await reveal(house, mac, kind, generation=2)
    assert (values(refused), refused.shown[0].role) == ([N2], "earlier")
    assert not refused.is_uncertain


async def test_an_earlier_generation_does_not_make_the_one_in_force_rotate(house: House) -> None:
    mac = await house.enrolled(MAC)
    await held(house, mac, [N1, N2], current=1)
    shown = await reveal(house, mac, generation=1)
    assert (values(shown), shown.rotation_due_at, await due(house, mac)) == ([N1], None, None)


async def test_a_rotation_that_is_due_sooner_stays_due(house: House) -> None:
    mac = await house.enrolled(MAC)
    soon = house.clock.now() + timedelta(minutes=10)
    await held(house, mac, [N1], due_at=soon)
    assert (await reveal(house, mac)).rotation_due_at == soon
    assert await due(house, mac) == soon


async def test_a_change_under_way_keeps_its_own_patience(house: House) -> None:
    """`due_at` is when its answer is given up; the value in force is being replaced already."""
    mac = await house.enrolled(MAC)
    patience = house.clock.now() + timedelta(days=7)
    for state in (EscrowState.IN_FLIGHT, EscrowState.UNCERTAIN):
        await held(house, mac, [N1, N2], candidate=1, state=state, due_at=patience)
        assert (await reveal(house, mac)).rotation_due_at is None
        assert await due(house, mac) == patience


async def test_the_policy_says_when_a_shown_secret_is_replaced(house: House) -> None:
    house.set_policy(rotate_after_reveal=timedelta(days=1))
    mac = await house.enrolled(MAC)
    await held(house, mac, [N1])
    assert (await reveal(house, mac)).rotation_due_at == house.clock.now() + timedelta(days=1)


async def test_a_device_that_left_is_shown_and_rotates_nothing(house: House) -> None:
    """FV-09: after CheckOut the key is still readable; nobody is there to rotate it."""
    mac = await house.enrolled(MAC)
    kind = TokenKind.FILEVAULT_KEY
    await held(house, mac, [N1], kind)
    await mac.send("CheckOut", Topic=mac.topic)
    shown = await reveal(house, mac, kind)
    assert (values(shown), shown.rotation_due_at) == ([N1], None)


@pytest.mark.case("AK-24")
async def test_a_bypass_code_that_was_shown_is_flagged(house: House) -> None:
    """activation-lock.md: an audit event with its reason exists, and the code is disclosed."""
    mac = await house.enrolled(MAC)
    kind = TokenKind.BYPASS_DEVICE
    code = b"3UM43-PUYVY-QYD1-UVCC-HEHJ-FKA4"
    await held(house, mac, [code], kind)
    shown = await reveal(house, mac, kind)
    assert (values(shown), shown.rotation_due_at) == ([code], None)
    (entry,) = audit(house)
    assert entry[2:] == (f"{mac.id} activation-bypass-device generation 1", "ticket 4711")
    (record,) = await house.history(mac.id, kind)
    assert record.disclosed_at == house.clock.now()


@pytest.mark.parametrize(
    "kind",
    [
        TokenKind.PUSH,
        TokenKind.UNLOCK,
        TokenKind.BOOTSTRAP,
        TokenKind.FILEVAULT_ESCROW_KEY,
        TokenKind.PUSH_CERTIFICATE,
        TokenKind.API_TOKEN,
    ],
)
async def test_what_is_of_no_use_to_a_person_is_shown_to_none(
    house: House, kind: TokenKind
) -> None:
    mac = await house.enrolled(MAC)
    await mac.set_bootstrap(b"bootstrap token")
    with pytest.raises(NotForPeople):
        await reveal(house, mac, kind, caller=OPERATOR)


async def test_what_is_not_there_is_told_apart(house: House) -> None:
    mac = await house.enrolled(MAC)
    with pytest.raises(NothingHeld):
        await reveal(house, mac)
    await held(house, mac, [N1], current=None)
    with pytest.raises(NothingHeld):
        await reveal(house, mac)
    with pytest.raises(GenerationUnknown):
        await reveal(house, mac, generation=2)
    assert values(await reveal(house, mac, generation=1)) == [N1]
    nobody = house.device(MAC)
    await held_by_nobody(house, nobody)
    with pytest.raises(EnrollmentUnknown):
        await reveal(house, nobody)


async def held_by_nobody(house: House, device: Device) -> None:
    await held(house, device, [N1])


async def test_a_user_channel_has_no_secrets_of_its_own(house: House) -> None:
    mac = await house.enrolled(MAC)
    await mac.token_update(UserID="U1", UserShortName="ann")
    user = EnrollmentId(f"{mac.id}:U1")
    await escrow_values(
        house.storage.enrollments, house.sealer, user, LOCK, [N1], house.clock.now()
    )
    with pytest.raises(NotADevice):
        await house.reveals.reveal(user, LOCK, HELPDESK, reason="ticket 4711")


async def test_a_value_that_does_not_open_is_an_error_and_was_not_disclosed(house: House) -> None:
    """4.0.2 rule 4: never "none"; and whoever saw nothing is not written down as having seen it."""
    mac = await house.enrolled(MAC)
    await held(house, mac, [N1])
    with database(house.path) as connection:
        connection.execute("UPDATE token SET value = x'00' WHERE kind = 'recovery-lock'")
    with pytest.raises(SealBroken):
        await reveal(house, mac)
    assert audit(house) == []


async def test_a_value_that_changes_meanwhile_is_read_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """users.md 5.4 case 42: a reveal that races with a rotation shows what is in force."""
    mac = await house.enrolled(MAC)
    await held(house, mac, [N1])
    escrows, find = house.storage.escrows, house.storage.escrows.find
    raced: list[bool] = []

    async def find_and_lose(*whose: Any) -> Any:
        found = await find(*whose)
        if not raced:
            raced.append(True)
            await held(house, mac, [N2])
        return found

    monkeypatch.setattr(escrows, "find", find_and_lose)
    shown = await reveal(house, mac)
    assert values(shown) == [N2]
    first, second = await house.history(mac.id, LOCK)
    assert (first.disclosed_at, second.disclosed_at) == (None, house.clock.now())


@pytest.mark.case("ST-02")
async def test_a_revealed_value_is_in_no_log_line_and_nowhere_on_the_disk(house: House) -> None:
    mac = await house.enrolled(MAC)
    await held(house, mac, [N1, N2], candidate=1, state=EscrowState.UNCERTAIN)
    with capture_logs() as logs:
        shown = await reveal(house, mac)
    assert logs
    said = f"{logs} {shown!r} {audit(house)}".encode()
    files = b"".join(path.read_bytes() for path in house.path.parent.glob("ostiary.db*"))
    for value in (N1, N2):
        for form in (value, value.hex().encode()):
            assert form not in said
            assert form not in files


async def newcomer_tells(mac: Device, code: str) -> Device:
    """Another of our certificates claims the Mac, and tells a bypass code and an envelope of its own."""
    newcomer = mac.with_certificate(f"newcomer who says {code}")
    await newcomer.authenticate()
    await newcomer.token_update()
    await newcomer.work_off(
        ActivationLockBypassCode={"ActivationLockBypassCode": code},
        SecurityInfo={
            "SecurityInfo": {"FDE_PersonalRecoveryKeyCMS": b"not for us, " + code.encode()},
            "ActivationLockBypassCode": code,
        },
    )
    return newcomer


@pytest.mark.parametrize("kind", [TokenKind.BYPASS_DEVICE, TokenKind.FILEVAULT_ENVELOPE])
async def test_what_a_contested_newcomer_tells_is_never_the_value_in_force(
    house: House, kind: TokenKind
) -> None:
    """Neither while the contest lasts nor after he lost it: kept, and shown by its number alone, as contested. (2.3)"""
    mac = await house.enrolled(MAC)
    await newcomer_tells(mac, "EVIL-1")
    for _ in range(2):
        with pytest.raises(NothingHeld):
            await reveal(house, mac, kind)
        (view,) = [
            one
            for one in (await desk(house).secrets_of(DEFAULT_TENANT, mac.id)).secrets
            if one.kind is kind
        ]
        assert view.current is None
        assert any("Another certificate" in note for note in view.notes)
        told = await reveal(house, mac, kind, generation=1)
        assert [one.role for one in told.shown] == ["contested"]
        assert told.is_uncertain
        assert str(revealed_line(told)["sentence"]).startswith("Another certificate")
        if "contested" in {row.standing for row in await rows(house, mac)}:
            await house.devices.keep_certificate(
                DEFAULT_TENANT, EnrollmentId(mac.id), actor="operator", reason="a scene"
            )
    assert {row.standing for row in await rows(house, mac)} == {"current", "ended"}


@pytest.mark.parametrize("kind", [TokenKind.BYPASS_DEVICE, TokenKind.FILEVAULT_ENVELOPE])
async def test_a_newcomer_who_is_accepted_is_believed(house: House, kind: TokenKind) -> None:
    """What he told while he was contested is the value in force as soon as the contest is settled for him."""
    mac = await house.enrolled(MAC)
    await newcomer_tells(mac, "TRUE-1")
    await house.devices.accept_certificate(
        DEFAULT_TENANT, EnrollmentId(mac.id), None, actor="operator", reason="a scene"
    )
    told = await reveal(house, mac, kind)
    assert [one.role for one in told.shown] == ["current"]
    assert b"TRUE-1" in told.shown[0].value.reveal()
    assert not told.is_uncertain


async def test_an_accepted_newcomer_is_asked_once_more_for_the_key_of_its_disk(
    house: House,
) -> None:
    """What it told before was kept aside, and another value is in force here: its own word settles which one is."""
    mac = await house.enrolled(MAC)
    await held(house, mac, [N1], TokenKind.FILEVAULT_ENVELOPE)
    newcomer = await newcomer_tells(mac, "TRUE-1")
    assert [
        one.value.reveal() for one in (await reveal(house, mac, TokenKind.FILEVAULT_ENVELOPE)).shown
    ] == [N1]
    await house.devices.accept_certificate(
        DEFAULT_TENANT, EnrollmentId(mac.id), None, actor="operator", reason="a scene"
    )
    told = {"SecurityInfo": {"FDE_PersonalRecoveryKeyCMS": b"not for us, TRUE-1"}}
    assert await newcomer.work_off(SecurityInfo=told) == ["SecurityInfo"]
    shown = (await reveal(house, mac, TokenKind.FILEVAULT_ENVELOPE)).shown
    assert [(one.role, one.value.reveal()) for one in shown] == [("current", b"not for us, TRUE-1")]


async def test_a_newcomer_who_wins_by_silence_is_asked_in_the_same_session(house: House) -> None:
    """The change that settles the contest and the report that brings it about are one."""
    mac = await house.enrolled(MAC)
    await held(house, mac, [N1], TokenKind.FILEVAULT_ENVELOPE)
    newcomer = await newcomer_tells(mac, "TRUE-1")
    await mac.send("CheckOut")
    assert "SecurityInfo" in await newcomer.work_off()


async def test_a_newcomer_out_of_setup_assistant_that_wins_was_erased(house: House) -> None:
    """4.13 column D: what belonged to the disk and the accounts before goes to history."""
    mac = await house.enrolled(MAC)
    await held(house, mac, [N1], TokenKind.ADMIN_PASSWORD)
    erased = mac.with_certificate("after the erase")
    await erased.authenticate()
    await erased.token_update(AwaitingConfiguration=True)
    await house.devices.accept_certificate(
        DEFAULT_TENANT, EnrollmentId(mac.id), None, actor="operator", reason="a scene"
    )
    with pytest.raises(NothingHeld):
        await reveal(house, mac, TokenKind.ADMIN_PASSWORD)
    (old,) = (await reveal(house, mac, TokenKind.ADMIN_PASSWORD, generation=1)).shown
    assert (old.role, old.word) == ("earlier", "retired")


async def rows(house: House, mac: Device) -> Sequence[Enrollment]:
    return await house.storage.reports.find_enrollments(DEFAULT_TENANT, EnrollmentId(mac.id))


def desk(house: House) -> SecretsDesk:
    return SecretsDesk(house.storage.reports, house.storage.escrows, house.clock)


BYOD_MAC = Model("Mac14,2", "15.1", unlock=False, user_enrollment=True)


@pytest.mark.parametrize("kind", ROTATES)
async def test_a_rotation_that_the_device_may_not_carry_out_is_not_announced(
    house: House, kind: TokenKind
) -> None:
    """4.0.2 rule 7, "where a rotation exists"; 4.3 to 4.8: none does under User Enrollment."""
    mac = await house.enrolled(BYOD_MAC)
    await held(house, mac, [N1], kind)
    shown = await reveal(house, mac, kind)
    assert values(shown) == [N1]
    assert (shown.rotation_due_at, await due(house, mac)) == (None, None)
    line = revealed_line(shown)
    assert "User Enrollment" in str(line["never_rotated"])
    assert line["not_rotated_yet"] == ""
    house.clock.advance(days=1)
    assert await house.escrow_watch.tend() == 0


async def test_why_nothing_replaces_what_was_shown_is_said(house: House) -> None:
    """Each with its own reason; of what cannot be replaced by any command there is nothing to say."""
    mac, other = await house.enrolled(MAC), await house.enrolled(MAC)
    await held(house, mac, [N1, N2], candidate=1, state=EscrowState.UNCERTAIN)
    assert (await reveal(house, mac)).replacement.open_why == "a change of it is open"
    await held(house, other, [N1])
    await other.send("CheckOut", Topic=other.topic)
    assert (await reveal(house, other, generation=1)).replacement.due_at is None
    pin = TokenKind.LOCK_PIN
    await held(house, mac, [b"480159"], pin)
    assert (await reveal(house, mac, pin)).replacement == Replacement()
