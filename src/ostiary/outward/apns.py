"""Pushes, really sent: HTTP/2 to APNs with the client certificate of each topic."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from ostiary.outward.apns_connection import ApnsEndpoint, Attempt, PushLimits, TopicConnections
from ostiary.ports.push import (
    ClientCertificate,
    ClientCertificates,
    PushOutcome,
    PushVerdict,
)
from ostiary.protocol.apns.request import PushRequest, PushTooLarge, PushUnwritable, render_push
from ostiary.protocol.mdm.checkin import PushAddress, Topic

__all__ = ["ApnsEndpoint", "ApnsPusher", "PushLimits"]


def fresh_uuid() -> str:
    """A random UUID as APNs wants it, lower case; by hand, for a fifth of what the library's object costs. (RFC 9562)"""
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


class ApnsPusher:
    """A Pusher over libcurl: one set of long-lived connections a topic, each push on a stream of its own.

    A certificate that was replaced is seen by the next push: its topic gets new connections, the old ones
    close once answered. A connection that breaks under a push costs that push one repetition, no more.
    (check-in-and-commands.md 5.3, 5.5)
    """

    def __init__(
        self,
        certificates: ClientCertificates,
        endpoint: ApnsEndpoint | None = None,
        limits: PushLimits | None = None,
        *,
        new_apns_id: Callable[[], str] = fresh_uuid,
    ) -> None:
        self._certificates = certificates
        self._endpoint = endpoint or ApnsEndpoint()
        self._limits = limits or PushLimits()
        self._new_apns_id = new_apns_id
        self._slots = asyncio.Semaphore(self._limits.pushes_at_once)
        self._connections_by_topic: dict[Topic, TopicConnections] = {}
        self._asked_by_topic: dict[Topic, _Asked] = {}

    async def push(self, address: PushAddress, *, expires_at: datetime) -> PushOutcome:
        """Send one push; whatever APNs or the network does is an outcome.

        Raises:
            SealBroken: the topic's key does not open, which is our trouble and not APNs'.
        """
        try:
            request = render_push(address, expires_at=expires_at, apns_id=self._new_apns_id())
        except (PushTooLarge, PushUnwritable) as refused:
            return _unsent(PushVerdict.OUR_BUG, refused.code.replace("_", "-"))
        async with self._slots:
            attempt = await self._send(address.topic, request)
            if attempt.repeat:
                attempt = await self._send(address.topic, request)
        return attempt.outcome

    def close(self) -> None:
        """Close every connection once the pushes under way are answered."""
        for connections in self._connections_by_topic.values():
            connections.retire()
        self._connections_by_topic.clear()

    async def _send(self, topic: Topic, request: PushRequest) -> Attempt:
        connections = await self._connect(topic)
        if connections is None:
            return Attempt(outcome=_unsent(PushVerdict.TOPIC_PAUSED, "no-certificate"))
        attempt = await connections.post(request)
        if attempt.outcome.verdict is PushVerdict.TOPIC_PAUSED:
            shown = connections.certificate.record_id
            attempt = replace(attempt, outcome=replace(attempt.outcome, shown=shown))
        if attempt.reopen:
            self._reopen(topic, connections, is_stuck=attempt.stuck)
        else:
            connections.reopened_in_trouble = False
        return attempt

    async def _connect(self, topic: Topic) -> TopicConnections | None:
        """The topic's connections, new ones if its certificate is another by now. (AP-09)"""
        certificate = await self._current_certificate(topic)
        connections = self._connections_by_topic.get(topic)
        if (
            connections
            and certificate
            and connections.certificate.record_id == certificate.record_id
        ):
            return connections
        if connections:
            del self._connections_by_topic[topic]
            connections.retire()
        if certificate is None:
            return None
        connections = TopicConnections(certificate, self._endpoint, self._limits)
        self._connections_by_topic[topic] = connections
        return connections

    def _reopen(self, topic: Topic, broken: TopicConnections, *, is_stuck: bool) -> None:
        """Later pushes get new connections: once for all that broke together, and once while trouble lasts."""
        if self._connections_by_topic.get(topic) is not broken:
            return
        if broken.reopened_in_trouble and not is_stuck:
            return
        broken.retire()
        fresh = TopicConnections(broken.certificate, self._endpoint, self._limits)
        fresh.reopened_in_trouble = True
        self._connections_by_topic[topic] = fresh

    async def _current_certificate(self, topic: Topic) -> ClientCertificate | None:
        """What is stored now. Pushes that start in the same turn of the event loop share one look."""
        while (asked := self._asked_by_topic.get(topic)) is not None:
            await asked.answered.wait()
            if asked.has_answer:
                return asked.certificate
        asked = self._asked_by_topic[topic] = _Asked()
        try:
            asked.certificate = await self._certificates.load_client_certificate(topic)
            asked.has_answer = True
            asyncio.get_running_loop().call_soon(self._asked_by_topic.pop, topic, None)
        finally:
            if not asked.has_answer:
                del self._asked_by_topic[topic]
            asked.answered.set()
        return asked.certificate


class _Asked:
    """One look at the stored certificate, shared by those who wait for it."""

    def __init__(self) -> None:
        self.answered = asyncio.Event()
        self.has_answer = False
        self.certificate: ClientCertificate | None = None


def _unsent(verdict: PushVerdict, reason: str) -> PushOutcome:
    return PushOutcome(verdict=verdict, apns_id=None, status=None, reason=reason)
