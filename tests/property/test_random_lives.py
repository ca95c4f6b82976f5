"""Random lives of a few devices, played on every engine at once: what was acknowledged is never lost."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from typing_extensions import override

from lives.oracle import BOOTSTRAP, UNLOCK, Oracle, bound_row, user_row
from lives.twins import Actor, Lane, Outcome, Twins
from ostiary.domain.command import CommandState
from ostiary.domain.enrollment import Bound, Enrollment, Purpose, State
from ostiary.domain.policy import RestoredBackup, UserLogin
from ostiary.domain.push_value import encode_push_value
from ostiary.domain.token import DEFAULT_TENANT, Fingerprint
from ostiary.formats import plist
from ostiary.ports.storage import DueWake, WakeStep
from ostiary.protocol.mdm.connect import CommandUuid
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.services.reply import Farewell, Media, Reply, UserIsNotManaged
from postgres_server import PostgresServer
from scenes.house import ALL_F, IPHONE, MAC, OPERATOR, OTHER_TOPIC, SHARED_IPAD, TOPIC, House

PHONE = Actor(udid="PHONE", model=IPHONE, serial="C01", certificate="the phone's own")
LAPTOP = Actor(udid="MAC", model=MAC, serial="C02", certificate="the mac's own")
TABLET = Actor(udid="IPAD", model=SHARED_IPAD, serial="C03", certificate="the ipad's own")
FIRST_ACTORS = (
    PHONE,
    LAPTOP,
    TABLET,
    Actor(udid="PHONE", model=IPHONE, serial="C01", certificate="a newcomer's"),
    Actor(udid="PHONE", model=IPHONE, serial="C09", certificate="another newcomer's"),
    Actor(udid="MAC", model=MAC, serial="C02", certificate="a mac newcomer's"),
    Actor(udid="PHONE", model=IPHONE, serial="C01", certificate="the mac's own"),
)
USERS = {
    "MAC": ({"UserID": "U1", "UserShortName": "ann"}, "MAC:U1"),
    "IPAD": ({"UserID": ALL_F, "UserShortName": "bob"}, "IPAD:bob"),
}
VALUES = (b"one", b"two", b"three" * 40)
REQUEST_TYPES = ("ClearPasscode", "DeviceLock", "ProfileList", "SecurityInfo", "DeviceConfigured")
NOBODYS = "00000000-0000-0000-0000-00000000BAD0"
PAUSES = (
    timedelta(seconds=2),
    timedelta(minutes=1),
    timedelta(minutes=11),
    timedelta(hours=2),
    timedelta(hours=25),
)
JUMPS = (timedelta(days=1), timedelta(days=-1), timedelta(days=365), timedelta(days=-365))

actors = st.integers(min_value=0, max_value=15)
values = st.sampled_from(VALUES)
statuses = st.sampled_from(
    ("Acknowledged", "Acknowledged", "NotNow", "Error", "CommandFormatError")
)


class Lives(RuleBasedStateMachine):
    """A few devices, those who claim to be them, and an operator."""

    def __init__(self, lane: Lane) -> None:
        super().__init__()
        self.twins = Twins(lane)
        self.twins.__enter__()
        self.oracle = Oracle(self.twins.open)
        self.actors = list(FIRST_ACTORS)
        self.renewals: dict[str, str] = {}
        """By certificate fingerprint: the row that it was issued for to renew."""
        self.in_hand: dict[tuple[str, bool], str] = {}
        """By certificate and channel: the command that the device was handed last."""
        self.released_keys: set[str] = set()

    @override
    def teardown(self) -> None:
        self.twins.__exit__()

    # -- one step

    def play(self, do: Callable[[House], Awaitable[Any]], *, may_settle: bool = False) -> Outcome:
        """Take a step in all houses and see what was answered; `settle_books` ends it."""
        self.oracle.step += 1
        self.before = self.twins.tables
        outcome = self.twins.all(do)
        self.may_settle = may_settle
        if isinstance(outcome.answer, Farewell):
            rows = self.twins.tables.enrollments.values()
            assert any(row.state is State.REVOKED for row in rows), "told to leave by nobody"
        return outcome

    def settle_books(self, outcome: Outcome) -> None:
        """What must hold, once the oracle was told of the step."""
        self.oracle.check(
            self.before,
            self.twins.tables,
            outcome,
            self.twins.clock.now(),
            may_settle=self.may_settle,
        )

    def actor(self, number: int) -> Actor:
        return self.actors[number % len(self.actors)]

    def keys_of(self, actor: Actor, *, user: bool) -> dict[str, Any]:
        return USERS[actor.udid][0] if user and actor.udid in USERS else {}

    # -- check-in

    @initialize(enrolled=st.sets(st.sampled_from((0, 1, 2))), contested=st.booleans())
    def begin(self, enrolled: set[int], contested: bool) -> None:
        """Most lives begin with devices that are enrolled; what is worth testing comes after."""
        for number in (*sorted(enrolled), *((3,) if contested else ())):
            self.authenticate(number, TOPIC)
            self.token_update(number, VALUES[0], VALUES[0] if number in (0, 3) else None, None)
            self.session(number, user=False, answers=["Acknowledged"] * 3)

    @rule(
        number=actors,
        escrows=st.sampled_from((None, *VALUES)),
        awaiting=st.sampled_from((None, True)),
        by_old=st.booleans(),
        jump=st.sampled_from((timedelta(0), timedelta(0), *JUMPS)),
    )
    def renew(
        self,
        number: int,
        escrows: bytes | None,
        awaiting: bool | None,
        by_old: bool,
        jump: timedelta,
    ) -> None:
        """A renewal from its credential to its TokenUpdate, which the old certificate may send instead."""
        old = self.actor(number)
        known = len(self.actors)
        self.issue(number, renews=True)
        if len(self.actors) == known:
            return
        self.authenticate(known, TOPIC)
        self.twins.clock.moment += jump
        if escrows is not None:
            self.set_bootstrap(known, escrows)
        if by_old:
            self.session(self.actors.index(old), user=False, answers=["Acknowledged"])
        self.token_update(known, VALUES[1], None, awaiting)

    @rule(
        newcomer=st.sampled_from((3, 4, 5)),
        pause=st.sampled_from((timedelta(hours=1), timedelta(hours=25))),
        then=st.sampled_from(("report", "check out", "authenticate", "get", "user", "old leaves")),
    )
    def contest(self, newcomer: int, pause: timedelta, then: str) -> None:
        """Somebody claims a device that may be live; later they, or the old side, say something."""
        old = 1 if self.actor(newcomer).udid == "MAC" else 0
        self.user_token_update(old, VALUES[0], None, None)
        self.authenticate(newcomer, TOPIC)
        self.token_update(newcomer, VALUES[2], VALUES[2], None)
        self.wait(pause)
        match then:
            case "report":
                self.session(newcomer, user=False, answers=["Acknowledged", "NotNow"])
            case "check out":
                self.check_out(newcomer)
            case "authenticate":
                self.authenticate(newcomer, TOPIC)
            case "get":
                self.get_bootstrap(newcomer)
            case "user":
                self.user_token_update(newcomer, VALUES[1], None, None)
            case _:
                self.check_out(old)

    @rule(number=actors, user=st.booleans(), odd=statuses, which=st.integers(0, 7))
    def release_from_setup_assistant(self, number: int, user: bool, odd: str, which: int) -> None:
        """A device that waits is handed its release, and then other commands come and odd reports."""
        actor = self.actor(number)
        name = USERS[actor.udid][1] if user and actor.udid in USERS else actor.udid
        self.session(number, user=user, answers=["Acknowledged"] * 4)
        for request_type in ("DeviceConfigured", "ProfileList", "CertificateList"):
            self.enqueue(name, request_type, True)
            self.session(number, user=user, answers=[])
        self.repeat_a_report(number, user, odd, which)
        self.repeat_a_report(number, user, "Acknowledged", -2)

    @rule(number=actors, topic=st.sampled_from((TOPIC, TOPIC, TOPIC, OTHER_TOPIC)))
    def authenticate(self, number: int, topic: str) -> None:
        actor = self.actor(number)
        outcome = self.play(lambda house: actor.at(house).authenticate(Topic=topic))
        if outcome.is_acknowledged:
            after = self.twins.tables
            renews = self.renewals.get(actor.fingerprint) == bound_row(after, actor).key
            self.oracle.authenticated(self.before, after, actor, renews=renews)
        self.settle_books(outcome)

    @rule(
        number=actors,
        token=values,
        unlock=st.sampled_from((None, None, b"", *VALUES)),
        awaiting=st.sampled_from((None, None, False, True)),
    )
    def token_update(
        self, number: int, token: bytes, unlock: bytes | None, awaiting: bool | None
    ) -> None:
        actor = self.actor(number)
        outcome = self.play(
            lambda house: actor.at(house).token_update(
                Token=token, UnlockToken=unlock, AwaitingConfiguration=awaiting
            )
        )
        if outcome.is_acknowledged:
            self.oracle.updated(
                self.before,
                self.twins.tables,
                actor,
                push=encode_push_value(token, actor.at(self.twins.houses[0]).magic.encode()),
                unlock=unlock,
                awaiting=awaiting,
            )
        self.settle_books(outcome)

    @rule(
        number=actors,
        token=values,
        unlock=st.sampled_from((None, b"not a user's")),
        awaiting=st.sampled_from((None, True)),
    )
    def user_token_update(
        self, number: int, token: bytes, unlock: bytes | None, awaiting: bool | None
    ) -> None:
        actor = self.actor(number)
        if actor.udid not in USERS:
            return
        keys, user_id = USERS[actor.udid]
        outcome = self.play(
            lambda house: actor.at(house).token_update(
                Token=token, UnlockToken=unlock, AwaitingConfiguration=awaiting, **keys
            )
        )
        if outcome.is_acknowledged:
            value = encode_push_value(token, actor.at(self.twins.houses[0]).magic.encode())
            self.oracle.user_updated(self.twins.tables, actor, user_id, value)
        self.settle_books(outcome)

    @rule(number=actors, value=st.sampled_from((*VALUES, b"", None)))
    def set_bootstrap(self, number: int, value: bytes | None) -> None:
        actor = self.actor(number)
        outcome = self.play(lambda house: actor.at(house).set_bootstrap(value))
        if outcome.is_acknowledged:
            self.oracle.escrowed(self.twins.tables, actor, value)
        self.settle_books(outcome)

    @rule(number=actors)
    def get_bootstrap(self, number: int) -> None:
        actor = self.actor(number)
        outcome = self.play(lambda house: actor.at(house).send("GetBootstrapToken"))
        if outcome.is_acknowledged:
            value = plist.read_dict(outcome.body).data("BootstrapToken")
            # A request may settle a contest; who won is told to the oracle before what it read.
            self.settle_books(outcome)
            self.oracle.read(self.twins.tables, actor, BOOTSTRAP, value)
        self.settle_books(outcome)

    @rule(number=actors)
    def check_out(self, number: int) -> None:
        actor = self.actor(number)
        outcome = self.play(
            lambda house: actor.at(house).send("CheckOut", Topic=TOPIC), may_settle=True
        )
        self.settle_books(outcome)

    @rule(number=actors)
    def user_authenticate(self, number: int) -> None:
        actor = self.actor(number)
        if actor.udid not in USERS:
            return
        keys, _ = USERS[actor.udid]
        outcome = self.play(lambda house: actor.at(house).send("UserAuthenticate", **keys))
        self.settle_books(outcome)

    # -- commands

    @rule(number=actors, user=st.booleans(), answers=st.lists(statuses, max_size=5))
    def session(self, number: int, user: bool, answers: list[str]) -> None:
        """A device connects and works, until it is done, has answered enough, or the connection is lost."""
        actor = self.actor(number)
        command = self.report(actor, "Idle", None, user=user)
        for status in answers:
            if command is None:
                return
            command = self.report(actor, status, command, user=user)

    @rule(number=actors, user=st.booleans(), status=statuses, which=st.integers(-2, 7))
    def repeat_a_report(self, number: int, user: bool, status: str, which: int) -> None:
        """A report that nobody waits for: the last answer was lost, or it comes from another life."""
        actor = self.actor(number)
        tables = self.twins.tables
        known = [uuid for _, uuid in (*tables.commands, *tables.closed)]
        if which >= 0 and known:
            uuid: str | None = known[which % len(known)]
        else:
            uuid = self.in_hand.get((actor.certificate, user)) if which == -1 else NOBODYS
        self.report(actor, status, uuid or NOBODYS, user=user)

    def report(self, actor: Actor, status: str, uuid: str | None, *, user: bool) -> str | None:
        """Send a report; the CommandUUID that came back."""
        keys = self.keys_of(actor, user=user)
        outcome = self.play(lambda house: actor.at(house).report_raw(status, uuid, **keys))
        self.settle_books(outcome)
        if not outcome.is_acknowledged:
            assert outcome.error is not UserIsNotManaged or keys, "a device was declined"
            return None
        channel = self.channel(actor, user=bool(keys))
        if channel is None or not channel.state.is_served:
            assert outcome.answer == Reply.EMPTY
            return None
        after = self.twins.tables
        self.oracle.reported(self.before, after, channel, status, uuid)
        if outcome.answer.media is not Media.COMMAND:
            return None
        said = plist.read_dict(outcome.body).as_mapping()
        handed = str(said["CommandUUID"])
        self.oracle.handed_out(after, channel, handed)
        command: Any = said["Command"]
        if command["RequestType"] == "ClearPasscode":
            self.oracle.read(after, actor, UNLOCK, command["UnlockToken"])
        self.in_hand[actor.certificate, user] = handed
        return handed

    def channel(self, actor: Actor, *, user: bool) -> Enrollment | None:
        if not user:
            return bound_row(self.twins.tables, actor)
        try:
            return user_row(self.twins.tables, actor, USERS[actor.udid][1])
        except ValueError:
            return None

    @rule(
        name=st.sampled_from(("PHONE", "MAC", "IPAD", "MAC:U1", "IPAD:bob")),
        request_type=st.sampled_from(REQUEST_TYPES),
        pushes=st.booleans(),
    )
    def enqueue(self, name: str, request_type: str, pushes: bool) -> None:
        async def order(house: House) -> None:
            body = plist.encode({"Command": {"RequestType": request_type}})
            done = await house.desk.enqueue_raw([EnrollmentId(name)], body, OPERATOR, pushes=pushes)
            for refused in done.refused.values():
                if refused is not None:
                    raise refused

        outcome = self.play(order)
        self.settle_books(outcome)

    @precondition(lambda self: bool(self.twins.tables.commands))
    @rule(which=st.integers(min_value=0, max_value=7))
    def cancel(self, which: int) -> None:
        tables = self.twins.tables
        commands = sorted(tables.commands.values(), key=lambda command: command.sequence)
        command = commands[which % len(commands)]
        row: Any = dict[Any, Any](tables.enrollments)[command.enrollment_key]
        outcome = self.play(
            lambda house: house.desk.cancel(row.id, CommandUuid(command.uuid), OPERATOR, "no")
        )
        if outcome.is_acknowledged:
            closed = self.twins.tables.closed[row.key, command.uuid]
            assert closed.state is CommandState.CANCELLED
        self.settle_books(outcome)

    # -- people, time and Apple

    @rule(name=st.sampled_from(("PHONE", "PHONE", "MAC", "IPAD", "MAC:U1")))
    def release(self, name: str) -> None:
        outcome = self.play(
            lambda house: house.devices.release(
                DEFAULT_TENANT, EnrollmentId(name), actor="op", reason="sold"
            )
        )
        if outcome.is_acknowledged:
            self.oracle.released(outcome.answer.key)
        self.settle_books(outcome)

    @rule(number=actors, by_name=st.booleans())
    def accept_certificate(self, number: int, by_name: bool) -> None:
        actor = self.actor(number)
        fingerprint = Fingerprint(actor.fingerprint) if by_name else None
        outcome = self.play(
            lambda house: house.devices.accept_certificate(
                DEFAULT_TENANT, EnrollmentId(actor.udid), fingerprint, actor="op", reason="seen"
            ),
            may_settle=True,
        )
        if outcome.is_acknowledged and by_name:
            self.oracle.vouched.add(actor.fingerprint)
        self.settle_books(outcome)

    @rule(number=actors, renews=st.booleans())
    def issue(self, number: int, renews: bool) -> None:
        """Our CA issues a certificate for a device: to renew its enrollment, or by an invitation for its serial."""
        actor = self.actor(number)
        row = next(
            (one for one in self.twins.tables.enrollments.values() if one.id == actor.udid), None
        )
        if row is None or len(self.actors) >= 14:
            return
        name = f"certificate {len(self.actors)}"
        issued = Actor(udid=actor.udid, model=actor.model, serial=actor.serial, certificate=name)
        bound = Bound(enrollment_key=row.key) if renews else Bound(serial_number=actor.serial)
        purpose = Purpose.RENEW if renews else Purpose.ENROLL
        outcome = self.play(
            lambda house: house.credential(issued.at(house), purpose=purpose, bound=bound)
        )
        self.actors.append(issued)
        if renews:
            self.renewals[issued.fingerprint] = row.key
            self.oracle.vouched.add(issued.fingerprint)
        self.settle_books(outcome)

    @rule(pause=st.sampled_from(PAUSES))
    def wait(self, pause: timedelta) -> None:
        self.twins.clock.moment += pause

    @rule(by=st.sampled_from(JUMPS))
    def clock_jumps(self, by: timedelta) -> None:
        """Somebody sets the clock of the machine, or the battery behind it died."""
        self.twins.clock.moment += by

    @rule(result=st.sampled_from(("taken", "taken", "not taken", "dead")), sooner=st.booleans())
    def push(self, result: str, sooner: bool) -> None:
        """Whoever is due is pushed, once it is; nobody who may not be."""
        wakes = self.twins.tables.wakes.values()
        if sooner and wakes:
            clock = self.twins.clock
            clock.moment = max(clock.moment, min(wake.due_at for wake in wakes))
        now = self.twins.clock.now()

        async def claim(house: House) -> tuple[DueWake, ...]:
            due = await house.storage.wakes.claim(now, limit=50, lease=timedelta(minutes=1))
            # SQLite writes last-seen in batches, so a claim may show it a little late; who is due at
            # the same moment comes in any order.
            seen = [
                replace(one, enrollment=replace(one.enrollment, last_seen_at=None)) for one in due
            ]
            return tuple(sorted(seen, key=lambda one: one.enrollment.key))

        outcome = self.play(claim)
        due: tuple[DueWake, ...] = outcome.answer
        tables = self.twins.tables
        for one in due:
            device = tables.enrollments[one.enrollment.key]
            while device.parent_key is not None:
                assert device.state.is_served
                device = tables.enrollments[device.parent_key]
            assert device.state.is_served, f"{one.enrollment.id} is pushed while {device.state}"
        self.settle_books(outcome)
        steps = [
            WakeStep(
                enrollment_key=one.enrollment.key,
                record_id=one.push_record.id,
                at=now,
                attempt=one.attempt + (result == "taken"),
                failures=one.failures + (result == "not taken"),
                accepted=result == "taken",
                next_due_at=None if result == "dead" else now + timedelta(minutes=5),
                dead_reason="Unregistered" if result == "dead" else None,
            )
            for one in due
        ]
        self.settle_books(self.play(lambda house: house.storage.wakes.settle(steps)))

    @rule(
        restored=st.sampled_from(RestoredBackup),
        login=st.sampled_from((UserLogin.DECLINE, UserLogin.EMPTY_CHALLENGE, UserLogin.DIGEST)),
        shared=st.booleans(),
    )
    def change_policy(self, restored: RestoredBackup, login: UserLogin, shared: bool) -> None:
        for house in self.twins.houses:
            house.set_policy(restored_backup=restored, user_login=login, shared_ipad_users=shared)


SHORT_LIVES, LONG_LIVES = 35, 2_000


def test_random_lives_are_the_same_on_every_engine_and_lose_nothing(
    postgres_server: PostgresServer, long_form: bool
) -> None:
    """design.md 4; TU-1 to TU-20, 2.3, 2.4, 3.4 as far as the oracle knows them, with a clock that jumps."""
    lives = LONG_LIVES if long_form else SHORT_LIVES
    with Lane(postgres_server) as lane:

        class InThisLane(Lives):
            def __init__(self) -> None:
                super().__init__(lane)

        run_state_machine_as_test(
            InThisLane,
            settings=settings(settings.default, max_examples=lives, stateful_step_count=60),
        )
