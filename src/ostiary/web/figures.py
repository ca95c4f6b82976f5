"""The figures of all processes of a node, in memory that they share: whoever is asked tells the sum."""

import json
import mmap
import struct
import zlib
from collections.abc import Iterable
from typing import Final

from prometheus_client import Metric
from prometheus_client.registry import Collector
from typing_extensions import override

_HALF_BYTES: Final = 4 * 1024 * 1024
"""Far more than our figures need; memory that is never written to costs nothing."""
_HEADER: Final = struct.Struct("<II")
_ATTEMPTS: Final = 8
_ADDED: Final = ("counter", "histogram")
"""These go on after their process has died; a gauge says what is now, and dies with it."""


class SharedFigures:
    """One place a process, made before the processes are; each writes its own and reads all.

    A place has two halves and a byte that says which one holds. It is turned over last, so that a process that is
    killed, or stopped, in the middle of writing leaves what it told before.
    """

    def __init__(self, processes: int) -> None:
        self._places = [_Place() for _ in range(processes)]

    @property
    def processes(self) -> int:
        """How many share their figures: all of a node."""
        return len(self._places)

    def write(self, number: int, figures: Iterable[Metric]) -> None:
        """What process `number`, counted from 1, has counted so far."""
        self._places[number - 1].write(figures)

    def read(self, number: int) -> list[Metric]:
        """What it told last."""
        return self._places[number - 1].read()

    def read_all(self) -> list[Metric]:
        """The sum of what all have told."""
        return summed(figure for place in self._places for figure in place.read())

    def bury(self, number: int) -> None:
        """The process is gone: what it had counted stays counted, what it had at hand is no more."""
        self.write(number, [one for one in self.read(number) if one.type in _ADDED])


class Summed(Collector):
    """Figures that were read elsewhere, for a registry."""

    def __init__(self, figures: Iterable[Metric]) -> None:
        self._figures = tuple(figures)

    @override
    def collect(self) -> Iterable[Metric]:
        return self._figures


def summed(figures: Iterable[Metric]) -> list[Metric]:
    """Figures of the same name and labels as one, the sum of them."""
    whole: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for one in figures:
        whole.setdefault(one.name, Metric(one.name, one.documentation, one.type))
        sums = values.setdefault(one.name, {})
        for sample in one.samples:
            key = sample.name, tuple(sample.labels.items())
            sums[key] = sums.get(key, 0.0) + sample.value
    for name, sums in values.items():
        for (sample_name, labels), value in sums.items():
            whole[name].add_sample(sample_name, dict(labels), value)
    return list(whole.values())


class _Place:
    """Memory that processes forked from now on have in common."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 1 + 2 * _HALF_BYTES)

    def write(self, figures: Iterable[Metric]) -> None:
        text = json.dumps(
            [
                [one.name, one.documentation, one.type]
                + [[sample.name, sample.labels, sample.value] for sample in one.samples]
                for one in figures
            ]
        ).encode()
        if len(text) > _HALF_BYTES - _HEADER.size:
            return  # what was told before stands; it would take a thousand times the figures that we have
        half = 1 - self._memory[0]
        start = 1 + half * _HALF_BYTES
        content = _HEADER.pack(len(text), zlib.crc32(text)) + text
        self._memory[start : start + len(content)] = content
        self._memory[0] = half

    def read(self) -> list[Metric]:
        for _ in range(_ATTEMPTS):
            start = 1 + self._memory[0] * _HALF_BYTES
            length, check = _HEADER.unpack_from(self._memory, start)
            text = self._memory[start + _HEADER.size : start + _HEADER.size + length]
            if length and zlib.crc32(text) == check:  # else it was written anew twice meanwhile
                return [_metric(*one) for one in json.loads(text)]
        return []


def _metric(
    name: str, documentation: str, kind: str, *samples: tuple[str, dict[str, str], float]
) -> Metric:
    metric = Metric(name, documentation, kind)
    for sample_name, labels, value in samples:
        metric.add_sample(sample_name, labels, value)
    return metric
