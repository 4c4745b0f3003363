"""The status page's HTML. Everything that comes from clients is escaped."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from html import escape
from urllib.parse import urlencode

from msgspec import Struct

from crossdock import __version__
from crossdock.acr.names import default_target
from crossdock.service.values import ENDED, Operation, State
from crossdock.service.web.importdocument import seconds_of, timestamp
from crossdock.units import format_duration, format_size
from crossdock.webpage import document

SHOWN = 50  # ended imports
SHOWN_TARGETS = 5  # per import
SHOWN_REGISTRIES = 20
WAITING = 200  # open imports
REFRESH_S = 5  # without scripts

_WORDS: dict[State, str] = {
    "Running": "running",
    "Accepted": "waiting",
    "Succeeded": "succeeded",
    "Failed": "failed",
    "Canceled": "cancelled",
}
_COLUMNS = ("Running", "Waiting", "Longest wait", "Read from it", "Sent to it", "Failed", "Retries")
_LIMITS = {"cpu": "limited by this machine's CPU", "rate limit": "waits until a registry takes more requests"}


class Look(Struct, kw_only=True):
    """What the page shows, and to whom."""

    who: str = ""
    is_open: bool = True  # everybody is let in
    is_stopping: bool = False
    names: Callable[[Operation], tuple[str, str]]  # source and target registry
    waits_for: Callable[[Operation], str]
    token: Callable[[Operation], str]  # of the button to cancel it; empty: no button
    text: str = ""  # only imports with this text
    state: str = ""  # only imports in this state

    def shows(self, operation: Operation) -> bool:
        """Whether the import passes the filter."""
        if self.state in _WORDS and operation.state != self.state:
            return False
        request, who = operation.order.request, operation.order.principal
        code = operation.problem.code if operation.problem else ""
        texts = (
            *self.names(operation),
            *(operation.order.registry.name, operation.id, who.name, who.id, code),
            *(request.source.source_image, *request.target_tags, *request.untagged_target_repositories),
        )
        return not self.text or any(self.text.lower() in each.lower() for each in texts)


def render_page(operations: Sequence[Operation], look: Look) -> str:
    """The page of `operations`, which are sorted, the newest first."""
    shown = [each for each in operations if look.shows(each)]
    open_ = [each for each in shown if each.state not in ENDED]
    # Running before waiting.
    open_.sort(key=lambda each: (each.state != "Running", each.created))
    ended = sorted((each for each in shown if each.state in ENDED), key=lambda each: -each.ended)
    is_filtered = bool(look.text or look.state in _WORDS)
    none = "No such import." if is_filtered else "Nothing is being imported."
    none_ended = "No such import." if is_filtered else "No import has ended yet."
    return _document(
        look,
        f"{_totals(operations)}"
        f"{_section('Now', open_[:WAITING], none, len(open_) - WAITING, look)}"
        f"{_registries(operations, look)}"
        f"{_section('Ended', ended[:SHOWN], none_ended, len(ended) - SHOWN, look)}",
        _filter(look),
    )


def render_import(operation: Operation | None, look: Look) -> str:
    """The page of one import; None: there is none that the caller may see."""
    back = '<p class="back"><a href="./">all imports</a></p>'
    if operation is None:
        gone = "There is no such import, or it is no longer kept."
        return _document(look, f'{back}<p class="empty">{gone}</p>')
    order, progress = operation.order, operation.progress
    facts = {
        "id": operation.id,
        "registry": str(order.registry),
        "mode": order.request.mode,
        "started by": order.principal.name or order.principal.id,
        "request id": order.request_id,
        "source digest": operation.source_digest,
        "moved": format_size(progress.bytes),
        "at the target": f"{format_size(progress.present)} of {format_size(progress.total)}"
        if progress.total and operation.state in ("Running", "Succeeded")
        else "",
        "retries": str(sum(progress.retries.values())),
    }
    rows = "".join(
        f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items() if value
    )
    manifests = "".join(
        f"<li><code>{escape(name)}</code> {escape(state.lower())}</li>"
        for name, state in progress.manifests.items()
    )
    listed = f'<h2>Manifests</h2><ul class="manifests">{manifests}</ul>' if manifests else ""
    table = _section("Import", [operation], "", 0, look, is_whole=True)
    return _document(look, f'{back}{table}<dl class="facts">{rows}</dl>{listed}')


def _document(look: Look, content: str, before: str = "") -> str:
    notice = '<p class="notice" role="status">The service is stopping.</p>' if look.is_stopping else ""
    own = '<a href="imports">imports as JSON</a> <a href="metrics">metrics</a> ' if look.is_open else ""
    return document(
        "crossdock imports",
        f'{before}<main id="imports">{notice}{content}</main>',
        aside=f"signed in as {look.who}" if look.who else "",
        footer=f'{own}<a href="openapi.json">OpenAPI</a> <span>version {escape(__version__)}</span>',
        head=f'<noscript><meta http-equiv="refresh" content="{REFRESH_S}"></noscript>'
        '<script src="page.js" defer></script>',
    )


def _filter(look: Look) -> str:
    chosen = "".join(
        f'<option value="{state}"{" selected" if state == look.state else ""}>{words}</option>'
        for state, words in _WORDS.items()
    )
    return (
        '<form class="filter" id="filter" method="get" action="./" role="search">'
        f'<input type="search" name="q" value="{escape(look.text)}" maxlength="200" '
        'placeholder="image, registry, caller or error" aria-label="Filter by text">'
        f'<select name="state" aria-label="Filter by state"><option value="">all states</option>{chosen}'
        '</select><button>Filter</button> <a href="./">all</a></form>'
    )


def _totals(operations: Sequence[Operation]) -> str:
    states: Counter[str] = Counter(each.state for each in operations)
    counts = "".join(
        f'<li class="{state.lower()}"><a href="?{urlencode({"state": state})}"><b>{states[state]}</b> {words}'
        "</a></li>"
        for state, words in _WORDS.items()
    )
    rate = sum(each.progress.rate for each in operations)
    moved = sum(each.progress.bytes for each in operations)
    oldest = _longest_wait(operations)
    return (
        f'<ul class="counts" aria-label="Imports by state">{counts}</ul>'
        f'<ul class="counts" aria-label="Totals"><li><b>{format_size(rate)}/s</b> now</li>'
        f"<li><b>{format_size(moved)}</b> moved</li>"
        f"<li><b>{oldest or 'none'}</b> longest wait now</li></ul>"
    )


def _longest_wait(operations: Iterable[Operation]) -> str:
    waiting = [each.created for each in operations if each.state == "Accepted"]
    return format_duration(max(time.time() - min(waiting), 0)) if waiting else ""


def _registries(operations: Sequence[Operation], look: Look) -> str:
    """A row for each registry; an import counts at both of its ends."""
    by_name: dict[str, tuple[list[Operation], list[Operation]]] = {}
    for each in operations:
        for side, name in enumerate(look.names(each)):
            by_name.setdefault(name, ([], []))[side].append(each)
    if not by_name:
        return ""

    def busy(item: tuple[str, tuple[list[Operation], list[Operation]]]) -> tuple[int, int, str]:
        every = [*item[1][0], *item[1][1]]
        return -sum(each.state not in ENDED for each in every), -len(every), item[0]

    ordered = sorted(by_name.items(), key=busy)
    rows = "".join(_registry(name, *ends) for name, ends in ordered[:SHOWN_REGISTRIES])
    more = len(ordered) - SHOWN_REGISTRIES
    heads = "".join(f'<th scope="col">{each}</th>' for each in ("Registry", *_COLUMNS))
    return (
        '<section aria-labelledby="registries"><h2 id="registries">Registries</h2>'
        f'<table class="registries"><thead><tr>{heads}'
        f"</tr></thead><tbody>{rows}</tbody></table>{_more(more)}</section>"
    )


def _registry(name: str, sources: list[Operation], targets: list[Operation]) -> str:
    every = {each.id: each for each in (*sources, *targets)}.values()
    states: Counter[str] = Counter(each.state for each in every)
    retries = sum(each.progress.retries.get("source", 0) for each in sources)
    retries += sum(each.progress.retries.get("target", 0) for each in targets)
    cells = (
        str(states["Running"]),
        str(states["Accepted"]),
        _longest_wait(every) or "none",
        _moved(sources),
        _moved(targets),
        str(states["Failed"]),
        str(retries),
    )
    return (
        f'<tr><th scope="row"><a href="?{escape(urlencode({"q": name}))}">{escape(name)}</a></th>'
        + "".join(
            f'<td data-label="{label}">{value}</td>' for label, value in zip(_COLUMNS, cells, strict=True)
        )
        + "</tr>"
    )


def _moved(operations: list[Operation]) -> str:
    rate = sum(each.progress.rate for each in operations)
    moved = format_size(sum(each.progress.bytes for each in operations))
    return f"{moved}, {format_size(rate)}/s" if rate else moved


def _more(count: int) -> str:
    return f'<p class="empty">and {count} more</p>' if count > 0 else ""


def _section(
    title: str, operations: Sequence[Operation], empty: str, more: int, look: Look, *, is_whole: bool = False
) -> str:
    name = title.lower()
    head = f'<section aria-labelledby="{name}"><h2 id="{name}">{title}</h2>'
    if not operations:
        return f'{head}<p class="empty">{empty}</p></section>'
    rows = "".join(_row(each, look, is_whole=is_whole) for each in operations)
    return (
        f'{head}<table class="imports"><thead><tr><th scope="col">State</th><th scope="col">From and to</th>'
        f'<th scope="col">Bytes</th><th scope="col">Time (UTC)</th></tr></thead><tbody>{rows}</tbody></table>'
        f"{_more(more)}</section>"
    )


def _row(operation: Operation, look: Look, *, is_whole: bool) -> str:
    state = operation.state
    return (
        f'<tr class="{state.lower()}"><td><span class="state">{state}</span>{_cancel(operation, look)}</td>'
        f'<th scope="row">{_names(operation, look, is_whole)}{_error(operation, is_whole)}</th>'
        f"<td>{_progress(operation, look)}</td><td>{_times(operation)}</td></tr>"
    )


def _cancel(operation: Operation, look: Look) -> str:
    token = look.token(operation)
    if not token:
        return ""
    key = escape(operation.id)
    return (
        f'<details class="cancel" id="c-{key}"><summary id="s-{key}">Cancel</summary>'
        f'<form method="post" action="imports/{key}/cancel">'
        f'<input type="hidden" name="token" value="{token}">'
        f'<p>What it has uploaded is dropped.</p><button id="b-{key}">Cancel this import</button></form>'
        "</details>"
    )


def _names(operation: Operation, look: Look, is_whole: bool) -> str:
    order = operation.order
    request = order.request
    origin = look.names(operation)[0]
    tags = [*request.target_tags, *(f"{each} (no tag)" for each in request.untagged_target_repositories)]
    if not tags:
        tags = [default_target(request.source.source_image)]
    shown = len(tags) if is_whole else SHOWN_TARGETS
    spans = [f"<span>{escape(order.registry.name)}/{escape(each)}</span>" for each in tags[:shown]]
    if len(tags) > shown:
        spans.append(f"<span>and {len(tags) - shown} more</span>")
    source = f"{escape(origin)}/{escape(request.source.source_image)}"
    if not is_whole:
        source = f'<a id="l-{escape(operation.id)}" href="?import={escape(operation.id)}">{source}</a>'
    return f'<span class="source">{source}</span><span class="targets">{"".join(spans)}</span>'


def _error(operation: Operation, is_whole: bool) -> str:
    problem = operation.problem
    if problem is None:
        return ""
    key = escape(operation.id)
    details = "".join(f"<li>{escape(each.message)}</li>" for each in problem.details)
    return (
        f'<details class="error" id="e-{key}"{" open" if is_whole else ""}>'
        f'<summary id="f-{key}">{escape(problem.code)}</summary><p>{escape(problem.message)}</p>'
        f"{f'<ul>{details}</ul>' if details else ''}</details>"
    )


def _progress(operation: Operation, look: Look) -> str:
    progress = operation.progress
    match operation.state:
        case "Accepted":
            return f'<span class="waits">waits for {escape(look.waits_for(operation) or "its turn")}</span>'
        case "Running":
            waits = _waits(operation, look)
            image = escape(operation.order.request.source.source_image)
            label = f'aria-label="Bytes at the target of {image}"'
            if not progress.total:
                return f'<progress {label}></progress><span class="amount">comparing both sides</span>{waits}'
            present = min(progress.present, progress.total)
            rate = f", {format_size(progress.rate)}/s" if progress.rate else ""
            percent = 100 * present // progress.total
            amount = f"{percent}%, {format_size(present)} of {format_size(progress.total)}{rate}"
            return (
                f'<progress {label} max="{progress.total}" value="{present}"></progress>'
                f'<span class="amount">{amount}</span>{waits}{_blob(progress.blob)}'
            )
        case _:
            there = max(progress.present - progress.bytes, 0)
            kept = f'<span class="waits">{format_size(there)} were there</span>' if there else ""
            return f'<span class="amount">{format_size(progress.bytes)} moved</span>{kept}'


def _waits(operation: Operation, look: Look) -> str:
    why = look.waits_for(operation)
    if not why:
        return ""
    source, target = look.names(operation)
    side = {"source": source, "target": target}.get(why, why)
    words = _LIMITS.get(why) or f"{'limited by' if operation.progress.rate else 'waits for'} {side}"
    return f'<span class="waits">{escape(words)}</span>'


def _blob(digest: str) -> str:
    return f'<code title="{escape(digest)}">{escape(digest[:19])}</code>' if digest else ""


def _times(operation: Operation) -> str:
    until = operation.started or operation.ended or time.time()
    facts = [
        ("accepted", _time(operation.created)),
        ("waited", format_duration(max(until - operation.created, 0))),
        ("started", _time(operation.started)),
        ("ended", _time(operation.ended)),
        ("ran", format_duration(seconds_of(operation)) if operation.started else ""),
    ]
    rows = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts if value)
    return f'<dl class="times">{rows}</dl>'


def _time(seconds: float) -> str:
    text = timestamp(seconds)
    return f'<time datetime="{text}">{text[:19].replace("T", " ")}</time>' if text else ""
