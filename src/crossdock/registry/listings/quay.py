"""Quay's list of tags, ``/api/v1/repository/NAMESPACE/NAME/tag/`` (L4).

It takes an OAuth token, which is the password of the user ``$oauthtoken``, and shows public repositories to
anybody. Robot accounts cannot use it. It knows when a tag came to mean its manifest, and no manifests
without a tag.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlencode

from crossdock.content import ManifestRow
from crossdock.oci.reference import is_tag
from crossdock.registry.listings.api import Api, Asked
from crossdock.registry.listings.rows import digest_of, moment_of, number_of, page_of_rows
from crossdock.registry.pages import Page, Query, document_of, list_in, pages

if TYPE_CHECKING:
    from crossdock.registry.client import Reply

PAGE = 100  # the most that Quay gives
OAUTH_USER = "$oauthtoken"


async def walk(asked: Asked) -> AsyncGenerator[Page, None]:
    """As `Api.walk`. # network"""
    await log_in(asked)
    more = (("onlyActiveTags", "true"), ("limit", str(PAGE)), ("page", "1"))
    query = Query(f"/api/v1/repository/{quote(asked.path, safe='/')}/tag/", more=more)
    async for page in pages(asked, query, read):
        yield page


async def log_in(asked: Asked) -> None:
    """Let its requests carry the OAuth token, if there is one that this host is shown anyway. # network"""
    login = await asked.client.auth.login_seen_here(asked.path)
    token = ""
    if login is not None:
        token = login.registry_token or (login.password if login.username == OAUTH_USER else "")
    asked.authorization = f"Bearer {token}" if token else ""


def read(reply: Reply) -> Page:
    """The rows of one response. Raises `ProtocolError` when it has no list of tags."""
    document = document_of(reply)
    page = page_of_rows(list_in(reply, "tags"), _row)
    page.names = [tag for row in page.entries for tag in row.tags]  # several may be of one manifest
    if document.get("has_additional") is True:
        path, _, query = reply.url.target.partition("?")
        fields = {name: values[-1] for name, values in parse_qs(query).items()}
        page.following = f"{path}?{urlencode({**fields, 'page': (number_of(fields.get('page')) or 1) + 1})}"
    return page


def _row(entry: Any) -> ManifestRow | None:
    if not isinstance(entry, dict):
        return None
    name, digest = entry.get("name"), digest_of(entry.get("manifest_digest"))
    if digest is None or not (isinstance(name, str) and is_tag(name)):
        return None
    return ManifestRow(
        digest,
        (name,),
        "",  # it says only whether it is an index, not of which kind
        number_of(entry.get("size")),
        moment_of(entry.get("start_ts")),
    )


def _knows(body: bytes) -> bool:
    return b'"error_type"' in body


API = Api(name="Quay's", walk=walk, knows=_knows, shows_untagged=False)
