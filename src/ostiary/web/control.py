"""The routes behind the command line, on a socket that only this machine's operator may open.

Everything is JSON; errors are application/problem+json with code, title, detail and hint, so that the
command prints the same words whether a server answered or it opened the store itself.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ostiary import __version__
from ostiary.domain.enrollment import Bound, EnrollmentKey, State
from ostiary.domain.operator import EnrollmentUnknown
from ostiary.domain.token import (
    DEFAULT_TENANT,
    Fingerprint,
    Holder,
    TenantId,
    TokenKind,
    TokenState,
)
from ostiary.errors import Conflicting, Malformed, Missing, OstiaryError
from ostiary.ports.clock import Clock
from ostiary.ports.reports import Reports
from ostiary.protocol.mdm.checkin import Topic
from ostiary.protocol.mdm.connect import CommandUuid
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.secret import Secret
from ostiary.services.api_tokens import ApiTokenNameTaken, ApiTokenService
from ostiary.services.caller import Caller, Scope
from ostiary.services.canaries import canaries_known
from ostiary.services.commands import CommandDesk
from ostiary.services.devices import DeviceDesk
from ostiary.services.erasures import find_erasure
from ostiary.services.finding import find_enrollments, find_ids, nobody
from ostiary.services.health import HealthService
from ostiary.services.identity_renewal import IdentityRenewalService
from ostiary.services.identity_survey import IdentitySurvey
from ostiary.services.invitations import InvitationService
from ostiary.services.policies import (
    CHOICES,
    MEANINGS,
    RENEWAL_CANARIES,
    PolicyBook,
    policy_values,
)
from ostiary.services.push import PushService
from ostiary.services.push_certificates import PushCertificateService
from ostiary.services.retention import RetentionService
from ostiary.web import lines
from ostiary.web.asks import (
    MOST_LINES,
    actor_of,
    limit_of,
    number,
    one_of,
    optional_text,
    parameter,
    read_ask,
    text,
    texts,
)
from ostiary.web.body import BodyBudget
from ostiary.web.identities import IdentityRoutes
from ostiary.web.queueing import queue

_LOOKED_THROUGH: Final = 20_000
"""Commands among which one is sought by its UUID: those that wait, then the newest that ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlServices:
    """What the command line can ask for."""

    reports: Reports
    desk: CommandDesk
    devices: DeviceDesk
    renewals: IdentityRenewalService
    identities: IdentitySurvey
    pushes: PushService
    certificates: PushCertificateService
    invitations: InvitationService
    policies: PolicyBook
    retention: RetentionService
    tokens: ApiTokenService
    health: HealthService
    clock: Clock
    budget: BodyBudget
    enroll_url: Callable[[str], str]
    """The address to give to whoever is invited, for a code."""
    tenant: TenantId = DEFAULT_TENANT


class CommandUnknown(Missing):
    """No command of this UUID waits, nor is it among the newest that ended."""

    hint = "With --enrollment the commands of that enrollment alone are looked through, and go back further."


class FingerprintUnusable(Malformed):
    """The fingerprint is not 64 hexadecimal digits, with or without colons."""

    hint = "It is the SHA-256 of the certificate: openssl x509 -noout -fingerprint -sha256 -in FILE"


class Control:
    """The routes; whoever reaches them may do everything, and says who he is for the audit."""

    def __init__(self, services: ControlServices) -> None:
        self._services = services
        self._identities = IdentityRoutes(
            renewals=services.renewals,
            survey=services.identities,
            policies=services.policies,
            budget=services.budget,
            caller=self._caller,
            meant=self._meant,
        )

    def routes(self) -> list[Route]:
        """One address for each thing a command does."""
        return [
            Route("/status", self.status, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
            Route("/devices", self.devices, methods=["GET"]),
            Route("/device", self.device, methods=["GET"]),
            Route("/device/accept-certificate", self.accept_certificate, methods=["POST"]),
            Route("/device/keep-certificate", self.keep_certificate, methods=["POST"]),
            Route("/device/release", self.release, methods=["POST"]),
            *self._identities.routes(),
            Route("/commands", self.commands, methods=["GET"]),
            Route("/commands", self.enqueue, methods=["POST"]),
            Route("/command", self.command, methods=["GET"]),
            Route("/commands/cancel", self.cancel, methods=["POST"]),
            Route("/pushes", self.push, methods=["POST"]),
            Route("/tokens", self.token_list, methods=["GET"]),
            Route("/tokens/history", self.token_history, methods=["GET"]),
            Route("/tokens/dead-pushes", self.dead_pushes, methods=["GET"]),
            Route("/invitations", self.invite, methods=["POST"]),
            Route("/policies", self.policy_list, methods=["GET"]),
            Route("/policies", self.policy_set, methods=["POST"]),
            Route("/retention", self.retention_outlook, methods=["GET"]),
            Route("/retention", self.retention_sweep, methods=["POST"]),
            Route("/push-certificates", self.push_certificates, methods=["GET"]),
            Route("/push-certificates", self.import_push_certificate, methods=["POST"]),
            Route("/push-certificates/request", self.request_push_certificate, methods=["POST"]),
            Route("/push-certificates/resume", self.resume_topic, methods=["POST"]),
            Route("/api-tokens", self.create_api_token, methods=["POST"]),
        ]

    async def status(self, _request: Request) -> Response:
        return JSONResponse({"version": __version__})

    async def health(self, _request: Request) -> Response:
        findings = await self._services.health.examine()
        return JSONResponse(
            [
                {
                    "subject": finding.subject,
                    "severity": finding.severity.name.lower(),
                    "sentence": finding.sentence,
                    "todo": finding.todo,
                }
                for finding in findings
            ]
        )

    async def devices(self, request: Request) -> Response:
        state, limit = request.query_params.get("state"), limit_of(request)
        rows = await self._services.reports.list_enrollments(
            self._services.tenant,
            state=one_of(State, state, "state of enrollments").value if state else None,
            limit=limit + 1,  # one more than is told, to know whether there is more
            after=request.query_params.get("after"),
        )
        told = rows[:limit]
        after = f"{told[-1].id}/{told[-1].key}" if len(rows) > limit else None
        return _page([lines.enrollment_line(row) for row in told], after)

    async def device(self, request: Request) -> Response:
        rows = await find_enrollments(
            self._services.reports, self._services.tenant, parameter(request, "id")
        )
        enrollment_id = rows[0].id
        reports, tenant, now = (
            self._services.reports,
            self._services.tenant,
            self._services.clock.now(),
        )
        bindings = await reports.list_bindings(tenant, enrollment_id)
        commands = await reports.list_commands(
            tenant, enrollment_id, live_only=True, limit=MOST_LINES
        )
        tokens = await reports.token_history(tenant, Holder(enrollment_id))
        current = [record for record in tokens if _is_current(record.state.value)]
        return JSONResponse(
            {
                "enrollments": [
                    lines.enrollment_facts(rows[0], await find_erasure(reports, rows[0])),
                    *(lines.enrollment_facts(row) for row in rows[1:]),
                ],
                "certificates": [lines.binding_line(binding) for binding in bindings],
                "tokens": [lines.token_line(record, now) for record in current],
                "commands": [lines.command_line(line) for line in commands],
                "alerts": [
                    lines.alert_line(line)
                    for line in await reports.list_alerts(tenant, limit=MOST_LINES)
                    if line.alert.subject == enrollment_id
                ],
            }
        )

    async def accept_certificate(self, request: Request) -> Response:
        ask = await read_ask(request, self._services.budget)
        fingerprint = optional_text(ask, "fingerprint")
        row = await self._services.devices.accept_certificate(
            self._services.tenant,
            await self._meant(text(ask, "id")),
            _fingerprint(fingerprint) if fingerprint else None,
            actor=actor_of(request),
            reason=optional_text(ask, "reason") or "",
        )
        return JSONResponse(lines.enrollment_line(row))

    async def keep_certificate(self, request: Request) -> Response:
        ask = await read_ask(request, self._services.budget)
        row = await self._services.devices.keep_certificate(
            self._services.tenant,
            await self._meant(text(ask, "id")),
            actor=actor_of(request),
            reason=optional_text(ask, "reason") or "",
        )
        return JSONResponse(lines.enrollment_line(row))

    async def release(self, request: Request) -> Response:
        ask = await read_ask(request, self._services.budget)
        row = await self._services.devices.release(
            self._services.tenant,
            await self._meant(text(ask, "id")),
            actor=actor_of(request),
            reason=optional_text(ask, "reason") or "",
        )
        return JSONResponse(lines.enrollment_line(row))

    async def commands(self, request: Request) -> Response:
        limit = limit_of(request)
        found = await self._services.reports.list_commands(
            self._services.tenant,
            await self._known(request.query_params.get("id")),
            live_only=request.query_params.get("all") is None,
            limit=limit + 1,
        )
        told = [lines.command_line(line) for line in found[:limit]]
        return _page(told, None, more=len(found) > limit)

    async def command(self, request: Request) -> Response:
        """One command, once for each enrollment that it was queued for."""
        uuid = parameter(request, "uuid")
        among = await self._services.reports.list_commands(
            self._services.tenant,
            await self._known(request.query_params.get("id")),
            live_only=False,
            limit=_LOOKED_THROUGH,
        )
        if not (found := [line for line in among if line.uuid == uuid]):
            raise CommandUnknown(uuid=uuid)
        return _page([lines.command_line(line) for line in found], None)

    async def _known(self, name: str | None) -> EnrollmentId | None:
        """The id that a filter names, None for none. Raises EnrollmentUnknown, SerialAmbiguous."""
        return await self._meant(name) if name else None

    async def _meant(self, name: str) -> EnrollmentId:
        """Whom an id or a serial number means. Raises EnrollmentUnknown, SerialAmbiguous."""
        row, *_ = await find_enrollments(self._services.reports, self._services.tenant, name)
        return row.id

    async def enqueue(self, request: Request) -> Response:
        ask = await read_ask(request, self._services.budget)
        policy = self._services.policies.current()
        meant = await find_ids(self._services.reports, self._services.tenant, texts(ask, "ids"))
        done = await queue(ask, meant, self._services.desk, policy, self._caller(request))
        return JSONResponse(done)

    async def cancel(self, request: Request) -> Response:
        ask = await read_ask(request, self._services.budget)
        closed = await self._services.desk.cancel(
            await self._meant(text(ask, "id")),
            CommandUuid(text(ask, "uuid")),
            self._caller(request),
            optional_text(ask, "reason") or "",
        )
        return JSONResponse({"uuid": closed.uuid, "state": closed.state.value})

    async def push(self, request: Request) -> Response:
        ask = await read_ask(request, self._services.budget)
        names, tenant = texts(ask, "ids"), self._services.tenant
        meant = await find_ids(self._services.reports, tenant, names)
        unmeant = {
            nobody(one): (one, why) for one, why in meant.items() if isinstance(why, OstiaryError)
        }
        targets = ((one, meant[one]) for one in names)
        ids = [nobody(one) if isinstance(who, OstiaryError) else who for one, who in targets]
        results = await self._services.pushes.push_now(tenant, ids)
        return JSONResponse(
            [
                {"id": name, "apns_id": result.apns_id} | lines.refusal(why)
                for result in results
                for name, why in (
                    unmeant.get(result.enrollment_id, (result.enrollment_id, result.error)),
                )
            ]
        )

    async def token_list(self, request: Request) -> Response:
        kind, limit = request.query_params.get("kind"), limit_of(request)
        records = await self._services.reports.list_tokens(
            self._services.tenant,
            kind=one_of(TokenKind, kind, "kind of token") if kind else None,
            current_only=request.query_params.get("all") is None,
            limit=limit + 1,
            after=request.query_params.get("after"),
        )
        now = self._services.clock.now()
        told = records[:limit]
        after = told[-1].id if len(records) > limit else None
        return _page([lines.token_line(record, now) for record in told], after)

    async def token_history(self, request: Request) -> Response:
        holder = parameter(request, "id")
        reports, tenant = self._services.reports, self._services.tenant
        meant = (await find_ids(reports, tenant, [holder]))[holder]
        if isinstance(meant, Conflicting):
            raise meant
        # Tokens have holders that are no enrollments too.
        known = holder if isinstance(meant, OstiaryError) else meant
        records = await reports.token_history(tenant, Holder(known))
        if not records:
            raise EnrollmentUnknown("no token of this holder is known", holder=holder)
        now = self._services.clock.now()
        return _page([lines.token_line(record, now) for record in records], None)

    async def dead_pushes(self, request: Request) -> Response:
        limit = limit_of(request)
        rows = await self._services.reports.list_push_dead(
            self._services.tenant, limit=limit + 1, after=request.query_params.get("after")
        )
        told = rows[:limit]
        after = told[-1].key if len(rows) > limit else None
        return _page([lines.dead_push_line(row) for row in told], after)

    async def invite(self, request: Request) -> Response:
        ask = await read_ask(request, self._services.budget)
        key = optional_text(ask, "enrollment_key")
        invitation, code = await self._services.invitations.invite(
            self._services.tenant,
            Bound(
                serial_number=optional_text(ask, "serial"),
                user=optional_text(ask, "user"),
                enrollment_key=EnrollmentKey(key) if key else None,
            ),
            valid_for=timedelta(seconds=number(ask, "valid_seconds")),
            uses=number(ask, "uses"),
            actor=actor_of(request),
        )
        said = code.reveal().decode()
        return JSONResponse(
            {
                "url": self._services.enroll_url(said),
                "code": said,
                "valid_until": lines.moment(invitation.valid_until),
                "uses": invitation.uses_left,
                "can_enroll": await self._can_enroll(),
            }
        )

    async def policy_list(self, _request: Request) -> Response:
        await self._services.policies.refresh()
        values = policy_values(self._services.policies.current())
        told = [
            {"name": name, "value": value, "choices": CHOICES[name], "means": MEANINGS[name]}
            for name, value in values.items()
        ]
        return _page(told, None)

    async def policy_set(self, request: Request) -> Response:
        ask = await read_ask(request, self._services.budget)
        name, value = text(ask, "name"), text(ask, "value")
        if name == RENEWAL_CANARIES:
            value = await canaries_known(self._services.reports, self._services.tenant, value)
        policy = await self._services.policies.change(name, value, actor=actor_of(request))
        return JSONResponse({"name": name, "value": policy_values(policy)[name]})

    async def retention_outlook(self, _request: Request) -> Response:
        await self._services.policies.refresh()
        values = policy_values(self._services.policies.current())
        told = await self._services.retention.look_ahead()
        return _page([lines.outlook_line(outlook, values) for outlook in told], None)

    async def retention_sweep(self, request: Request) -> Response:
        """One round; whoever wants all asks until it is done."""
        asked = await read_ask(request, self._services.budget)
        await self._services.policies.refresh()
        done = await self._services.retention.sweep_by_hand(anew=bool(asked.get("anew")))
        return JSONResponse({"dropped": dict(done.dropped), "is_done": done.is_done})

    async def push_certificates(self, _request: Request) -> Response:
        topics = await self._services.certificates.show_all(self._services.tenant)
        return _page([lines.push_topic_line(topic) for topic in topics], None)

    async def import_push_certificate(self, request: Request) -> Response:
        ask = await read_ask(request, self._services.budget)
        key = optional_text(ask, "key_pem")
        imported = await self._services.certificates.import_certificate(
            text(ask, "pem").encode(),
            tenant=self._services.tenant,
            key_pem=Secret(key.encode()) if key else None,
            confirm_new_topic=bool(ask.get("confirm_new_topic")),
            actor=actor_of(request),
        )
        return JSONResponse(
            {
                "topic": imported.topic,
                "not_after": lines.moment(imported.not_after),
                "replaced": imported.replaced,
            }
        )

    async def request_push_certificate(self, request: Request) -> Response:
        ask = await read_ask(request, self._services.budget)
        made = await self._services.certificates.make_request(
            self._services.tenant, name=text(ask, "name"), actor=actor_of(request)
        )
        return JSONResponse({"pem": made.pem.decode()})

    async def resume_topic(self, request: Request) -> Response:
        ask = await read_ask(request, self._services.budget)
        topic = Topic(text(ask, "topic"))
        await self._services.certificates.resume(
            self._services.tenant, topic, actor=actor_of(request)
        )
        return JSONResponse({"topic": topic})

    async def create_api_token(self, request: Request) -> Response:
        ask = await read_ask(request, self._services.budget)
        seconds, name = ask.get("valid_seconds"), text(ask, "name")
        if not ask.get("replace") and await self._is_in_force(name):
            raise ApiTokenNameTaken(name=name)
        token = await self._services.tokens.create(
            name,
            texts(ask, "scopes"),
            actor=actor_of(request),
            valid_for=timedelta(seconds=number(ask, "valid_seconds")) if seconds else None,
        )
        return JSONResponse({"token": token.reveal().decode()})

    async def _is_in_force(self, name: str) -> bool:
        """Whether programs may sign in with an API token of this name now."""
        now = self._services.clock.now()
        history = await self._services.reports.token_history(self._services.tenant, Holder(name))
        return any(
            record.kind is TokenKind.API_TOKEN
            and record.holder == name
            and record.state is TokenState.OK
            and (record.expires_at is None or now < record.expires_at)
            for record in history
        )

    async def _can_enroll(self) -> bool:
        """Whether there is a push topic to write into an enrollment profile."""
        now = self._services.clock.now()
        topics = await self._services.certificates.show_all(self._services.tenant)
        return any(topic.paused_since is None and now < topic.not_after for topic in topics)

    def _caller(self, request: Request) -> Caller:
        return Caller(
            name=actor_of(request),
            tenant=self._services.tenant,
            scopes=frozenset({Scope.ADMIN}),
        )


def _page(items: list[lines.Line], after: str | None, *, more: bool = False) -> Response:
    """Lines, where the next page begins, and whether there is more that only a larger limit shows."""
    return JSONResponse({"items": items, "after": after, "more": more or after is not None})


def _fingerprint(written: str) -> Fingerprint:
    """As people and tools write it: 64 hexadecimal digits, in any case, with or without colons."""
    digits = written.lower().replace(":", "")
    if re.fullmatch("[0-9a-f]{64}", digits) is None:
        raise FingerprintUnusable
    return Fingerprint(digits)


def _is_current(state: str) -> bool:
    return state in {"ok", "candidate", "suspect"}
