"""Figures of several processes: summed, kept when one dies, never half written."""

import subprocess
import sys
import textwrap

from prometheus_client import Metric

from ostiary.web.figures import SharedFigures, summed
from ostiary.web.metrics import PrometheusMeter


def counter(value: float, label: str = "a") -> Metric:
    metric = Metric("asked", "Questions.", "counter")
    metric.add_sample("asked_total", {"by": label}, value)
    return metric


def gauge(value: float) -> Metric:
    metric = Metric("open", "Connections.", "gauge")
    metric.add_sample("open", {}, value)
    return metric


def values(figures: list[Metric]) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels.get("by", "")): sample.value
        for metric in figures
        for sample in metric.samples
    }


def test_what_processes_tell_is_added_up_by_name_and_labels() -> None:
    shared = SharedFigures(3)
    shared.write(1, [counter(2), gauge(4)])
    shared.write(2, [counter(3), counter(1, "b"), gauge(1)])
    assert values(shared.read_all()) == {
        ("asked_total", "a"): 5,
        ("asked_total", "b"): 1,
        ("open", ""): 5,
    }


def test_a_dead_process_leaves_its_counters_and_takes_its_gauges() -> None:
    """Counters that went back would make a rate of everything that was ever counted."""
    shared = SharedFigures(2)
    shared.write(1, [counter(2), gauge(4)])
    shared.write(2, [counter(3), gauge(1)])
    shared.bury(1)
    assert values(shared.read_all()) == {("asked_total", "a"): 5, ("open", ""): 1}


def test_a_successor_goes_on_counting_where_the_dead_one_was() -> None:
    shared = SharedFigures(1)
    first = PrometheusMeter()
    first.share(shared, 1)
    first.push("accepted", None)
    first.push("accepted", None)
    first.publish()
    shared.bury(1)
    second = PrometheusMeter()
    second.share(shared, 1)
    second.push("accepted", None)
    second.publish()
    found = {sample.name: sample.value for metric in shared.read_all() for sample in metric.samples}
    assert found["ostiary_push_total"] == 3
    assert found["ostiary_processes"] == 1


def test_what_another_process_writes_is_read_here() -> None:
    """In a process of its own, which has no threads: this one may, and must not be forked."""
    scene = """
        import os
        from prometheus_client import Metric
        from ostiary.web.figures import SharedFigures

        shared = SharedFigures(2)
        if os.fork() == 0:
            metric = Metric("asked", "Questions.", "counter")
            metric.add_sample("asked_total", {}, 7)
            shared.write(2, [metric])
            os._exit(0)
        os.wait()
        ((read,),) = (one.samples for one in shared.read_all())
        print(read.value)
    """
    code = textwrap.dedent(scene)
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(said.stdout) == 7


def test_a_process_killed_while_it_writes_has_told_what_it_told_before() -> None:
    """The half that holds is turned over last."""
    shared = SharedFigures(1)
    shared.write(1, [counter(2)])
    memory = shared._places[0]._memory
    other = 1 + (1 - memory[0]) * ((len(memory) - 1) // 2)
    memory[other : other + 40] = b"\xff" * 40
    assert values(shared.read_all()) == {("asked_total", "a"): 2}


def test_nothing_told_is_nothing_summed() -> None:
    assert SharedFigures(2).read_all() == []
    assert summed([]) == []
