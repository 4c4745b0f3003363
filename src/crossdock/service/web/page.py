"""The status page at ``/``: open and recently ended imports. Its script reloads it."""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.resources import files

from crossdock import __version__
from crossdock.acr.names import default_target
from crossdock.service.identity.tokens import Identity
from crossdock.service.problems import Refused
from crossdock.service.values import ENDED, Operation, Principal
from crossdock.service.web.importdocument import seconds_of, timestamp
from crossdock.service.web.service import Call, Reply, Service
from crossdock.units import format_duration, format_size

SHOWN = 50  # ended imports
SHOWN_TARGETS = 5  # per import
WAITING = 200  # open imports
CHALLENGE = 'Basic realm="crossdock: any user, a token as password", charset="UTF-8"'
REFRESH_S = 5  # without scripts

# Only the page's own style and script, from this service.
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


async def authenticate(identity: Identity, authorization: str | None) -> Principal:
    """The caller of the page. A browser can only send a token as the password of ``Basic``.

    The user name is ignored. `Basic` is accepted only here: browsers send it automatically, so it must not
    authorize any action. Raises `Refused`.
    """
    kind, _, rest = (authorization or "").strip().partition(" ")
    if kind.lower() == "basic":
        authorization = f"Bearer {_password(rest)}"
    try:
        return await identity.authenticate(authorization)
    except Refused as refused:
        if refused.problem.status != 401:
            raise
        raise Refused(refused.problem, {"WWW-Authenticate": CHALLENGE}) from None


def _password(encoded: str) -> str:
    try:
        return base64.b64decode(encoded.strip(), validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


async def page(service: Service, call: Call) -> Reply:
    """The page, with the imports that the caller may see."""
    seen = service.seen_by(call.principal)
    who = "" if service.identity.is_open else call.principal.name or call.principal.id
    html = render_page(seen, who=who, is_stopping=service.is_stopping)
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": POLICY,
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
    return Reply(html.encode(), headers=headers)


async def style(service: Service, call: Call) -> Reply:
    """The page's style sheet."""
    return Reply(_asset("page.css"), headers={"Content-Type": "text/css; charset=utf-8"})


async def script(service: Service, call: Call) -> Reply:
    """The page's script."""
    return Reply(_asset("page.js"), headers={"Content-Type": "text/javascript; charset=utf-8"})


@cache
def _asset(name: str) -> bytes:
    return (files("crossdock.service.web") / name).read_bytes()


def render_page(operations: Sequence[Operation], *, who: str = "", is_stopping: bool = False) -> str:
    """The HTML of `operations`, which are sorted, the newest first. Everything from clients is escaped."""
    states: Counter[str] = Counter(each.state for each in operations)
    open_ = [each for each in operations if each.state not in ENDED]
    # Running before waiting.
    open_.sort(key=lambda each: (each.state != "Running", each.created))
    ended = sorted((each for each in operations if each.state in ENDED), key=lambda each: -each.ended)
    counts = "".join(
        f'<li class="{state.lower()}"><b>{states[state]}</b> {label}</li>'
        for state, label in (
            ("Running", "running"),
            ("Accepted", "waiting"),
            ("Succeeded", "succeeded"),
            ("Failed", "failed"),
            ("Canceled", "cancelled"),
        )
    )
    notice = '<p class="notice" role="status">The service is stopping.</p>' if is_stopping else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><title>crossdock imports</title>'
        '<link rel="icon" href="data:,"><link rel="stylesheet" href="page.css">'
        f'<noscript><meta http-equiv="refresh" content="{REFRESH_S}"></noscript>'
        '<script src="page.js" defer></script></head><body>'
        f'<header><h1>crossdock <span>imports</span></h1><p id="live">{_signature(who)}</p></header>'
        f'<main id="imports">{notice}<ul class="counts" aria-label="Imports by state">{counts}</ul>'
        f"{_section('Now', 'Progress', open_[:WAITING], 'Nothing is being imported.', len(open_) - WAITING)}"
        f"{_section('Ended', 'Moved', ended[:SHOWN], 'No import has ended yet.', len(ended) - SHOWN)}"
        '</main><footer><a href="imports">imports as JSON</a> <a href="openapi.json">OpenAPI</a> '
        f'<a href="metrics">metrics</a> <span>version {escape(__version__)}</span></footer></body></html>\n'
    )


def _signature(who: str) -> str:
    return f"signed in as {escape(who)}" if who else ""


def _section(title: str, amounts: str, operations: Sequence[Operation], empty: str, more: int) -> str:
    name = title.lower()
    if not operations:
        words = f'<p class="empty">{empty}</p>'
        return f'<section aria-labelledby="{name}"><h2 id="{name}">{title}</h2>{words}</section>'
    rest = f'<p class="empty">and {more} more</p>' if more > 0 else ""
    rows = "".join(map(_row, operations))
    return (
        f'<section aria-labelledby="{name}"><h2 id="{name}">{title}</h2><div class="scroll" tabindex="0" '
        f'role="region" aria-labelledby="{name}"><table><thead><tr><th scope="col">State</th>'
        f'<th scope="col">From and to</th><th scope="col">{amounts}</th><th scope="col">Time</th>'
        f"</tr></thead><tbody>{rows}</tbody></table></div>{rest}</section>"
    )


def _row(operation: Operation) -> str:
    state = operation.state
    began = timestamp(operation.created) or ""
    seconds = seconds_of(operation) if state != "Accepted" else max(time.time() - operation.created, 0)
    return (
        f'<tr class="{state.lower()}" id="i-{escape(operation.id)}">'
        f'<td><span class="state">{state}</span></td>'
        f'<th scope="row">{_names(operation)}{_error(operation)}</th><td>{_progress(operation)}</td>'
        f'<td class="time"><span>{format_duration(seconds)}</span>'
        f'<time datetime="{began}">{began[:19].replace("T", " ")} UTC</time></td></tr>'
    )


def _names(operation: Operation) -> str:
    order = operation.order
    request = order.request
    origin = request.source.registry_uri or (request.source.resource_id or "").rpartition("/")[2]
    tags = [*request.target_tags, *(f"{each} (no tag)" for each in request.untagged_target_repositories)]
    if not tags:
        tags = [default_target(request.source.source_image)]
    spans = [f"<span>{escape(order.registry.name)}/{escape(each)}</span>" for each in tags[:SHOWN_TARGETS]]
    if len(tags) > SHOWN_TARGETS:
        spans.append(f"<span>and {len(tags) - SHOWN_TARGETS} more</span>")
    targets = "".join(spans)
    return (
        f'<span class="source">{escape(origin)}/{escape(request.source.source_image)}</span>'
        f'<span class="targets">{targets}</span>'
    )


def _error(operation: Operation) -> str:
    problem = operation.problem
    if problem is None:
        return ""
    details = "".join(f"<li>{escape(each.message)}</li>" for each in problem.details)
    return (
        f'<details class="error"><summary>{escape(problem.code)}</summary><p>{escape(problem.message)}</p>'
        f"{f'<ul>{details}</ul>' if details else ''}</details>"
    )


def _progress(operation: Operation) -> str:
    progress = operation.progress
    match operation.state:
        case "Accepted":
            return '<span class="amount">waiting</span>'
        case "Running":
            image = escape(operation.order.request.source.source_image)
            label = f'aria-label="Bytes at the target of {image}"'
            if not progress.total:
                return f'<progress {label}></progress><span class="amount">looking</span>'
            present = min(progress.present, progress.total)
            rate = f", {format_size(progress.rate)}/s" if progress.rate else ""
            percent = 100 * present // progress.total
            amount = f"{percent}%, {format_size(present)} of {format_size(progress.total)}{rate}"
            return (
                f'<progress {label} max="{progress.total}" value="{present}"></progress>'
                f'<span class="amount">{amount}</span>{_blob(progress.blob)}'
            )
        case _:
            return f'<span class="amount">{format_size(progress.bytes)}</span>'


def _blob(digest: str) -> str:
    return f'<code title="{escape(digest)}">{escape(digest[:19])}</code>' if digest else ""
