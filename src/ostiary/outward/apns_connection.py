"""One topic's connections to APNs, and what one exchange over them brought."""

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import certifi
import pycurl

from ostiary.outward.curl_loop import CurlLoop
from ostiary.ports.push import ClientCertificate, PushOutcome, PushVerdict
from ostiary.protocol.apns.outcome import LARGEST_ANSWER, judge
from ostiary.protocol.apns.request import PushRequest

_BUFFER_BYTES: Final = 16 * 1024

_EVERY_PUSH: Final = ("content-type: application/json", "accept:")

_LOST_CONNECTION: Final = frozenset(
    {
        pycurl.E_SEND_ERROR,
        pycurl.E_RECV_ERROR,
        pycurl.E_GOT_NOTHING,
        pycurl.E_HTTP2,
        pycurl.E_PARTIAL_FILE,
        92,  # CURLE_HTTP2_STREAM, which pycurl does not name: the stream was reset or refused
    }
)
"""A connection that worked went away under us: reset, or GOAWAY. Nobody knows whether the push arrived."""

_UNUSABLE_CERTIFICATE: Final = (pycurl.E_SSL_CERTPROBLEM, pycurl.E_BAD_FUNCTION_ARGUMENT)
"""OpenSSL did not take certificate or key; the second number is what libcurl says of a key that does not fit."""

_REASON_OF_ERROR: Final = {
    pycurl.E_COULDNT_RESOLVE_HOST: "host-not-found",
    pycurl.E_COULDNT_CONNECT: "not-connected",
    pycurl.E_OPERATION_TIMEDOUT: "timed-out",
    pycurl.E_PEER_FAILED_VERIFICATION: "server-certificate-not-trusted",
    pycurl.E_SSL_CONNECT_ERROR: "tls-not-established",
    pycurl.E_SSL_CACERT_BADFILE: "ca-file-unreadable",
}

_TLS_ALERT: Final = re.compile(
    r"alert (certificate (?:expired|revoked|unknown|required)|bad certificate|unsupported certificate"
    r"|unknown ca|access denied|internal error|handshake failure)"
)
"""Alerts with which APNs refuses the certificate that we show. (5.5, MicroMDM and Commandment see expiry only here)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApnsEndpoint:
    """Where APNs is; nothing but this host and port is ever contacted.

    `ca_file` names the CAs that may vouch for it: None for the public ones, a file for a simulated Apple.
    """

    host: str = "api.push.apple.com"
    port: int = 443
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PushLimits:
    """How much of APNs, and of our patience, is used at once."""

    pushes_at_once: int = 1100
    """Each keeps some 30 KiB of libcurl's while it is under way. The push loop takes a thousand at most, and only
    while APNs is slow: Apple's answers come within tens of milliseconds."""
    connections_per_topic: int = 4
    streams_per_connection: int = 1000
    connect_timeout: timedelta = timedelta(seconds=10)
    answer_timeout: timedelta = timedelta(seconds=30)
    idle_connection_for: timedelta = timedelta(hours=1)
    """Kept that long without a push; older ones are opened anew rather than tried with a PING. (5.3)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What one exchange brought, and whether the same push may be sent again on a new connection."""

    outcome: PushOutcome
    reopen: bool = False
    """Later pushes had better use new connections."""
    stuck: bool = False
    """The connection says nothing any more: later pushes must use another."""
    repeat: bool = False


class TopicConnections:
    """The connections that show one certificate. Another certificate, or trouble, means another of these.

    libcurl keeps certificate and key in memory; nothing is written to disk. No proxy is used, no
    redirect followed, and no other protocol than HTTPS spoken.
    """

    def __init__(
        self, certificate: ClientCertificate, endpoint: ApnsEndpoint, limits: PushLimits
    ) -> None:
        self.certificate = certificate
        self.reopened_in_trouble = False
        self._base = f"https://{endpoint.host}:{endpoint.port}".encode("ascii")
        self._ca_file = str(endpoint.ca_file) if endpoint.ca_file else certifi.where()
        self._limits = limits
        self._spare: list[_Exchange] = []
        self._curl = CurlLoop(
            connections=limits.connections_per_topic, streams=limits.streams_per_connection
        )

    async def post(self, request: PushRequest) -> Attempt:
        """Send one push and read its answer; whatever happens is an Attempt."""
        exchange = self._spare.pop() if self._spare else self._new_exchange()
        exchange.prepare(self._base, request)
        number, words = await self._curl.perform(exchange.curl)
        attempt = _failed(number, words) if number else _answered(exchange)
        self._spare.append(exchange)
        return attempt

    def retire(self) -> None:
        """Close every connection once the pushes under way are answered."""
        self._curl.close_when_idle()

    def _new_exchange(self) -> "_Exchange":
        exchange = _Exchange()
        limits, curl = self._limits, exchange.curl
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
        curl.setopt(pycurl.PIPEWAIT, 1)  # rather wait for a stream than open another connection
        curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTPS)
        curl.setopt(pycurl.FOLLOWLOCATION, 0)
        curl.setopt(pycurl.PROXY, "")  # and not what the environment says
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2)
        curl.setopt(pycurl.SSL_VERIFYPEER, 1)
        curl.setopt(pycurl.SSL_VERIFYHOST, 2)
        # The wheel's own default is one distribution's path, absent on others.
        curl.setopt(pycurl.CAINFO, self._ca_file)
        curl.setopt(pycurl.SSLCERTTYPE, "PEM")
        curl.setopt(pycurl.SSLKEYTYPE, "PEM")
        curl.setopt(pycurl.SSLCERT_BLOB, self.certificate.chain_pem)
        curl.setopt(pycurl.SSLKEY_BLOB, self.certificate.key_pem.reveal())
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, _milliseconds(limits.connect_timeout))
        curl.setopt(pycurl.TIMEOUT_MS, _milliseconds(limits.answer_timeout))
        curl.setopt(pycurl.DNS_CACHE_TIMEOUT, 0)  # a fresh look-up for each connection (5.3)
        curl.setopt(pycurl.MAXAGE_CONN, int(limits.idle_connection_for.total_seconds()))
        curl.setopt(pycurl.TCP_KEEPALIVE, 1)
        curl.setopt(pycurl.BUFFERSIZE, _BUFFER_BYTES)
        curl.setopt(pycurl.UPLOAD_BUFFERSIZE, _BUFFER_BYTES)
        return exchange


class _Exchange:
    """One libcurl handle and the answer that it collects; used for one push after another."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.apns_id = ""
        self.curl = pycurl.Curl()
        self.curl.setopt(pycurl.WRITEFUNCTION, self._on_body)

    def prepare(self, base: bytes, request: PushRequest) -> None:
        self.body.clear()
        self.apns_id = request.apns_id
        self.curl.setopt(pycurl.URL, base + request.path.reveal())
        self.curl.setopt(pycurl.POSTFIELDS, request.body.reveal())
        lines = [f"{name}: {value}" for name, value in request.headers]
        self.curl.setopt(pycurl.HTTPHEADER, [*_EVERY_PUSH, *lines])

    def _on_body(self, part: bytes) -> None:
        room = LARGEST_ANSWER + 1 - len(self.body)  # one more than is read, so that too much shows
        self.body += part[:room]


def _answered(exchange: _Exchange) -> Attempt:
    status = exchange.curl.getinfo(pycurl.RESPONSE_CODE)
    # APNs echoes the id that we gave the push; reading it back would cost a call for each header of each answer.
    outcome = judge(status, {"apns-id": exchange.apns_id}, bytes(exchange.body))
    is_idle_timeout = outcome.reason == "IdleTimeout"
    is_trouble = outcome.verdict is PushVerdict.RETRY  # Apple's 5xx ask for a new connection
    return Attempt(outcome=outcome, reopen=is_trouble, repeat=is_idle_timeout)


def _failed(number: int, words: str) -> Attempt:
    """What libcurl's error means. Its words hold no secret, and go no further than this."""
    if alert := _TLS_ALERT.search(words.lower()):
        return Attempt(
            outcome=_unanswered(PushVerdict.TOPIC_PAUSED, "tls-" + alert[1].replace(" ", "-"))
        )
    if number in _UNUSABLE_CERTIFICATE:
        return Attempt(outcome=_unanswered(PushVerdict.TOPIC_PAUSED, "certificate-unusable"))
    if number in _LOST_CONNECTION:
        return Attempt(
            outcome=_unanswered(PushVerdict.RETRY, "connection-lost"), reopen=True, repeat=True
        )
    reason = _REASON_OF_ERROR.get(number, f"curl-{number}")
    is_stuck = number in (pycurl.E_OPERATION_TIMEDOUT, pycurl.E_FAILED_INIT)
    return Attempt(outcome=_unanswered(PushVerdict.RETRY, reason), reopen=is_stuck, stuck=is_stuck)


def _unanswered(verdict: PushVerdict, reason: str) -> PushOutcome:
    return PushOutcome(verdict=verdict, apns_id=None, status=None, reason=reason)


def _milliseconds(time: timedelta) -> int:
    return int(time / timedelta(milliseconds=1))
