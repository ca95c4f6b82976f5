"""The thread that waits for the disk, so that the event loop does not."""

import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable
from queue import SimpleQueue

Finished = Callable[[BaseException | None], None]
_Job = tuple[Callable[[], None], AbstractEventLoop, Finished]


class CommitThread:
    """Runs one job at a time and tells the event loop how it went."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ostiary-commit", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def start(self, job: Callable[[], None], loop: AbstractEventLoop, finished: Finished) -> None:
        """Run `job` in the thread, then `finished` on the loop with what it raised, or None."""
        self._jobs.put((job, loop, finished))

    def stop(self) -> None:
        """Let the thread end after its last job, and wait for it."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (work := self._jobs.get()) is not None:
            job, loop, finished = work
            error: BaseException | None = None
            try:
                job()
            except BaseException as raised:  # noqa: BLE001 - the loop waits for an answer, whatever happened
                error = raised
            try:
                loop.call_soon_threadsafe(finished, error)
            except RuntimeError:
                # The loop was closed without closing us: nobody waits any more.
                return
            del job, loop, finished, work
