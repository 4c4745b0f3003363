"""The registry's page, health and metrics. With a users file nothing is shown without a login.

``/`` lists the repositories that the user may pull, ``/?repository=NAME`` the tags and manifests of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from aiohttp import web

from crossdock import __version__
from crossdock.embedded.acr.accounts import CATALOG, granted
from crossdock.embedded.acr.metadata import Listing
from crossdock.embedded.counts import CONTENT_TYPE
from crossdock.embedded.responses import Refused, json_response
from crossdock.oci.digest import Digest
from crossdock.oci.reference import is_repository
from crossdock.protocol.metadata import Entry
from crossdock.tasks import in_thread
from crossdock.units import format_size
from crossdock.webpage import HEADERS, STYLE_TYPE, document, style_sheet

if TYPE_CHECKING:
    from crossdock.embedded.app import Registry
    from crossdock.embedded.routes import Route

SHOWN = 100  # rows of one page
SHOWN_TAGS = 20  # of one manifest


async def health(registry: Registry, request: web.Request, route: Route) -> web.Response:
    """The process responds. Open to everybody."""
    return json_response({"status": "ok"})


async def metrics(registry: Registry, request: web.Request, route: Route) -> web.Response:
    """Metrics for Prometheus, for users who may list the catalog."""
    held = await _held(registry, request)
    if held is not None and not granted(held, CATALOG):
        raise Refused("DENIED", "metrics need the right to list the catalog")
    return web.Response(body=registry.counts.text().encode(), headers={"Content-Type": CONTENT_TYPE})


async def style(registry: Registry, request: web.Request, route: Route) -> web.Response:
    """The page's style sheet."""
    return web.Response(body=style_sheet(), headers={"Content-Type": STYLE_TYPE})


async def page(registry: Registry, request: web.Request, route: Route) -> web.Response:
    """The page. Raises `Refused`."""
    held = await _held(registry, request)
    name, text, after = (request.query.get(key, "") for key in ("repository", "q", "after"))
    if not name:
        names = await in_thread(registry.repositories.names)
        found = [each for each in names if _may_see(held, each) and text.lower() in each.lower()]
        shown, more = _page(found, after)
        at = registry.repositories.at
        counts = await in_thread(lambda: [len(Listing(at(each)).tag_keys(False, None)) for each in shown])
        content = _repositories(dict(zip(shown, counts, strict=True)), len(found), text, more)
    else:
        if not is_repository(name) or not _may_see(held, name):
            raise Refused("NAME_UNKNOWN", "repository name not known to registry")
        repository = await in_thread(registry.repositories.existing, name)
        entries, count, more = await in_thread(lambda: _manifests(Listing(repository), text, after))
        content = _repository(name, entries, count, text, more)
    body = document(
        "crossdock registry",
        content,
        footer=f'<a href="metrics">metrics</a> <span>version {escape(__version__)}</span>',
    )
    return web.Response(body=body.encode(), headers=HEADERS)


async def _held(registry: Registry, request: web.Request) -> tuple[str, ...] | None:
    """The scopes of the user; None: there are no users. Raises `Refused`."""
    return None if registry.access is None else await registry.access.visitor(request)


def _may_see(held: tuple[str, ...] | None, name: str) -> bool:
    if held is None:
        return True
    return any(granted(held, f"repository:{name}:{action}") for action in ("pull", "metadata_read"))


def _page(keys: Sequence[str], after: str) -> tuple[list[str], str]:
    """A page of the sorted `keys` after `after`, and its last key if there are more."""
    rest = [each for each in keys if each > after]
    return rest[:SHOWN], rest[SHOWN - 1] if len(rest) > SHOWN else ""


def _manifests(listing: Listing, text: str, after: str) -> tuple[list[Entry], int, str]:
    """A page of entries, the number of all, and the `after` of the next page. Those with tags are first."""
    tags = listing.tags_of_digests()
    wanted = text.lower()
    keys = sorted(
        (f"{'0' if tags.get(digest) else '1'} {min(tags.get(digest) or ['']):.128} {digest}", digest)
        for digest in (Digest(each) for _, each in listing.manifest_keys(by_time=False))
        if wanted in digest or any(wanted in each.lower() for each in tags.get(digest, ()))
    )
    shown, more = _page([key for key, _ in keys], after)
    digest_of = dict(keys)
    return listing.manifests(digest_of[key] for key in shown), len(keys), more


def _repositories(tags: dict[str, int], count: int, text: str, more: str) -> str:
    rows = "".join(
        f'<tr><th scope="row"><a href="?{escape(urlencode({"repository": name}))}">{escape(name)}</a></th>'
        f'<td data-label="Tags">{number}</td></tr>'
        for name, number in tags.items()
    )
    table = (
        '<table><thead><tr><th scope="col">Repository</th><th scope="col">Tags</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )
    words = "repository" if count == 1 else "repositories"
    return (
        f'{_filter(text, "repository")}<main><ul class="counts"><li><b>{count}</b> {words}</li></ul>'
        "<section><h2>Repositories</h2>"
        f"{table if rows else _nothing(text)}{_next(more, q=text)}</section></main>"
    )


def _repository(name: str, entries: list[Entry], count: int, text: str, more: str) -> str:
    rows = "".join(map(_manifest, entries))
    heads = "".join(
        f'<th scope="col">{each}</th>' for each in ("Tags", "Manifest", "Platform", "Size", "Pushed (UTC)")
    )
    table = f'<table class="content"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'
    words = "manifest" if count == 1 else "manifests"
    return (
        f'{_filter(text, "tag or digest", name)}<main><p class="back"><a href="./">all repositories</a></p>'
        f"<section><h2>{escape(name)}</h2>"
        f'<ul class="counts"><li><b>{count}</b> {words}</li></ul>'
        f"{table if rows else _nothing(text)}{_next(more, q=text, repository=name)}</section></main>"
    )


def _manifest(entry: Entry) -> str:
    tags = list(entry.get("tags") or ())
    named = "".join(f"<span>{escape(tag)}</span>" for tag in tags[:SHOWN_TAGS])
    if len(tags) > SHOWN_TAGS:
        named += f"<span>and {len(tags) - SHOWN_TAGS} more</span>"
    platform = "/".join(filter(None, (entry.get("os"), entry.get("architecture"))))
    kind = str(entry.get("mediaType", "")).removeprefix("application/vnd.")
    size, time = entry.get("imageSize") or 0, str(entry.get("lastUpdateTime", ""))[:19].replace("T", " ")
    return (
        f'<tr><th scope="row" class="tags">{named or "<i>no tag</i>"}</th>'
        f'<td><code>{escape(str(entry["digest"]))}</code><span class="waits">{escape(kind)}</span></td>'
        f'<td data-label="Platform">{escape(platform)}</td><td data-label="Size">{format_size(size)}</td>'
        f'<td data-label="Pushed">{escape(time)}</td></tr>'
    )


def _filter(text: str, what: str, name: str = "") -> str:
    hidden = f'<input type="hidden" name="repository" value="{escape(name)}">' if name else ""
    return (
        f'<form class="filter" method="get" action="./" role="search">{hidden}<input type="search" name="q" '
        f'value="{escape(text)}" maxlength="200" placeholder="{what}" aria-label="Filter by {what}">'
        "<button>Filter</button></form>"
    )


def _nothing(text: str) -> str:
    return f'<p class="empty">{"Nothing with that name." if text else "Nothing was pushed yet."}</p>'


def _next(more: str, **query: str) -> str:
    if not more:
        return ""
    given = {key: value for key, value in query.items() if value} | {"after": more}
    return f'<p class="empty"><a href="?{escape(urlencode(given))}">more</a></p>'
