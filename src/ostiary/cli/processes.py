"""Several processes of one server: a small parent that starts them, starts them again, and ends with them.

The parent opens no database and serves nobody. It forks, waits and says what happened; so it has nothing to fail at.
"""

import ctypes
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Final, Protocol

import structlog
from structlog.typing import EventDict, WrappedLogger

from ostiary.cli.failure import Exit, Failed, failure_of, report
from ostiary.errors import OstiaryError

_log = structlog.get_logger()

_READY: Final = b"r"
_BEAT: Final = b"."
_LISTENED_TO: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
_PR_SET_PDEATHSIG: Final = 1


class ProcessesDoNotStart(Failed):
    """One process after another died before it served, and none is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long the parent waits for what."""

    tick_seconds: float = 1.0
    silent_ticks: int = 60
    """After which a process that does not even say that it lives is killed, and started again. Counted in ticks of
    the parent's own, so that a machine that slept finds everybody well."""
    first_back_off_seconds: float = 1.0
    longest_back_off_seconds: float = 60.0
    healthy_after_seconds: float = 60.0
    """A process that served for so long and then died is started again at once."""
    failed_starts: int = 5
    """In a row, and while nobody serves, before the parent gives up."""
    end_seconds: float = 40.0
    """To end by itself after SIGTERM; longer than a process lets requests go on."""


class Voice:
    """What a process says to its parent: that it lives, and that it serves."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def ready(self) -> None:
        """Connections are accepted from now on."""
        self._say(_READY)

    def beat(self) -> None:
        """The loop turns."""
        self._say(_BEAT)

    def _say(self, word: bytes) -> None:
        with suppress(BlockingIOError, BrokenPipeError):  # a parent that sleeps has heard enough
            os.write(self._pipe, word)


class Posts(Protocol):
    """What the parent keeps for the processes while they come and go."""

    def hand_over(self, number: int) -> None:
        """Process `number` runs, and has what is its own."""

    def renew(self, number: int) -> None:
        """Process `number` died: make its place ready for the next."""

    def close_ports(self) -> None:
        """No more connections."""


@dataclass
class _Place:
    """One of the processes, or the gap where it was."""

    number: int
    pid: int | None = None
    pipe: int | None = None
    started_at: float = 0.0
    is_ready: bool = False
    silent_ticks: int = 0
    start_at: float | None = None
    """When to start it (again); None: it runs, or waits for the first one."""
    back_off_seconds: float = 0.0


@dataclass
class Processes:
    """The parent's view. `work` is what each process does; its result is the exit code."""

    count: int
    work: Callable[[int, Voice], int]
    posts: Posts
    ready: Callable[[], None]
    """Called once, when all of them serve."""
    patience: Patience = field(default_factory=Patience)

    def run(self) -> int:
        """Keep them running until SIGTERM or SIGINT; 0 once the last has ended in order.

        The first is started alone: it says what is wrong with the settings or the database, once, and brings the
        schema up to date while nobody else is there.

        Raises:
            ProcessesDoNotStart: one process after another died before it served.
        """
        self._places = [_Place(number) for number in range(1, self.count + 1)]
        self._places[0].start_at = time.monotonic()
        self._failed_starts = 0
        self._all_were_ready = False
        self._stop_by: float | None = None
        self._result: int | None = None
        with selectors.DefaultSelector() as self._selector, _heard_signals() as bell:
            self._bell = bell
            self._selector.register(bell, selectors.EVENT_READ)
            try:
                while self._result is None:
                    self._turn()
            finally:
                self._kill_all()
        return self._result

    def _turn(self) -> None:
        """Wait for a signal, a word of a process, or the next moment, and act upon it."""
        tick_at = time.monotonic() + self.patience.tick_seconds
        self._start_due()
        while (left := tick_at - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                if key.fileobj is self._bell:
                    self._hear_signals()
                else:
                    self._hear(key.data)
            self._reap()
            self._start_due()
            if self._result is not None:
                return
        self._look_for_silent()

    def _start_due(self) -> None:
        for place in self._places:
            if (
                place.start_at is not None
                and place.start_at <= time.monotonic()
                and not self._stop_by
            ):
                self._start(place)

    def _start(self, place: _Place) -> None:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become(lambda: self._live(place.number, writing), parent, self._forget_the_others)
        os.close(writing)
        self.posts.hand_over(place.number)
        place.pid, place.pipe, place.start_at = pid, reading, None
        place.started_at, place.is_ready, place.silent_ticks = time.monotonic(), False, 0
        self._selector.register(reading, selectors.EVENT_READ, place)
        _log.info("process_started", number=place.number, pid=pid)

    def _live(self, number: int, pipe: int) -> int:
        _number_lines(number)
        return self.work(number, Voice(pipe))

    def _forget_the_others(self) -> None:
        """In a new process: what the parent hears with is the parent's."""
        self._selector.close()
        self._bell.close()
        for place in self._places:
            if place.pipe is not None:
                os.close(place.pipe)

    def _hear(self, place: _Place) -> None:
        if place.pipe is None:
            return
        words = os.read(place.pipe, 4096)
        place.silent_ticks = 0
        if not words:
            self._hang_up(place)
        elif _READY in words:
            place.is_ready = True
            self._failed_starts = 0
            self._welcome()

    def _welcome(self) -> None:
        """One more serves: let the others start, or tell that all do."""
        for place in self._places:
            if place.pid is None and place.start_at is None:
                place.start_at = time.monotonic()
        if not self._all_were_ready and all(place.is_ready for place in self._places):
            self._all_were_ready = True
            self.ready()

    def _hear_signals(self) -> None:
        numbers = self._bell.recv(4096)
        if self._stop_by is None and {signal.SIGTERM, signal.SIGINT} & set(numbers):
            self._stop()

    def _stop(self) -> None:
        self._stop_by = time.monotonic() + self.patience.end_seconds
        self.posts.close_ports()
        for place in self._places:
            if place.pid is not None:
                os.kill(place.pid, signal.SIGTERM)
        self._end_if_alone(Exit.FINE)

    def _reap(self) -> None:
        for place in self._places:
            if place.pid is None:
                continue
            pid, status = os.waitpid(place.pid, os.WNOHANG)
            if pid:
                place.pid = None
                self._hang_up(place)
                self._bury(place, os.waitstatus_to_exitcode(status))

    def _bury(self, place: _Place, code: int) -> None:
        if self._stop_by is not None:
            self._end_if_alone(Exit.FINE)
            return
        _log.error("process_died", number=place.number, **_how(code))
        if not place.is_ready:
            self._count_failed_start(place, code)
        if self._result is None and self._stop_by is None:
            place.is_ready = False
            self.posts.renew(place.number)
            self._plan_start(place)

    def _count_failed_start(self, place: _Place, code: int) -> None:
        """At the first start any failure is the end; later only if nobody serves, and waiting does not help."""
        if not self._all_were_ready:
            if code <= 0:
                self._give_up(f"process {place.number} ended before it served ({_say(code)})")
            self._result = code
            return
        if code != Exit.UNAVAILABLE:
            self._failed_starts += 1
        is_served = any(other.is_ready for other in self._places)
        if self._failed_starts >= self.patience.failed_starts and not is_served:
            self._give_up(f"{self._failed_starts} processes in a row ended before they served")

    def _give_up(self, sentence: str) -> None:
        raise ProcessesDoNotStart(
            sentence, "The log lines above say why each of them ended.", Exit.BUG
        )

    def _plan_start(self, place: _Place) -> None:
        patience, now = self.patience, time.monotonic()
        if now - place.started_at > patience.healthy_after_seconds:
            place.back_off_seconds = 0.0
        place.start_at = now + place.back_off_seconds
        place.back_off_seconds = min(
            max(patience.first_back_off_seconds, 2 * place.back_off_seconds),
            patience.longest_back_off_seconds,
        )

    def _hang_up(self, place: _Place) -> None:
        if place.pipe is not None:
            self._selector.unregister(place.pipe)
            os.close(place.pipe)
            place.pipe = None

    def _look_for_silent(self) -> None:
        for place in self._places:
            place.silent_ticks += 1
            if place.pid is not None and place.silent_ticks > self.patience.silent_ticks:
                _log.error("process_is_silent", number=place.number, pid=place.pid)
                os.kill(place.pid, signal.SIGKILL)
        if self._stop_by is not None and time.monotonic() > self._stop_by:
            _log.error("processes_do_not_end", killed=self._kill_all())
            self._end_if_alone(Exit.FINE)

    def _end_if_alone(self, code: int) -> None:
        if all(place.pid is None for place in self._places):
            self._result = code

    def _kill_all(self) -> int:
        """Leave nobody behind; how many there were."""
        left = [place for place in self._places if place.pid is not None]
        for place in left:
            assert place.pid is not None  # noqa: S101 - filtered above
            os.kill(place.pid, signal.SIGKILL)
            os.waitpid(place.pid, 0)
            place.pid = None
        return len(left)


def _become(work: Callable[[], int], parent: int, forget: Callable[[], None]) -> None:
    """Be the new process until its end; never returns."""
    code: int = Exit.BUG
    try:
        _die_with(parent)
        for number in _LISTENED_TO:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        forget()
        code = work()
    except (Failed, OstiaryError) as error:
        failure = error if isinstance(error, Failed) else failure_of(error)
        report(failure)
        code = failure.exit_code
    except BaseException as error:  # noqa: BLE001 - it must never return into the parent's code
        _log.error("process_failed", error=type(error).__name__)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _die_with(parent: int) -> None:
    """Be killed by the kernel when the parent ends, however it ends: nobody is left behind on the port.

    It is SIGKILL that is sent, because that alone ends a process that hangs; what was acknowledged is stored.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:  # it went in between
        os._exit(Exit.UNAVAILABLE)


def _number_lines(number: int) -> None:
    """Let every log line of this process say which one it is."""

    def add_number(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["process"] = number
        return event

    processors = structlog.get_config()["processors"]
    structlog.configure(processors=[add_number, *processors])


@contextmanager
def _heard_signals() -> Iterator[socket.socket]:
    """A socket on which the numbers of signals arrive, so that one `select` waits for everything."""
    hearing, ringing = socket.socketpair()
    hearing.setblocking(False)
    ringing.setblocking(False)
    before = {number: signal.signal(number, _ignore) for number in _LISTENED_TO}
    old = signal.set_wakeup_fd(ringing.fileno(), warn_on_full_buffer=False)
    try:
        yield hearing
    finally:
        signal.set_wakeup_fd(old)
        for number, handler in before.items():
            signal.signal(number, handler)
        hearing.close()
        ringing.close()


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """The number is on the socket already."""


def _how(code: int) -> dict[str, object]:
    return {"signal": signal.Signals(-code).name} if code < 0 else {"exit_code": code}


def _say(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
