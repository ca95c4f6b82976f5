"""Measure the hot paths against their bars. `make bench` calls this; `--help` says what it can do."""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import baseline, growth, house, options, peer, postgres, pushing, report, scenarios
from bench.contestants import Contestant
from bench.figures import Figures, medians
from bench.fleet import Fleet
from bench.house import Installation
from bench.scenarios import FULL, QUICK, Size, Stage
from bench.wire import WrongAnswer

_SCENARIOS: dict[str, Callable[[Stage, dict[int, int]], Awaitable[None]]] = {
    "idle": scenarios.idle,
    "token-update": scenarios.token_update,
    "bootstrap": scenarios.bootstrap,
    "command": scenarios.command,
}
_SAID = (
    house.ServerDidNotStart,
    peer.UnusablePeer,
    postgres.DatabaseDidNotStart,
    pushing.PushesNotMeasured,
    WrongAnswer,
)
"""What ends a run and says why by itself."""


def main() -> int:
    """The exit code: 0; 1 if a bar was missed and --strict asked for it; 70 if nothing was measured."""
    asked = options.parse(tuple(_SCENARIOS))
    size = QUICK if asked.quick else FULL
    with (
        ProcessPoolExecutor(max_workers=os.cpu_count()) as pool,
        tempfile.TemporaryDirectory(prefix="ostiary-bench-", dir=asked.dir) as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        Path(folder).chmod(0o711)  # a database's user may pass through
        bench = Bench(
            asked=asked,
            folder=Path(folder),
            size=size if asked.connections is None else size.only(asked.connections),
            fleet=Fleet(pool, asked.authority),
        )
        try:
            holds = runner.run(bench.run())
        except _SAID as error:
            _say(f"bench: error: {type(error).__name__}: {error}")
            return 70
    return 1 if asked.strict and not holds else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One run."""

    asked: argparse.Namespace
    folder: Path
    size: Size
    fleet: Fleet

    async def run(self) -> bool:
        """Measure, print and keep what was asked for; whether every bar holds."""
        began = time.monotonic()
        rsa_ms = baseline.measure_verification_ms()
        bare = await baseline.measure_bare_http(self.size.idle, self.fleet)
        with ExitStack() as stack:
            server = self._own_postgres(stack)
            installations = await self._installations(server)
            for one in installations:
                house.install(one, self.fleet.authority_pem)
            versions = await report.name_engines(installations)
            stage, said = await self._measure(installations)
            figures = _grouped(medians(stage.figures))
            machine = report.render_machine(rsa_ms, bare, versions)
            parts = [machine, report.render_contestants([*bare, *figures]), *said]
            grown: list[growth.Growth] = []
            if self.asked.growth:
                text, grown = await self._measure_growth(installations, server, stage)
                self._tell("growth", f"{machine}\n\n{text}")
        pushes = self._measure_pushes()
        if pushes is not None:
            parts += ["### Pushes", pushes.table]
        parts.append(report.render_verdict(figures, grown))
        parts.append(f"The whole run took {time.monotonic() - began:.0f} s.")
        self._tell("figures", "\n\n".join(parts))
        if beside := report.render_peers(figures):
            self._tell("peer", f"{machine}\n\n{beside}")
        verdicts = [one.holds for one in figures] + [one.holds for one in grown]
        return False not in verdicts and (pushes is None or pushes.holds)

    def _own_postgres(self, stack: ExitStack) -> postgres.PostgresServer | None:
        if self.asked.engine == "sqlite" or self.asked.database is not None:
            return None
        return stack.enter_context(postgres.running(self.folder / "db"))

    async def _installations(self, server: postgres.PostgresServer | None) -> list[Installation]:
        """SQLite, PostgreSQL, or both; not made yet."""
        found = []
        if self.asked.engine != "postgres":
            found.append(Installation(name="SQLite", data=self.folder / "sqlite" / "data"))
        if self.asked.engine != "sqlite":
            url = self.asked.database
            if server is not None:
                url = await server.make_database("ostiary")
            found.append(
                Installation(
                    name="PostgreSQL",
                    data=self.folder / "postgres" / "data",
                    database_url=url,
                    database=await postgres.find_server(url),
                )
            )
        return found

    async def _measure(self, installations: Sequence[Installation]) -> tuple[Stage, list[str]]:
        """Every scenario to every server, in turns; the stage afterwards, and what memory it took."""
        async with AsyncExitStack() as stack:
            contestants = [stack.enter_context(one.serving()) for one in installations]
            contestants += await self._peers(stack)
            stage = Stage(contestants=list(contestants), fleet=self.fleet, devices=[], figures=[])
            await scenarios.import_push_certificate(stage)
            _say("enroll ...")
            await scenarios.enroll(stage, self.size.enrolling)
            chosen = self._chosen(_SCENARIOS)
            for name in chosen * self.asked.laps:
                _say(f"{name} ...")
                amounts = self.size.idle if name == "idle" else self.size.writes
                await _SCENARIOS[name](stage, amounts)
            return stage, report.render_memory(contestants, len(stage.devices))

    def _chosen(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if self.asked.only is None or name in self.asked.only]

    def _measure_pushes(self) -> pushing.Pushes | None:
        if not self._chosen([options.PUSH]):
            return None
        _say("push ...")
        return pushing.measure(self.asked.engine, quick=self.asked.quick, folder=self.folder)

    async def _peers(self, stack: AsyncExitStack) -> list[Contestant]:
        found = []
        asked = self.asked
        if asked.peer_url is not None:
            found.append(
                peer.given(
                    asked.peer_url, asked.peer_api_key, asked.peer_pid, asked.peer_database_pid
                )
            )
        if asked.peer_binary is not None:
            program = peer.PeerProgram(
                binary=asked.peer_binary, schema=asked.peer_schema, pooler=asked.peer_pooler
            )
            for storage in asked.peer_storage:
                folder = self.folder / f"peer-{storage}"
                started = peer.started(program, storage, folder, self.fleet.authority_pem)
                found.append(await stack.enter_async_context(started))
        return found

    async def _measure_growth(
        self,
        installations: Sequence[Installation],
        server: postgres.PostgresServer | None,
        stage: Stage,
    ) -> tuple[str, list[growth.Growth]]:
        _say("growth: writing large databases ...")
        extent = growth.Extent(others=self.asked.others, answered=self.asked.answered)
        pairs, took = [], []
        for one in installations:
            where = self.folder / f"{one.data.parent.name}-grown"
            own = None if one.database_url is None else server
            grown, said = await growth.grow(one, own, where, extent)
            pairs.append((one, grown))
            took.append(said)
        _say("growth ...")
        found = await growth.measure(pairs, stage, self.size)
        return growth.render(found, extent, took), found

    def _tell(self, section: str, text: str) -> None:
        """Print it, and put it into the page if that was asked for."""
        print(f"{text}\n", flush=True)
        if self.asked.write:
            report.write_section(section, text)


def _grouped(figures: list[Figures]) -> list[Figures]:
    """One server after the other, in the order of their first turn."""
    names = list(dict.fromkeys(one.contestant for one in figures))
    return sorted(figures, key=lambda one: names.index(one.contestant))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
