"""What the fuzzing harnesses share: a run under atheris, and a short fixed run without it."""

import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FunctionType

Check = Callable[[bytes], None]

WITHOUT_ATHERIS = 3
"""Exit code of a harness that could not fuzz: never to be taken for a run without findings."""


def fuzz(check: Check, seeds: Sequence[bytes]) -> None:
    """Run `check` under atheris with libFuzzer's arguments from the command line. Does not return."""
    try:
        import atheris  # type: ignore[import-untyped]  # ships no types  # noqa: PLC0415  # short runs need none
    except ImportError:
        sys.stderr.write(
            "fuzz: atheris cannot be imported by this Python, so nothing was fuzzed.\n"
            "hint: `make setup` installs it where wheels exist; `make test` runs the short form anyway.\n"
        )
        sys.exit(WITHOUT_ATHERIS)
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds):
            (Path(corpus) / f"seed-{number:02}").write_bytes(seed)
        _instrument(atheris.instrument_func)
        atheris.Setup([*sys.argv, corpus], check)
        atheris.Fuzz()


def _instrument(instrument: Callable[[FunctionType], object]) -> None:
    """Let the fuzzer see our own branches; instrumenting the whole interpreter takes ten seconds."""
    rooms = [module for name, module in sys.modules.items() if name.startswith("ostiary.formats")]
    holders: list[object] = list(rooms)
    holders += [one for room in rooms for one in vars(room).values() if isinstance(one, type)]
    for holder in holders:
        for one in vars(holder).values():
            if isinstance(one, FunctionType) and one.__module__.startswith("ostiary.formats"):
                instrument(one)


def mutations(seeds: Sequence[bytes], count: int) -> Iterator[bytes]:
    """Each seed itself, then `count` bent ones, the same in each run."""
    yield from seeds
    chance = random.Random(20300601)
    for _ in range(count):
        bent = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 3)):
            _bend(bent, chance, seeds)
        yield bytes(bent)


def _bend(raw: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    at = chance.randrange(len(raw) + 1)
    length = chance.choice((1, 1, 2, 4, 8, 40))
    match chance.randrange(6):
        case 0 if at < len(raw):
            raw[at] ^= 1 << chance.randrange(8)
        case 1:
            raw[at : at + length] = chance.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * length
        case 2:
            del raw[at : at + length]
        case 3:
            raw[at:at] = raw[at : at + length]
        case 4:
            other = chance.choice(seeds)
            there = chance.randrange(len(other))
            raw[at : at + length] = other[there : there + length]
        case _:
            del raw[max(at, 1) :]
