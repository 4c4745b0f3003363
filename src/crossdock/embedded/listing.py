"""Lists: tags (end-8), referrers (end-12) and the catalog that Docker's registry API has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from aiohttp import web

from crossdock.embedded.acr.locks import listed_tags
from crossdock.embedded.answers import Refused, json_answer
from crossdock.embedded.repositories import Repository, parse_digest
from crossdock.oci import mediatype
from crossdock.oci.digest import Digest
from crossdock.store.files import in_thread
from crossdock.store.indexfile import Entry

if TYPE_CHECKING:
    from crossdock.embedded.app import Registry

REFERRERS_PAGE = 2 << 20  # bytes; clients read no more than 4 MiB of an index
MAX_PAGE = 1000  # entries of one answer when `n` asks for more, as in distribution; all of them without `n`


async def tags(registry: Registry, request: web.Request, name: str) -> web.Response:
    """The tags of a repository, a page at a time when `n` is given."""
    repository = await in_thread(registry.repositories.existing, name)
    page, headers = _page(request, await in_thread(lambda: listed_tags(repository, repository.tags())))
    return json_answer({"name": name, "tags": page}, headers=headers)


async def catalog(registry: Registry, request: web.Request) -> web.Response:
    """The repositories, a page at a time when `n` is given."""
    page, headers = _page(request, await in_thread(registry.repositories.names))
    return json_answer({"repositories": page}, headers=headers)


async def referrers(registry: Registry, request: web.Request, name: str, reference: str) -> web.Response:
    """An index of the manifests whose subject is `reference`.

    An unknown repository has none: a registry with this API "MUST NOT return a 404" (distribution-spec).
    """
    digest = parse_digest(reference)
    wanted, last = request.query.get("artifactType", ""), request.query.get("last", "")
    found, has_more = await in_thread(_referrers, registry.repositories.at(name), digest, wanted, last)
    headers = {}
    if wanted:
        headers["OCI-Filters-Applied"] = "artifactType"
    if has_more:
        query = urlencode({"last": found[-1]["digest"]} | ({"artifactType": wanted} if wanted else {}))
        headers["Link"] = f'<{request.path}?{query}>; rel="next"'
    document = {"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX, "manifests": found}
    return json_answer(document, headers=headers, content_type=mediatype.OCI_INDEX)


def _referrers(
    repository: Repository, digest: Digest, artifact_type: str, after: str
) -> tuple[list[Entry], bool]:
    if not repository.index.exists():
        return [], False
    return repository.referrers(digest, artifact_type=artifact_type, after=after, room=REFERRERS_PAGE)


def _page(request: web.Request, everything: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The part that `n` and `last` ask for, and a Link to the next one if there is more."""
    last = request.query.get("last", "")
    rest = [each for each in everything if each > last]
    if "n" not in request.query:
        return rest, {}
    given = request.query["n"]
    if not (given.isascii() and given.isdigit() and len(given) < 10):
        raise Refused("PAGINATION_NUMBER_INVALID", "n must be a number from 0", detail={"n": given})
    page = rest[: min(int(given), MAX_PAGE)]
    if not page or len(page) == len(rest):
        return page, {}
    query = urlencode({"last": page[-1], "n": given})
    return page, {"Link": f'<{request.path}?{query}>; rel="next"'}
