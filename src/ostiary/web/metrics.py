"""Metrics for Prometheus: counters that services feed through a port, gauges that are read when asked for."""

from collections.abc import Iterable
from typing import Final, final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from typing_extensions import override

from ostiary.ports.reports import Counts
from ostiary.ports.storage import PushCertificate
from ostiary.web.figures import SharedFigures, Summed, summed

MOST_REQUEST_TYPES: Final = 200
MOST_REASONS: Final = 100
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


@final
class PrometheusMeter:
    """Implements ports.meter.Meter. Each server has its own registry, so that two in one process do not mix."""

    def __init__(self) -> None:
        # One line of noise for each counter, which nobody reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no types for it
        self.registry = CollectorRegistry()
        self._request_types: set[str] = set()
        self._checkin_by_words: dict[tuple[str, str], Counter] = {}
        self._push_by_words: dict[tuple[str, str | None], Counter] = {}
        self._checkins = Counter(
            "ostiary_checkin",
            "Check-in messages and command reports answered.",
            ["msg_type", "result"],
            registry=self.registry,
        )
        self._checkin_seconds = Histogram(
            "ostiary_checkin_duration_seconds",
            "Time from the first byte read to the answer.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._results = Counter(
            "ostiary_command_results",
            "Commands that ended.",
            ["request_type", "status"],
            registry=self.registry,
        )
        self._pushes = Counter(
            "ostiary_push",
            "Pushes that APNs answered.",
            ["result", "reason"],
            registry=self.registry,
        )
        self._dropped = Counter(
            "ostiary_retention_dropped",
            "Records that retention removed.",
            ["records"],
            registry=self.registry,
        )
        self.connections = Gauge(
            "ostiary_connections",
            "Open connections of devices and programs.",
            registry=self.registry,
        )
        self.body_bytes = Gauge(
            "ostiary_body_bytes_in_flight",
            "Bytes of request bodies in memory.",
            registry=self.registry,
        )
        processes = Gauge("ostiary_processes", "Processes of this node.", registry=self.registry)
        processes.set(1)
        self._shared: tuple[SharedFigures, int] | None = None
        self._before: list[Metric] = []

    def share(self, figures: SharedFigures, number: int) -> None:
        """Tell the sum over all processes of the node from now on; what a predecessor of this one counted stays in it."""
        self._before = figures.read(number)
        self._shared = figures, number
        self.publish()

    def publish(self) -> None:
        """Let the other processes of the node know what this one has counted."""
        if self._shared is not None:
            figures, number = self._shared
            figures.write(number, summed([*self._before, *self.registry.collect()]))

    def checkin(self, message: str, result: str, seconds: float) -> None:
        """Count one answered message; both words come from closed lists, so the counters are kept at hand."""
        kept = self._checkin_by_words.get((message, result))
        if kept is None:
            kept = self._checkins.labels(message, result)
            self._checkin_by_words[message, result] = kept
        kept.inc()
        self._checkin_seconds.observe(seconds)

    def command_closed(self, request_type: str, state: str) -> None:
        """Count one ended command; the request type of a raw command is an operator's text, so it is bounded."""
        if request_type not in self._request_types:
            if len(self._request_types) >= MOST_REQUEST_TYPES:
                request_type = "other"
            self._request_types.add(request_type)
        self._results.labels(request_type, state).inc()

    def push(self, verdict: str, reason: str | None) -> None:
        """Count one push; the reason is APNs' own text, so it is bounded."""
        kept = self._push_by_words.get((verdict, reason))
        if kept is None:
            if len(self._push_by_words) >= MOST_REASONS:
                reason = "other"
            kept = self._pushes.labels(verdict, reason or "")
            self._push_by_words[verdict, reason] = kept
        kept.inc()

    def dropped(self, records: str, number: int) -> None:
        """Count what retention removed."""
        self._dropped.labels(records).inc(number)

    def render(self, counts: Counts, certificates: Iterable[PushCertificate]) -> bytes:
        """The whole page in Prometheus' text format."""
        state = CollectorRegistry()
        state.register(_Standing(counts, tuple(certificates)))
        return generate_latest(self._counted()) + generate_latest(state)

    def _counted(self) -> CollectorRegistry:
        """What this process has counted, or all of the node together."""
        if self._shared is None:
            return self.registry
        self.publish()
        counted = CollectorRegistry()
        counted.register(Summed(self._shared[0].read_all()))
        return counted


class _Standing(Collector):
    """What is the case now, as storage counts it."""

    def __init__(self, counts: Counts, certificates: tuple[PushCertificate, ...]) -> None:
        self._counts = counts
        self._certificates = certificates

    @override
    def collect(self) -> Iterable[GaugeMetricFamily]:
        enrollments = GaugeMetricFamily(
            "ostiary_enrollments", "Enrollments and user channels.", labels=["type", "state"]
        )
        for (kind, state), number in sorted(self._counts.enrollments.items()):
            enrollments.add_metric([kind, state], number)
        tokens = GaugeMetricFamily(
            "ostiary_token_generations", "Generations in the ledger.", labels=["kind", "state"]
        )
        for (kind, state), number in sorted(self._counts.tokens.items()):
            tokens.add_metric([kind, state], number)
        ends = GaugeMetricFamily(
            "ostiary_token_not_after_seconds",
            "When a token ends, in seconds since 1970.",
            labels=["kind", "tenant", "name"],
        )
        paused = GaugeMetricFamily(
            "ostiary_push_topic_paused", "1 where pushes of a topic are paused.", labels=["topic"]
        )
        for certificate in self._certificates:
            labels = ["push-certificate", certificate.tenant, certificate.topic]
            ends.add_metric(labels, certificate.not_after.timestamp())
            paused.add_metric([certificate.topic], float(certificate.paused_since is not None))
        yield from (enrollments, tokens, ends, paused)
        for name, help_text, value in (
            (
                "ostiary_command_queue_depth",
                "Commands that have not ended.",
                self._counts.live_commands,
            ),
            ("ostiary_outbox_depth", "Channels that wait to be pushed.", self._counts.wakes),
            (
                "ostiary_push_tokens_dead",
                "Push tokens that APNs declared dead.",
                self._counts.push_dead,
            ),
            ("ostiary_alerts", "Alerts that somebody should look at.", self._counts.alerts),
        ):
            yield GaugeMetricFamily(name, help_text, value=value)
