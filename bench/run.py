"""Measure the hot paths against their bars. `make bench` calls this.

python bench/run.py [--quick] [--write] [--growth] [--only NAME ...]
"""

import argparse
import asyncio
import os
import platform
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import growth, house, messages, scenarios
from bench.figures import Figures, render_table
from bench.fleet import Fleet
from bench.scenarios import FULL, QUICK, Size, Stage

README = Path(__file__).with_name("README.md")
_BEGIN, _END = "<!-- figures: make bench ARGS=--write -->", "<!-- end of figures -->"
_SCENARIOS: dict[str, Callable[[Stage, dict[int, int]], Awaitable[list[Figures]]]] = {
    "idle": scenarios.idle,
    "token-update": scenarios.token_update,
    "bootstrap": scenarios.bootstrap,
    "command": scenarios.command,
}


def main() -> int:
    """The exit code: 0, or 1 if a bar was missed and --strict asked for it."""
    options = _options()
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        fleet = Fleet(pool)
        with tempfile.TemporaryDirectory(prefix="ostiary-bench-", dir=options.dir) as folder:
            data = Path(folder) / "data"
            house.make_house(data, fleet.authority_pem)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                report, figures = runner.run(_measure(options, data, fleet))
    print(report)
    if options.write:
        _write(report)
    missed = [one for one in figures if one.holds is False]
    return 1 if missed and options.strict else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a fifth of everything, in seconds")
    parser.add_argument("--only", nargs="+", choices=tuple(_SCENARIOS), help="after enrolling")
    parser.add_argument("--growth", action="store_true", help="with a large database, too")
    parser.add_argument("--others", type=int, default=300_000, help="other enrollments then")
    parser.add_argument(
        "--answered", type=int, default=1000, help="answered commands a device then"
    )
    parser.add_argument("--write", action="store_true", help="put the figures into bench/README.md")
    parser.add_argument("--strict", action="store_true", help="fail if a bar is missed")
    parser.add_argument("--dir", type=Path, help="where the database lies (default: the system's)")
    return parser.parse_args()


async def _measure(
    options: argparse.Namespace, data: Path, fleet: Fleet
) -> tuple[str, list[Figures]]:
    size: Size = QUICK if options.quick else FULL
    began = time.monotonic()
    rsa_ms = _verification_ms()
    bare = await _bare(size, fleet)
    figures: list[Figures] = []
    with house.serving(data) as server:
        stage = Stage(
            server=server, fleet=fleet, authorization=house.api_authorization(data), devices=[]
        )
        await scenarios.import_push_certificate(stage)
        figures += await scenarios.enroll(stage, size.enrolling)
        for name in options.only or _SCENARIOS:
            _say(f"{name} ...")
            amounts = size.idle if name == "idle" else size.writes
            figures += await _SCENARIOS[name](stage, amounts)
        peak = server.peak_mebibytes()
    parts = [
        _machine(rsa_ms, bare),
        render_table([*bare, *figures], {one.connections: one.cpu_ms for one in bare}),
        f"Peak memory of the server with {len(stage.devices):,} devices: {peak:.0f} MiB.",
    ]
    if options.growth:
        _say("growth ...")
        parts.append(await growth.measure(data, stage, size, options.others, options.answered))
    parts.append(f"The whole run took {time.monotonic() - began:.0f} s.")
    return "\n\n".join(parts), figures


async def _bare(size: Size, fleet: Fleet) -> list[Figures]:
    """HTTP alone, fed with the same bytes as an Idle."""
    signed = fleet.sign([messages.idle(device) for device in fleet.make_devices(16)])
    figures = []
    with house.serving_bare() as server:
        for connections, count in size.idle.items():
            turns = [signed[turn % len(signed)] for turn in range(count)]
            queues = scenarios.deal(turns, connections, devices=len(turns))
            figures.append(await scenarios.measure(server, "bare HTTP", connections, queues, None))
    return figures


def _verification_ms() -> float:
    """What one RSA-2048 verification costs here."""
    key = rsa.generate_private_key(65537, 2048)
    public, body = key.public_key(), b"x" * 300
    signature = key.sign(body, padding.PKCS1v15(), hashes.SHA256())
    rounds = 2000
    began = time.thread_time()
    for _ in range(rounds):
        public.verify(signature, body, padding.PKCS1v15(), hashes.SHA256())
    return (time.thread_time() - began) * 1000 / rounds


def _machine(rsa_ms: float, bare: list[Figures]) -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    today = datetime.now(UTC).date()  # noqa: TID251 - nobody gives the bench a clock
    busy = os.getloadavg()[0]
    return (
        f"{today}, {os.cpu_count()} x {model}, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}. One RSA-2048 verification costs "
        f"{rsa_ms:.3f} ms here, bare HTTP {bare[0].cpu_ms:.3f} ms; load average {busy:.1f} at the end."
    )


def _write(report: str) -> None:
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(_BEGIN)
    after = rest.partition(_END)[2]
    README.write_text(f"{before}{_BEGIN}\n\n{report}\n\n{_END}{after}", encoding="utf-8")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
