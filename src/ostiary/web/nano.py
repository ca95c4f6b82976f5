"""NanoMDM's API, so that the scripts and tools written for it work here unchanged. (users.md 3.4.1)"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ostiary import __version__
from ostiary.errors import Malformed
from ostiary.protocol.mdm.checkin import Topic
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.services.api_tokens import ApiTokenService
from ostiary.services.caller import Caller, Scope
from ostiary.services.commands import LARGEST_COMMAND, CommandDesk, Enqueued
from ostiary.services.push import PushResult
from ostiary.services.push_certificates import PushCertificateService
from ostiary.web.api_auth import caller_of
from ostiary.web.body import BodyBudget, read_body
from ostiary.web.lines import moment
from ostiary.web.nano_push import CoalescedPushes
from ostiary.web.problems import log_problem, nano_json

LARGEST_PUSH_CERTIFICATE: Final = 256 * 1024


class TopicNotNamed(Malformed):
    """missing required query parameter: topic"""


class CountUnreadable(Malformed):
    """The query parameter `confirm` is not the number of enrollments that the command is for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NanoServices:
    """What the API asks."""

    tokens: ApiTokenService
    desk: CommandDesk
    pushes: CoalescedPushes
    certificates: PushCertificateService
    budget: BodyBudget


@dataclass(slots=True)
class _Result:
    """NanoMDM's APIResult, as it is gathered; an empty part is left out of the JSON."""

    ids: tuple[EnrollmentId, ...]
    no_push: bool = False
    push_error: str | None = None
    command_error: str | None = None
    command_uuid: str | None = None
    request_type: str | None = None
    by_id: dict[EnrollmentId, dict[str, str]] = field(default_factory=dict)

    def note(self, enrollment_id: EnrollmentId, name: str, text: str) -> None:
        self.by_id.setdefault(enrollment_id, {})[name] = text

    def note_pushes(self, results: Mapping[EnrollmentId, PushResult]) -> None:
        for enrollment_id, result in results.items():
            if result.error is not None:
                self.note(enrollment_id, "push_error", str(result.error))
            else:
                self.note(enrollment_id, "push_result", result.apns_id or "")

    def note_commands(self, enqueued: Enqueued) -> tuple[EnrollmentId, ...]:
        """Note what was refused; the ids that may be pushed."""
        self.command_uuid, self.request_type = enqueued.uuid, enqueued.request_type
        for enrollment_id, error in enqueued.refused.items():
            if error is not None:
                self.note(enrollment_id, "command_error", str(error))
        return tuple(one for one, error in enqueued.refused.items() if error is None)

    @property
    def status(self) -> int:
        """200 when all went well, 207 when some did, 500 when none did or the whole failed."""
        if self.push_error is not None or self.command_error is not None:
            return 500
        failed = sum(
            1 for said in self.by_id.values() if said.keys() & {"push_error", "command_error"}
        )
        if not failed:
            return 200
        return 207 if failed < len(self.ids) else 500

    def response(self) -> Response:
        order = ("push_error", "push_result", "command_error")
        content: dict[str, Any] = {}
        if self.by_id:
            content["status"] = {
                enrollment_id: {name: said[name] for name in order if name in said}
                for enrollment_id, said in sorted(self.by_id.items())
            }
        if self.no_push:
            content["no_push"] = True
        for name in ("push_error", "command_error", "command_uuid", "request_type"):
            if value := getattr(self, name):
                content[name] = value
        return nano_json(content, self.status)


class NanoApi:
    """The routes. Each asks who calls before anything else."""

    def __init__(self, services: NanoServices) -> None:
        self._services = services

    def routes(self) -> list[Route]:
        """/version, open to all, and /v1/… for API tokens; any user name will do."""
        return [
            Route("/version", self.version, methods=["GET"]),
            Route("/v1/pushcert", self.load_push_certificate, methods=["GET"]),
            Route("/v1/pushcert", self.save_push_certificate, methods=["PUT"]),
            Route("/v1/push/{ids}", self.push, methods=["GET", "PUT", "POST"]),
            Route("/v1/enqueue/{ids}", self.enqueue, methods=["PUT", "POST"]),
        ]

    async def version(self, _request: Request) -> Response:
        return Response(f'{{"version":"{__version__}"}}', media_type="application/json")

    async def push(self, request: Request) -> Response:
        """Push each enrollment now."""
        caller = await self._caller(request, Scope.PUSH)
        result = _Result(_ids(request))
        result.note_pushes(await self._services.pushes.push(caller.tenant, result.ids))
        return result.response()

    async def enqueue(self, request: Request) -> Response:
        """Queue a raw command for each enrollment, and push them unless `nopush` says not to."""
        caller = await self._caller(request, Scope.COMMANDS)
        result = _Result(_ids(request), no_push=bool(_query(request, "nopush")))
        body = await read_body(request, limit=LARGEST_COMMAND, budget=self._services.budget)
        to_push: Iterable[EnrollmentId] = result.ids
        confirmed = _confirmed(request)
        if body:
            try:
                to_push = result.note_commands(
                    await self._services.desk.enqueue_raw(
                        result.ids,
                        body,
                        caller,
                        pushes=not result.no_push,
                        confirmed=confirmed,
                    )
                )
            except Malformed as error:  # NanoMDM says 500 to a command that it cannot read
                log_problem(error)
                result.command_error = f"decoding command: {error}"
                return result.response()
        elif result.no_push:
            result.command_error = "must enqueue or push"
            return result.response()
        if not result.no_push:
            result.note_pushes(await self._services.pushes.push(caller.tenant, to_push))
        return result.response()

    async def load_push_certificate(self, request: Request) -> Response:
        """A push certificate's topic and end."""
        caller = await self._caller(request, Scope.PUSHCERT)
        if not (topic := _query(request, "topic")):
            raise TopicNotNamed
        certificate = await self._services.certificates.show(caller.tenant, Topic(topic))
        return _push_certificate(certificate.topic, certificate.not_after)

    async def save_push_certificate(self, request: Request) -> Response:
        """Take a push certificate and its key, one after the other in PEM."""
        caller = await self._caller(request, Scope.PUSHCERT)
        pem = await read_body(request, limit=LARGEST_PUSH_CERTIFICATE, budget=self._services.budget)
        imported = await self._services.certificates.import_certificate(
            _apart(pem),
            tenant=caller.tenant,
            confirm_new_topic=True,  # it is added beside the others; none of them is replaced
            actor=caller.name,
        )
        return _push_certificate(imported.topic, imported.not_after)

    async def _caller(self, request: Request, scope: Scope) -> Caller:
        caller = await caller_of(request, self._services.tokens)
        caller.require(scope)
        return caller


def _push_certificate(topic: Topic, not_after: datetime) -> Response:
    return nano_json({"not_after": moment(not_after), "topic": topic})


def _apart(pem: bytes) -> bytes:
    """PEM blocks on lines of their own: `cat cert key` mushes them together where the first has no last newline."""
    return pem.replace(b"-" * 10, b"-" * 5 + b"\n" + b"-" * 5)


def _ids(request: Request) -> tuple[EnrollmentId, ...]:
    ids: str = request.path_params["ids"]
    return tuple(dict.fromkeys(EnrollmentId(one) for one in ids.split(",")))


def _confirmed(request: Request) -> int | None:
    """How many devices the caller counted for a destructive command; NanoMDM knows no such parameter."""
    said = _query(request, "confirm")
    if not said:
        return None
    if not re.fullmatch("[0-9]{1,6}", said):
        raise CountUnreadable
    return int(said)


def _query(request: Request, name: str) -> str:
    """The first value of a query parameter, or nothing; an absurd number of parameters is not looked at."""
    query: bytes = request.scope["query_string"]
    try:
        values = parse_qs(query.decode("ascii"), max_num_fields=16).get(name, [""])
    except ValueError:
        return ""
    return values[0]
