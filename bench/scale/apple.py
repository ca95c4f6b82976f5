"""The push service of the run, a process of its own: prints the token of every push that it accepts.

python -m bench.scale.apple FOLDER PORT; ends with its standard input.
"""

import asyncio
import sys
from pathlib import Path

import uvloop
from typing_extensions import override

from ostiary_sim.apns import PushAuthority, SimulatedApns
from ostiary_sim.apns.requests import read_token

_LOOK_SECONDS = 0.02


async def main(folder: Path, port: int) -> None:
    """Serve until nobody is left to read."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    await loop.connect_read_pipe(lambda: _Ending(ended), sys.stdin)
    async with SimulatedApns(PushAuthority.open(folder), port=port) as apns:
        print("ready", flush=True)
        while not ended.is_set():
            _tell(apns)
            await asyncio.sleep(_LOOK_SECONDS)


def _tell(apns: SimulatedApns) -> None:
    tokens = []
    while apns.requests:
        request = apns.requests.popleft()
        token = read_token(request.path)
        if request.verdict.reason is None and token is not None:
            tokens.append(token.hex())
    if tokens:
        print("\n".join(tokens), flush=True)


class _Ending(asyncio.Protocol):
    """Sets an event once the other end of the pipe is gone."""

    def __init__(self, ended: asyncio.Event) -> None:
        self._ended = ended

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._ended.set()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(Path(sys.argv[1]), int(sys.argv[2])))
