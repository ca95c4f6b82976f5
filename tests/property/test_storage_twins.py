"""The storages live the same life, a random one, and hold the same at every step."""

import asyncio
import tempfile
from collections.abc import Coroutine
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from typing_extensions import override

from conformance.storage_twins import AnyStorage, assert_twins_agree
from conformance.storage_values import (
    NOON,
    MovedClock,
    after,
    audit,
    binding,
    by_certificate,
    challenge,
    channel,
    closed,
    command,
    credential,
    device,
    digest,
    escrow,
    fingerprint,
    invitation,
    key,
    pointer,
    push_certificate,
    record,
    record_id,
    sheet,
    udid,
    user,
    uuid,
)
from ostiary.domain.command import CommandState, Priority
from ostiary.domain.decision import (
    Alert,
    Ask,
    ByKey,
    ByName,
    CancelCommands,
    Change,
    CommandMove,
    DisableUsers,
    EscrowView,
    QueueView,
    Snapshot,
    Supersede,
    Wake,
)
from ostiary.domain.enrollment import Enrollment, Standing, State, UserSession
from ostiary.domain.escrow import Escrow, EscrowState
from ostiary.domain.facts import SheetName
from ostiary.domain.invitation import Challenge, Invitation, Spend
from ostiary.domain.token import (
    DEFAULT_TENANT,
    Fingerprint,
    TokenKind,
    TokenProof,
    TokenState,
    TokenStep,
)
from ostiary.errors import Conflicting, Missing
from ostiary.ports.storage import WakeStep
from ostiary.storage.memory.storage import MemoryStorage
from ostiary.storage.postgres.storage import PostgresStorage, open_postgres
from ostiary.storage.sqlite.storage import SqliteStorage, open_sqlite
from postgres_server import PostgresServer

AnswerT = TypeVar("AnswerT")

# Few of each, so that lives cross. Devices are 1 to 3; 11 and 12 are users of 1, 21 one of 2; 3 claims to be 1.
DEVICES = st.sampled_from([1, 2, 3])
USERS = st.sampled_from([11, 12, 21])
CHANNELS = st.one_of(DEVICES, USERS)
NUMBERS = st.integers(1, 6)
NAMES = st.sampled_from(["one", "two", "three", "four"])
MOMENTS = st.integers(0, 600).map(lambda seconds: after(seconds=seconds))
KINDS = st.sampled_from([TokenKind.PUSH, TokenKind.UNLOCK, TokenKind.IDENTITY])


def fresh_row(number: int) -> Enrollment:
    """The row as it is first written."""
    if number > 10:
        return user(number, parent=number // 10)
    return device(3, id=udid(1), standing=Standing.CONTESTED) if number == 3 else device(number)


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    claimed = draw(
        st.one_of(st.none(), DEVICES.map(channel), USERS.map(lambda n: channel(n // 10, n)))
    )
    who = draw(
        st.one_of(
            NUMBERS.map(lambda number: by_certificate(number, claimed)),
            CHANNELS.map(
                lambda number: ByName(tenant=DEFAULT_TENANT, enrollment_id=fresh_row(number).id)
            ),
            CHANNELS.map(lambda number: ByKey(key=key(number))),
        )
    )
    return Ask(
        who=who,
        relationships=draw(st.booleans()),
        queue=draw(st.sampled_from(QueueView)),
        reported=draw(st.none() | NAMES.map(uuid)),
        value_of=draw(st.sampled_from([None, TokenKind.PUSH, TokenKind.BOOTSTRAP])),
        topic=draw(st.sampled_from([None, device(1).topic])),
        escrows=draw(st.sampled_from(EscrowView)),
        facts=draw(st.booleans()),
    )


@st.composite
def row_edits(draw: st.DrawFn) -> dict[str, Any]:
    """What a rule may do to a row that it was shown."""
    return draw(
        st.fixed_dictionaries(
            {},
            optional={
                "state": st.sampled_from(State),
                "standing": st.sampled_from(Standing),
                "push": st.none() | NUMBERS.map(pointer),
                "push_dead_since": st.none() | MOMENTS,
                "session": st.sampled_from([None, UserSession(), UserSession(nonce="n")]),
                "last_seen_at": st.none() | MOMENTS,
                "token_updates": st.integers(0, 5),
                "accepted_fingerprint": st.none() | NUMBERS.map(fingerprint),
            },
        )
    )


@st.composite
def escrows(draw: st.DrawFn) -> Escrow:
    return escrow(
        draw(st.sampled_from([1, 2])),
        draw(st.sampled_from([TokenKind.RECOVERY_LOCK, TokenKind.LOCK_PIN])),
        state=draw(st.sampled_from(EscrowState)),
        current=draw(st.none() | NUMBERS.map(record_id)),
        candidate=draw(st.none() | NUMBERS.map(record_id)),
        due_at=draw(st.none() | MOMENTS),
    )


def some(strategy: st.SearchStrategy[AnswerT]) -> st.SearchStrategy[tuple[AnswerT, ...]]:
    return st.lists(strategy, max_size=2).map(tuple)


@st.composite
def moves(draw: st.DrawFn) -> CommandMove:
    return CommandMove(
        uuid=uuid(draw(NAMES)),
        to=draw(st.sampled_from(["queued", "sent", "deferred"])),
        sent_at=draw(st.none() | MOMENTS),
        hand_outs=draw(st.integers(0, 3)),
    )


PARTS = {
    "supersede": some(
        st.builds(
            lambda number, keep: Supersede(enrollment_key=key(number), keep=keep, cause="New."),
            DEVICES,
            st.none() | NUMBERS.map(fingerprint),
        )
    ),
    "bind": some(st.builds(binding, NUMBERS, DEVICES)),
    "disable_users": some(DEVICES.map(lambda number: DisableUsers(device_key=key(number)))),
    "cancel": some(
        st.builds(
            lambda number, users: CancelCommands(
                enrollment_key=key(number), users=users, cause="Left."
            ),
            CHANNELS,
            st.booleans(),
        )
    ),
    "steps": some(
        st.builds(
            lambda number, state: TokenStep(
                record_id=record_id(number), state=state, cause=state.value
            ),
            NUMBERS,
            st.sampled_from(TokenState),
        )
    ),
    "records": some(st.builds(record, NUMBERS, DEVICES, KINDS)),
    "proofs": some(
        NUMBERS.map(lambda number: TokenProof(record_id=record_id(number), proven_by="use"))
    ),
    "disclosures": some(NUMBERS.map(record_id)),
    "escrows": some(escrows()),
    "facts": some(st.builds(sheet, CHANNELS, st.sampled_from(SheetName))),
    "close": some(
        st.builds(
            lambda name, of, state: closed(name, of, state=state),
            NAMES,
            CHANNELS,
            st.sampled_from([CommandState.DONE, CommandState.FAILED]),
        )
    ),
    "lift_deferred": st.none() | CHANNELS.map(key),
    "moves": some(moves()),
    "enqueue": some(
        st.builds(
            lambda name, to, state, priority, request_type: command(
                name, to, state=state, priority=priority, request_type=request_type
            ),
            NAMES,
            CHANNELS,
            st.sampled_from([CommandState.QUEUED, CommandState.DEFERRED]),
            st.sampled_from(Priority),
            st.sampled_from(["DeviceInformation", "SecurityInfo", "SetRecoveryLock"]),
        )
    ),
    "wakes": some(
        st.builds(
            lambda number, due_at, attempt: Wake(
                enrollment_key=key(number), due_at=due_at, attempt=attempt
            ),
            CHANNELS,
            MOMENTS,
            st.integers(0, 3),
        )
    ),
    "drop_wakes": some(CHANNELS.map(key)),
    "alerts": some(
        st.builds(
            lambda subject, kind: Alert(
                tenant=DEFAULT_TENANT, subject=subject, kind=kind, sentence="Look."
            ),
            NAMES,
            NAMES,
        )
    ),
    "audit": st.none() | NAMES.map(audit),
    "seen": st.none() | CHANNELS.map(key),
}


@st.composite
def parts(draw: st.DrawFn) -> dict[str, Any]:
    """Up to three parts of a Change beside its rows."""
    chosen = draw(st.sets(st.sampled_from(sorted(PARTS)), max_size=3))
    return {name: draw(PARTS[name]) for name in sorted(chosen)}


class Twins(RuleBasedStateMachine):
    """The in-memory twin, SQLite and PostgreSQL, played on at once."""

    def __init__(self, server: PostgresServer) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.server = server
        self.url = self.run(server.lend_database())
        self.memory = MemoryStorage()
        self.others = self.run(self.open())

    async def open(self) -> tuple[SqliteStorage, PostgresStorage]:
        return (
            open_sqlite(Path(self.folder.name) / "twin.db", clock=MovedClock()),
            open_postgres(self.url, clock=MovedClock()),
        )

    def run(self, work: Coroutine[Any, Any, AnswerT]) -> AnswerT:
        return self.runner.run(work)

    def all(self, play: Any) -> None:
        """Play on all; they must answer alike, or refuse alike."""
        expected = self.run(self.outcome(play, self.memory))
        for other in self.others:
            assert self.run(self.outcome(play, other)) == expected, type(other).__name__

    async def outcome(self, play: Any, storage: AnyStorage) -> Any:
        try:
            return await play(storage)
        except Conflicting:
            return Conflicting

    @rule(ask=asks(), parts=parts(), edits=row_edits(), at=MOMENTS)
    def decide(self, ask: Ask, parts: dict[str, Any], edits: dict[str, Any], at: datetime) -> None:
        async def play(storage: AnyStorage) -> Snapshot:
            shown: list[Snapshot] = []

            def change(snapshot: Snapshot) -> Change[None]:
                shown.append(without_places(snapshot))
                rows = (replace(snapshot.channel, **edits),) if snapshot.channel and edits else ()
                return Change(at=at, answer=None, rows=rows, **parts)

            await storage.enrollments.decide(ask, change)
            return shown[-1]

        self.all(play)

    @rule(
        number=CHANNELS,
        does=st.sets(
            st.sampled_from(
                [
                    "save",
                    "close",
                    "move",
                    "lift",
                    "enqueue",
                    "wake",
                    "drop",
                    "keep",
                    "step",
                    "prove",
                    "tell",
                ]
            )
        ),
        name=NAMES,
        ids=st.permutations(range(1, 7)),
        at=MOMENTS,
    )
    def serve(self, number: int, does: set[str], name: str, ids: list[int], at: datetime) -> None:
        """What a device's message comes to: all of it about its own channel, and made to fit."""
        (ask_kind, *_) = ids
        view = QueueView.WHOLE if ask_kind % 2 else QueueView.WITHOUT_DEFERRED

        async def play(storage: AnyStorage) -> Snapshot:
            shown: list[Snapshot] = []

            def change(snapshot: Snapshot) -> Change[None]:
                shown.append(without_places(snapshot))
                if snapshot.channel is None:
                    return Change(at=at, answer=None)
                chosen = served(snapshot, snapshot.channel, name, ids, at)
                kept = [part for what, part in chosen.items() if what in does]
                parts = {field: value for part in kept for field, value in part.items()}
                return Change(at=at, answer=None, seen=snapshot.channel.key, **parts)

            ask = Ask(who=ByKey(key=key(number)), queue=view)
            await storage.enrollments.decide(ask, change)
            return shown[-1]

        self.all(play)

    @initialize(held=st.sets(NUMBERS), queued=st.sets(st.tuples(NAMES, CHANNELS)))
    def furnish(self, held: set[int], queued: set[tuple[str, int]]) -> None:
        """Most lives begin with everybody there; on an empty storage little fits."""

        async def play(storage: AnyStorage) -> None:
            await storage.enrollments.decide(
                Ask(who=ByKey(key=key(99))),
                lambda _: Change(
                    at=NOON,
                    answer=None,
                    rows=tuple(fresh_row(number) for number in (1, 2, 3, 11, 12, 21)),
                    bind=(binding(1, to=1), binding(2, to=2), binding(3, to=3)),
                    records=tuple(record(number, holder=number % 3 + 1) for number in sorted(held)),
                    enqueue=tuple(command(name, to) for name, to in sorted(queued)),
                ),
            )

        if held:
            self.all(play)

    @rule(numbers=st.sets(CHANNELS, min_size=1, max_size=3))
    def enroll(self, numbers: set[int]) -> None:
        async def play(storage: AnyStorage) -> None:
            rows = tuple(fresh_row(number) for number in sorted(numbers, reverse=True))
            bind = tuple(binding(number, to=number) for number in numbers if number < 10)
            await storage.enrollments.decide(
                Ask(who=ByKey(key=key(99))),
                lambda _: Change(at=NOON, answer=None, rows=rows, bind=bind),
            )

        self.all(play)

    @rule(now=MOMENTS, limit=st.integers(1, 4))
    def claim(self, now: datetime, limit: int) -> None:
        async def play(storage: AnyStorage) -> Any:
            due = await storage.wakes.claim(now, limit=limit, lease=timedelta(minutes=1))
            # Wakes that fall due at one moment have no order.
            return len(due)

        if limit < 4 and self.has_ties():
            return
        self.all(play)

    @rule(now=MOMENTS)
    def claim_escrows(self, now: datetime) -> None:
        async def play(storage: AnyStorage) -> Any:
            due = await storage.escrows.claim_due(now, limit=9, lease=timedelta(minutes=1))
            generations = [
                await storage.escrows.records_of(one.tenant, one.holder, one.kind) for one in due
            ]
            standing = [await storage.escrows.find(one.tenant, one.holder) for one in due]
            return due, generations, standing

        self.all(play)

    def has_ties(self) -> bool:
        due = [wake.due_at for wake in self.memory._store.tables.wakes.values()]
        return len(due) != len(set(due))

    @rule(
        number=CHANNELS,
        token=NUMBERS,
        at=MOMENTS,
        due=st.none() | MOMENTS,
        dead=st.none() | MOMENTS,
    )
    def settle(
        self, number: int, token: int, at: datetime, due: datetime | None, dead: datetime | None
    ) -> None:
        async def play(storage: AnyStorage) -> None:
            if key(number) in self.memory._store.tables.enrollments:
                step = WakeStep(
                    enrollment_key=key(number),
                    record_id=record_id(token),
                    at=at,
                    attempt=1,
                    accepted=dead is None,
                    next_due_at=due,
                    dead_reason=None if dead is None else "Unregistered",
                    dead_before=dead,
                )
                await storage.wakes.settle([step])

        self.all(play)

    @rule(number=NUMBERS, paused=st.booleans())
    def hold_topic(self, number: int, paused: bool) -> None:
        async def play(storage: AnyStorage) -> None:
            certificate = push_certificate(number, record_id=record_id(50 + number))
            await storage.push_certificates.save_push_certificate(certificate, audit("import"))
            if paused:
                await storage.push_certificates.pause_topic(
                    certificate.topic, "why", NOON, shown=certificate.record_id
                )

        self.all(play)

    @rule(number=NUMBERS, invited=st.booleans())
    def invite(self, number: int, invited: bool) -> None:
        async def play(storage: AnyStorage) -> None:
            if invited:
                await storage.challenges.add_invitation(invitation(20 + number), audit("invite"))
            await storage.challenges.add_challenge(
                challenge(number + 10, invitation_id=record_id(20 + number) if invited else None)
            )

        self.all(play)

    @rule(number=NUMBERS, certificate=NUMBERS)
    def spend(self, number: int, certificate: int) -> None:
        def spent(held: Challenge, _: Invitation | None) -> Spend | None:
            if held.issued is not None:
                return None
            return Spend(
                challenge=replace(held, spent_at=NOON, issued=fingerprint(certificate)),
                credential=credential(certificate, challenge_id=held.id),
                certificate=b"der",
            )

        async def play(storage: AnyStorage) -> bytes | None:
            try:
                return await storage.challenges.spend(digest(number + 10), spent)
            except Missing:
                return None

        self.all(play)

    @rule(number=NUMBERS)
    def ask_aside(self, number: int) -> None:
        async def play(storage: AnyStorage) -> Any:
            renewable = await storage.challenges.find_renewable(Fingerprint(fingerprint(number)))
            return (
                await storage.enrollments.load_record(record_id(number)),
                # Outside of a decision, a contact that is not written yet may be missing.
                None if renewable is None else replace(renewable, last_seen_at=None),
                await storage.challenges.find_challenge(digest(number + 10)),
                await storage.wakes.next_due_at(),
            )

        self.all(play)

    @invariant()
    def agree(self) -> None:
        for other in self.others:
            self.run(assert_twins_agree(self.memory, other))

    @override
    def teardown(self) -> None:
        for other in self.others:
            self.run(other.close())
        self.run(self.server.take_back(self.url))
        self.runner.close()
        self.folder.cleanup()


def served(
    snapshot: Snapshot, channel: Enrollment, name: str, ids: list[int], at: datetime
) -> dict[str, dict[str, Any]]:
    """By what is done: the part of a Change that does it."""
    queue = snapshot.queue
    move = CommandMove(uuid=queue[-1].uuid, to="sent", sent_at=at, hand_outs=1) if queue else None
    number = int(channel.key, 16)
    return {
        "save": {"rows": (replace(channel, token_updates=channel.token_updates + 1),)},
        "close": {"close": (closed(queue[0].uuid, of=number),) if len(queue) > 1 else ()},
        "move": {"moves": () if move is None else (move,)},
        "lift": {"lift_deferred": channel.key},
        "enqueue": {"enqueue": (command(f"{name} {at}", to=number),)},
        "wake": {"wakes": (Wake(enrollment_key=channel.key, due_at=at),)},
        "drop": {"drop_wakes": (channel.key,)},
        "keep": {"records": (record(ids[0], holder=1), record(ids[1], 1, TokenKind.UNLOCK))},
        "step": {
            "steps": (TokenStep(record_id=record_id(ids[2]), state=TokenState.DEAD, cause="!"),)
        },
        "prove": {"proofs": (TokenProof(record_id=record_id(ids[3]), proven_by="use"),)},
        "tell": {"facts": (sheet(int(channel.key, 16), reported_at=at),)},
    }


def without_places(snapshot: Snapshot) -> Snapshot:
    """The snapshot without arrival numbers: engines count them as they like, only their order is told."""
    reported = None if snapshot.reported is None else replace(snapshot.reported, sequence=0)
    queue = tuple(replace(one, sequence=0) for one in snapshot.queue)
    return replace(snapshot, reported=reported, queue=queue)


def test_every_storage_lives_the_same_life(postgres_server: PostgresServer) -> None:
    class Lives(Twins):
        def __init__(self) -> None:
            super().__init__(postgres_server)

    run_state_machine_as_test(Lives, settings=settings(stateful_step_count=25))
