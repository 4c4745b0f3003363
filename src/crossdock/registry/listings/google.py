"""The list of tags of Artifact Registry and Container Registry, which describes the manifests as well (L5).

``/v2/NAME/tags/list`` has members that the specification does not know: ``manifest``, from digest to tags,
media type, size and times, and ``child``, the names below this one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from crossdock.content import ManifestRow
from crossdock.errors import ProtocolError
from crossdock.protocol import endpoints
from crossdock.registry.listings.api import Api, Asked
from crossdock.registry.listings.rows import digest_of, moment_of, number_of, page_of_rows, tags_of, text_of
from crossdock.registry.pages import Page, Query, document_of, pages

if TYPE_CHECKING:
    from crossdock.registry.client import Reply

_MILLISECOND = 0.001


def walk(asked: Asked) -> AsyncGenerator[Page, None]:
    """As `Api.walk`. No number of entries is requested: it gives all at once. # network"""
    return pages(asked, Query(endpoints.tags(asked.path)), read)


def read(reply: Reply) -> Page:
    """The rows of one response. Raises `ProtocolError` when it describes no manifests."""
    document = document_of(reply)
    manifests = document.get("manifest")
    if not isinstance(manifests, dict):
        raise ProtocolError(f"GET {reply.url}: the list of tags describes no manifests")
    page = page_of_rows([(digest, entry) for digest, entry in manifests.items()], _row)
    page.names = list(tags_of(document.get("tags"))) or page.names
    return page


def _row(described: tuple[str, Any]) -> ManifestRow | None:
    digest, entry = digest_of(described[0]), described[1]
    if digest is None or not isinstance(entry, dict):
        return None
    return ManifestRow(
        digest,
        tags_of(entry.get("tag")),
        text_of(entry.get("mediaType")),
        number_of(entry.get("imageSizeBytes")) or None,
        moment_of(entry.get("timeUploadedMs"), _MILLISECOND),  # text at gcr.io, a number elsewhere
    )


API = Api(name="Google's", walk=walk, comes_with_names=True)
