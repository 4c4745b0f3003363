"""Lists: tags (end-8), referrers (end-12) and the catalog of Docker's registry API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiohttp import web

from crossdock.embedded.acr.locks import listed_tags
from crossdock.embedded.repositories import Repository, parse_digest
from crossdock.embedded.responses import json_response, page_size
from crossdock.oci import mediatype
from crossdock.oci.digest import Digest
from crossdock.protocol.pagination import next_link
from crossdock.store.indexfile import Entry
from crossdock.tasks import in_thread

if TYPE_CHECKING:
    from crossdock.embedded.app import Registry
    from crossdock.embedded.routes import Route

REFERRERS_PAGE = 2 << 20  # bytes; clients read no more than 4 MiB of an index
MAX_PAGE = 1000  # entries of one page if `n` is larger, as in distribution; all of them without `n`


async def tags(registry: Registry, request: web.Request, route: Route) -> web.Response:
    """The tags of a repository, a page at a time when `n` is given."""
    repository = await in_thread(registry.repositories.existing, route.name)
    page, headers = _page(request, await in_thread(lambda: listed_tags(repository, repository.tags())))
    return json_response({"name": route.name, "tags": page}, headers=headers)


async def catalog(registry: Registry, request: web.Request, route: Route) -> web.Response:
    """The repositories, a page at a time when `n` is given."""
    page, headers = _page(request, await in_thread(registry.repositories.names))
    return json_response({"repositories": page}, headers=headers)


async def referrers(registry: Registry, request: web.Request, route: Route) -> web.Response:
    """An index of the manifests whose subject is the digest of `route`.

    An unknown repository gets an empty list: a registry "MUST NOT return a 404" here (distribution-spec).
    """
    digest = parse_digest(route.argument)
    wanted, last = request.query.get("artifactType", ""), request.query.get("last", "")
    repository = registry.repositories.at(route.name)
    found, has_more = await in_thread(_referrers, repository, digest, wanted, last)
    headers = {}
    if wanted:
        headers["OCI-Filters-Applied"] = "artifactType"
    if has_more:
        query = {"last": found[-1]["digest"]} | ({"artifactType": wanted} if wanted else {})
        headers["Link"] = next_link(request.path, query)
    document = {"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX, "manifests": found}
    return json_response(document, headers=headers, content_type=mediatype.OCI_INDEX)


def _referrers(
    repository: Repository, digest: Digest, artifact_type: str, after: str
) -> tuple[list[Entry], bool]:
    if not repository.index.exists():
        return [], False
    return repository.referrers(digest, artifact_type=artifact_type, after=after, room=REFERRERS_PAGE)


def _page(request: web.Request, everything: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The page that `n` and `last` request, and a Link to the next one if there is more."""
    last = request.query.get("last", "")
    rest = [each for each in everything if each > last]
    if "n" not in request.query:
        return rest, {}
    page = rest[: page_size(request.query["n"], 0, MAX_PAGE)]
    if not page or len(page) == len(rest):
        return page, {}
    return page, {"Link": next_link(request.path, {"last": page[-1], "n": request.query["n"]})}
