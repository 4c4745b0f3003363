"""The status page at ``/``: open and recently ended imports, or one of them. Its script reloads it."""

from __future__ import annotations

import hmac
from functools import cache
from importlib.resources import files
from urllib.parse import parse_qs

from crossdock.service.problems import refuse
from crossdock.service.values import ENDED, Operation
from crossdock.service.web.imports import cancel, find_import, read_body
from crossdock.service.web.pageaccess import button_token, opens_link, set_cookie
from crossdock.service.web.pagehtml import Look, render_import, render_page
from crossdock.service.web.service import Call, Reply, Service
from crossdock.webpage import HEADERS, STYLE_TYPE, style_sheet


async def page(service: Service, call: Call) -> Reply:
    """The page, with the imports that the caller may see; with ``import=ID`` that one."""
    if opens_link(service, call.request):
        return Reply(status=303, headers={"Location": "./", "Set-Cookie": set_cookie(service), **HEADERS})
    principal = call.principal

    def token(operation: Operation) -> str:
        may = operation.state not in ENDED and service.may_cancel(principal, operation)
        return button_token(service, principal, operation) if may else ""

    look = Look(
        who="" if service.identity.is_open else principal.name or principal.id,
        is_open=service.identity.is_open,
        is_stopping=service.is_stopping,
        names=service.ends.names,
        waits_for=service.imports.waits_for,
        token=token,
        text=call.query.get("q", "").strip()[:200],
        state=call.query.get("state", ""),
    )
    wanted = call.query.get("import")
    if wanted is None:
        return Reply(render_page(service.seen_by(principal), look).encode(), headers=HEADERS)
    found = service.imports.find(wanted)
    if found is not None and not service.may_see(principal, found):
        found = None
    return Reply(render_import(found, look).encode(), 200 if found else 404, headers=HEADERS)


async def cancel_by_button(service: Service, call: Call) -> Reply:
    """Cancel an import, and show the page again."""
    try:
        form = parse_qs((await read_body(call.request)).decode(), max_num_fields=8)
    except ValueError:  # too many fields, or not UTF-8
        form = {}
    operation, target = find_import(service, call)
    given = form.get("token", [""])[0].encode("utf-8", "surrogatepass")
    if not hmac.compare_digest(button_token(service, call.principal, operation).encode(), given):
        refuse(403, "StalePage", "This button belongs to an older page: load the page again.")
    await cancel(service, call, operation, target)
    return Reply(status=303, headers={"Location": f"../../?import={operation.id}"})


async def style(service: Service, call: Call) -> Reply:
    """The page's style sheet."""
    return Reply(style_sheet(), headers={"Content-Type": STYLE_TYPE})


async def script(service: Service, call: Call) -> Reply:
    """The page's script."""
    return Reply(_script(), headers={"Content-Type": "text/javascript; charset=utf-8"})


@cache
def _script() -> bytes:
    return (files("crossdock.service.web") / "page.js").read_bytes()
