"""`/enroll`: a code becomes an enrollment profile; without one, a small page asks for it."""

import base64
import hashlib
import html
from collections.abc import Awaitable, Callable
from string import Template
from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from ostiary.errors import Malformed, OstiaryError
from ostiary.protocol.mdm.enrollment_profile import CONTENT_TYPE
from ostiary.secret import Secret
from ostiary.web.body import BodyBudget, read_body
from ostiary.web.problems import Door, as_told_outside, log_problem, status_of

PATH: Final = "/enroll"
_LARGEST_FORM: Final = 4 * 1024

ProfileFor = Callable[[Secret], Awaitable[bytes]]
"""services.enrollment.EnrollmentService.profile_for."""


class UnusableForm(Malformed):
    """The form that was sent is not the one on our page."""


_STYLE: Final = (
    "body{font:1.1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:12vh auto;padding:0 1.5rem;"
    "color:#1d1d1f;background:#fbfbfd}h1{font-size:1.6rem}label{display:block;margin:1.5rem 0 .4rem}"
    "input,button{font:inherit;padding:.6rem .8rem;border-radius:.5rem;border:1px solid #86868b}"
    "input{width:100%;box-sizing:border-box;letter-spacing:.06em}button{margin-top:1rem;border:0;"
    "background:#0059b3;color:#fff}.said{border-left:.3rem solid #b3261e;padding:.2rem 1rem}"
    "@media(prefers-color-scheme:dark){body{color:#f5f5f7;background:#161617}"
    "input{color:inherit;background:#2a2a2d}}"
)
_STYLE_DIGEST: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

_PAGE: Final = Template(
    "<!doctype html>\n"
    '<html lang="en"><head><meta charset="utf-8"><title>Enroll this device</title>\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f"<style>{_STYLE}</style></head>\n"
    "<body><main><h1>Enroll this device</h1>\n"
    "$said"
    "<p>With this step, your organization begins to manage this device. You need the code from your invitation.</p>\n"
    '<form method="post" action="/enroll">\n'
    '<label for="code">Invitation code</label>\n'
    '<input id="code" name="code" autocomplete="off" autocapitalize="characters" spellcheck="false" required '
    'maxlength="64" placeholder="XXXX-XXXX-XXXX-XXXX-XXXX">\n'
    '<button type="submit">Download the profile</button></form>\n'
    "<p>Then open Settings (on a Mac: System Settings, General, Device Management) and install the downloaded profile."
    "</p></main></body></html>\n"
)
_SAID: Final = Template(
    '<div class="said" role="alert"><p><strong>$title</strong></p><p>$hint</p></div>\n'
)

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the address may hold the code
}
_PAGE_HEADERS: Final = {
    **_HEADERS,
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
}
_FILE_HEADERS: Final = {
    **_HEADERS,
    "Content-Disposition": 'attachment; filename="ostiary.mobileconfig"',
}


def enroll_routes(profile_for: ProfileFor, budget: BodyBudget) -> list[Route]:
    """The addresses where people enroll. HEAD, as previews send it, creates nothing.

    A browser is told what went wrong on a page; everything else by the front door, in plain text.
    """

    async def enroll(request: Request) -> Response:
        if request.method == "POST":
            return await answer(request, await _code_in_form(request, budget))
        typed = request.path_params.get("code") or request.query_params.get("code") or ""
        if not typed or request.method == "HEAD":
            return _page("")
        return await answer(request, _secret(typed))

    async def answer(request: Request, code: Secret) -> Response:
        try:
            profile = await profile_for(code)
        except OstiaryError as error:
            if "text/html" not in request.headers.get("accept", ""):
                raise
            log_problem(error)
            told = as_told_outside(error)
            said = _SAID.substitute(title=html.escape(told.title), hint=html.escape(told.hint))
            return _page(said, status_of(error, Door.ENROLLMENT))
        return Response(profile, headers=_FILE_HEADERS, media_type=CONTENT_TYPE)

    return [
        Route(PATH, enroll, methods=["GET", "POST"]),
        Route(PATH + "/{code}", enroll, methods=["GET"]),
    ]


def _page(said: str, status: int = 200) -> Response:
    return HTMLResponse(_PAGE.substitute(said=said), status, headers=_PAGE_HEADERS)


async def _code_in_form(request: Request, budget: BodyBudget) -> Secret:
    body = await read_body(request, limit=_LARGEST_FORM, budget=budget)
    try:
        fields = parse_qs(body.decode("ascii"), max_num_fields=4, strict_parsing=True)
    except ValueError:
        raise UnusableForm from None
    return _secret(fields.get("code", [""])[0])


def _secret(typed: str) -> Secret:
    return Secret(typed.encode("utf-8", "replace"))
