"""Manifests whose subject is another one: signatures, SBOMs, attestations (distribution-spec, "Referrers").

A registry with the API finds them by ``subject``. For one without, clients keep the list themselves, in an
index under a tag made from the subject's digest (spec, "Referrers Tag Schema"). Nothing locks that tag, so a
writer reads it back until its own entry is there (M3), and once more after a while, because another one may
have read the list before that write and write its own only now. The registry's ``ETag`` closes what is left
of that gap where it is honoured (distribution sends one and ignores ``If-Match``), and one process waits for
itself.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from crossdock.errors import (
    Advice,
    InvalidManifest,
    NotFound,
    ProtocolError,
    ReferrersIncomplete,
    RegistryError,
)
from crossdock.oci import mediatype
from crossdock.oci.attachedtag import fallback_tag
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import Manifest, parse_manifest
from crossdock.protocol import endpoints
from crossdock.reading import read_manifest
from crossdock.registry.pages import LeftOut, Page, Query, document_of, pages

if TYPE_CHECKING:
    from crossdock.registry.client import Reply
    from crossdock.registry.handle import Repository

MOST = 5_000  # of one subject; each takes a request or more to copy
MOST_BYTES = 32 << 20  # of their list
_NO_API = frozenset({400, 404, 405, 501})  # 400: as crane has met it (8.2)
WRITES = 6  # tries to get one entry into the list
SETTLE = 3  # times what reading and writing took: how long an entry is given to be overwritten
MAX_SETTLE_S = 5.0


async def list_referrers(
    repository: Repository,
    digest: Digest,
    artifact_type: str | None = None,
    *,
    may_have_tag: bool = True,
) -> list[Descriptor]:
    """Descriptors of the manifests whose subject is `digest`; by the API, else by the fallback tag. # network

    Filtered here as well, because a registry need not filter (``OCI-Filters-Applied``). No list is an empty
    list. A host without the API gets no more requests for it, nor for a fallback tag without `may_have_tag`.
    Raises `RegistryError`, `TransportError`, `InvalidManifest` for a list that is not an index.
    """
    memory = repository.memory
    if memory.has_referrers is not False:
        found = await referrers_by_api(repository, digest, artifact_type)
        memory.has_referrers = memory.has_referrers or found is not None
        if found is not None:
            return found
    return await _by_tag(repository, digest, artifact_type) if may_have_tag else []


async def referrers_by_api(
    repository: Repository, digest: Digest, artifact_type: str | None = None
) -> list[Descriptor] | None:
    """As `list_referrers`, by the API alone; None: the registry has none. # network

    Raises `ReferrersIncomplete` for a list with entries that are not understood.
    """
    found: dict[Digest, Descriptor] = {}
    left_out = LeftOut()
    has_api = False
    query = Query(
        endpoints.referrers(repository.path, digest),
        more=(("artifactType", artifact_type),) if artifact_type is not None else (),
    )
    headers = (("Accept", mediatype.OCI_INDEX),)
    try:
        async for page in pages(repository, query, _page, headers=headers, most=MOST, most_bytes=MOST_BYTES):
            has_api = True
            found |= {entry.digest: entry for entry in page.entries}
            left_out.add(page.odd)
    except _NoList:
        if has_api:
            raise InvalidManifest(f"a page of the list of referrers of {digest} is not an index") from None
        return None
    except RegistryError as error:
        if error.status not in _NO_API or has_api:
            raise
        return None
    referrers = _filtered(found.values(), artifact_type)
    if left_out.count:
        raise ReferrersIncomplete(left_out.told(f"list of referrers of {digest}"), referrers=tuple(referrers))
    return referrers


class _NoList(Exception):
    """A web page's 200, or another response of a server without the API."""


def _page(reply: Reply) -> Page:
    """The entries of one response, whose body counts and not its type: Harbor 2.9 says ``application/json``
    (goharbor/harbor#19690), others ``text/plain``. Raises `InvalidManifest` for an invalid index.
    """
    is_index = mediatype.bare(reply.headers.get("Content-Type")) == mediatype.OCI_INDEX
    odd: list[Any] = []
    try:
        index = parse_manifest(reply.body, mediatype.OCI_INDEX if is_index else None)
        if not index.is_index:
            raise InvalidManifest(f"the list of referrers is not an index but {index.media_type}")
        entries = list(index.manifests)
    except InvalidManifest:
        listed = _listed(reply)
        if listed is None and is_index:
            raise
        if listed is None:
            raise _NoList from None
        entries, odd = _one_by_one(listed)
    names = [str(entry.digest) for entry in entries]
    return Page(entries, names, len(entries) + len(odd), names[-1] if names else None, odd)


def _listed(reply: Reply) -> list[Any] | None:
    """The entries of an index that has some which are not understood; None: it is not an index."""
    try:
        document = document_of(reply)
    except ProtocolError:
        return None
    listed, stated = document.get("manifests"), document.get("mediaType")
    is_other = "config" in document or "layers" in document or stated not in (None, "", mediatype.OCI_INDEX)
    return listed if isinstance(listed, list) and not is_other else None


def _one_by_one(listed: list[Any]) -> tuple[list[Descriptor], list[Any]]:
    entries, odd = [], []
    for each in listed:
        try:
            entries.append(Descriptor.from_json(each))
        except InvalidManifest:
            odd.append(each)
    return entries, odd


class FallbackLists:
    """Keeps the referrers lists of one repository in their tags, for a registry without the API."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._locks: dict[str, asyncio.Lock] = {}

    async def add(self, manifest: Manifest, descriptor: Descriptor) -> None:
        """Put `manifest`, pushed as `descriptor`, into its subject's list, and see it there. # network

        Raises `RegistryError` when the tag holds something else than an index or the entry does not stay,
        and as requests do.
        """
        assert manifest.subject is not None
        subject = manifest.subject.digest
        tag = fallback_tag(subject)
        entry = _entry(manifest, descriptor)
        async with self._locks.setdefault(tag, asyncio.Lock()):
            took_s = 0.0  # from the reading of the list to the end of its writing
            for attempt in range(WRITES + 1):
                if attempt > 1:  # another writer won: let it finish
                    await asyncio.sleep(self._repository.client.network.backoff_s(attempt))
                started = time.monotonic()
                current = await self._read(tag, subject)
                if attempt and descriptor.digest in current.digests():
                    # Who read the list before our write and is as slow as we are has written by then.
                    await asyncio.sleep(min(SETTLE * took_s, MAX_SETTLE_S))
                    current = await self._read(tag, subject)
                if descriptor.digest in current.digests():
                    return
                if attempt < WRITES:
                    await self._write(tag, current, entry)
                    took_s = time.monotonic() - started
        raise RegistryError(
            f"the entry of {descriptor.digest} does not stay in the referrers list "
            f"{self._repository.path}:{tag}",
            advice=Advice("retry-later", "another client keeps writing this tag: copy again when it is done"),
        )

    async def _read(self, tag: str, subject: Digest) -> _List:
        """The list as it is now. Every type is accepted, or a tag of another use would look free."""
        none = _List({"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX, "manifests": []}, "")
        path = endpoints.manifest(self._repository.path, tag)
        headers = (("Accept", ", ".join(mediatype.MANIFEST_ACCEPT)),)
        try:
            reply = await self._repository.request("GET", path, headers=headers)
        except NotFound:
            return none
        if _is_subject(reply, subject):
            return none
        served = mediatype.bare(reply.headers.get("Content-Type"))
        if served != mediatype.OCI_INDEX or not (await read_manifest(reply.body, served)).is_index:
            raise RegistryError(
                f"the tag {self._repository.path}:{tag} is for a referrers list "
                f"and holds {served or 'no index'}",
                advice=Advice(
                    "remove-tag", "remove that tag at the target, or give it another name, and copy again"
                ),
            )
        return _List(json.loads(reply.body), reply.headers.get("ETag", ""))

    async def _write(self, tag: str, current: _List, entry: dict[str, Any]) -> None:
        """PUT the list with `entry` at its end, unless it changed since it was read (412: read again)."""
        entries = [*(current.document.get("manifests") or ()), entry]
        body = json.dumps({**current.document, "manifests": entries}, separators=(",", ":")).encode()
        headers = [("Content-Type", mediatype.OCI_INDEX)]
        if current.etag and not current.etag.startswith(
            "W/"
        ):  # weak ones never match (RFC 9110 section 13.1.1)
            headers.append(("If-Match", current.etag))
        path = endpoints.manifest(self._repository.path, tag)
        await self._repository.request("PUT", path, headers=headers, body=body, ok=(200, 201, 202, 412))


class _List(Struct, frozen=True):
    document: dict[str, Any]  # an image index, unknown fields included
    etag: str

    def digests(self) -> set[str]:
        return {entry["digest"] for entry in self.document.get("manifests") or ()}


def _entry(manifest: Manifest, descriptor: Descriptor) -> dict[str, Any]:
    """The list's entry (spec, "Pushing Manifests with Subject"): the type falls back to the config's."""
    artifact_type = manifest.artifact_type or (manifest.config.media_type if manifest.config else None)
    return Descriptor(
        media_type=descriptor.media_type,
        digest=descriptor.digest,
        size=descriptor.size,
        annotations=manifest.annotations or None,
        artifact_type=artifact_type or None,
    ).to_json()


async def _by_tag(repository: Repository, digest: Digest, artifact_type: str | None) -> list[Descriptor]:
    path = endpoints.manifest(repository.path, fallback_tag(digest))
    headers = (("Accept", ", ".join(mediatype.MANIFEST_ACCEPT)),)
    try:
        reply = await repository.request("GET", path, headers=headers)
    except NotFound:
        return []
    if _is_subject(reply, digest):
        return []
    index = await read_manifest(reply.body, reply.headers.get("Content-Type"))
    if not index.is_index:
        raise InvalidManifest(f"{reply.url}: the referrers list is not an index but {index.media_type}")
    return _filtered(index.manifests, artifact_type)


def _is_subject(reply: Reply, digest: Digest) -> bool:
    """Whether the response is the subject itself: GitLab takes the tag ``sha256-<hex>`` for the digest
    (oras-project/oras-go#1396), so the children of an index would seem to be its referrers.
    """
    return digest.matches(reply.body)


def _filtered(entries: Iterable[Descriptor], artifact_type: str | None) -> list[Descriptor]:
    return [entry for entry in entries if artifact_type is None or entry.artifact_type == artifact_type]
