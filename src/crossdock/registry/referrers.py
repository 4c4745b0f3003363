"""Manifests that are about another one: signatures, SBOMs, attestations (distribution-spec, "Referrers").

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
import random
import re
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from crossdock.errors import InvalidManifest, NotFound, RegistryError
from crossdock.oci import mediatype
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import Manifest, parse_manifest
from crossdock.protocol import endpoints
from crossdock.registry.tags import pages
from crossdock.transport.redact import redact_url

if TYPE_CHECKING:
    from crossdock.registry.client import RegistryClient, Scope

_NO_API = frozenset({400, 404, 405, 501})  # 400: as crane has met it (8.2)
_TAG_ALGORITHM = 32  # characters
_TAG_ENCODED = 64
_NOT_IN_TAG = re.compile(r"[^A-Za-z0-9_.-]")
WRITES = 6  # tries to get one entry into the list
SETTLE = 3  # times what reading and writing took: how long an entry is given to be overwritten
MAX_SETTLE_S = 5.0


def fallback_tag(subject: Digest) -> str:
    """The tag of the list of `subject`'s referrers: ``sha256-<hex>``, cut and cleaned as the spec says."""
    algorithm, encoded = subject.algorithm[:_TAG_ALGORITHM], subject.encoded[:_TAG_ENCODED]
    return f"{_NOT_IN_TAG.sub('-', algorithm)}-{_NOT_IN_TAG.sub('-', encoded)}"


async def list_referrers(
    client: RegistryClient,
    repository: str,
    digest: Digest,
    scope: Scope,
    artifact_type: str | None = None,
    *,
    may_have_tag: bool = True,
) -> list[Descriptor]:
    """Descriptors of the manifests whose subject is `digest`; by the API, else by the fallback tag. # network

    Filtered here as well, because a registry need not filter (``OCI-Filters-Applied``). No list is an empty
    list. A host without the API is not asked for it again, nor for a fallback tag without `may_have_tag`.
    Raises `RegistryError`, `TransportError`, `InvalidManifest` for a list that is no index.
    """
    if client.memory.has_referrers is not False:
        found = await referrers_by_api(client, repository, digest, scope, artifact_type)
        client.memory.has_referrers = client.memory.has_referrers or found is not None
        if found is not None:
            return found
    return await _by_tag(client, repository, digest, scope, artifact_type) if may_have_tag else []


async def referrers_by_api(
    client: RegistryClient, repository: str, digest: Digest, scope: Scope, artifact_type: str | None = None
) -> list[Descriptor] | None:
    """As `list_referrers`, by the API alone; None: the registry has none. # network"""
    found: dict[Digest, Descriptor] = {}
    target = endpoints.referrers(repository, digest, artifact_type)
    try:
        async for reply in pages(client, target, scope, headers={"Accept": mediatype.OCI_INDEX}):
            if not found and mediatype.bare(reply.headers.get("Content-Type")) != mediatype.OCI_INDEX:
                return None  # a web page's 200
            for entry in parse_manifest(reply.body, mediatype.OCI_INDEX).manifests:
                found[entry.digest] = entry
    except RegistryError as error:
        if error.status not in _NO_API or found:
            raise
        return None
    return _filtered(found.values(), artifact_type)


class FallbackLists:
    """Keeps the referrers lists of one repository in their tags, for a registry without the API."""

    def __init__(self, client: RegistryClient, repository: str, scope: Scope) -> None:
        self._client = client
        self._repository = repository
        self._scope = scope
        self._locks: dict[str, asyncio.Lock] = {}

    async def add(self, manifest: Manifest, descriptor: Descriptor) -> None:
        """Put `manifest`, pushed as `descriptor`, into its subject's list, and see it there. # network

        Raises `RegistryError` when the tag holds something else than an index or the entry does not stay,
        and what requests raise.
        """
        assert manifest.subject is not None
        tag = fallback_tag(manifest.subject.digest)
        entry = _entry(manifest, descriptor)
        async with self._locks.setdefault(tag, asyncio.Lock()):
            took_s = 0.0  # from the reading of the list to the end of its writing
            for attempt in range(WRITES + 1):
                if attempt > 1:  # another writer won: let it finish
                    await asyncio.sleep(self._client.network.backoff_s(attempt, random.random()))
                started = time.monotonic()
                current = await self._read(tag)
                if attempt and descriptor.digest in current.digests():
                    # Who read the list before our write and is as slow as we are has written by then.
                    await asyncio.sleep(min(SETTLE * took_s, MAX_SETTLE_S))
                    current = await self._read(tag)
                if descriptor.digest in current.digests():
                    return
                if attempt < WRITES:
                    await self._write(tag, current, entry)
                    took_s = time.monotonic() - started
        raise RegistryError(
            f"the entry of {descriptor.digest} does not stay in the referrers list {self._repository}:{tag}",
            hint="another client keeps writing this tag: copy again when it is done",
        )

    async def _read(self, tag: str) -> _List:
        """The list as it is now. Every type is accepted, or a tag of another use would look free."""
        path = endpoints.manifest(self._repository, tag)
        headers = {"Accept": ", ".join(mediatype.MANIFEST_ACCEPT)}
        try:
            reply = await self._client.request("GET", path, scope=self._scope, headers=headers)
        except NotFound:
            return _List({"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX, "manifests": []}, "")
        served = mediatype.bare(reply.headers.get("Content-Type"))
        if served != mediatype.OCI_INDEX or not parse_manifest(reply.body, served).is_index:
            raise RegistryError(
                f"the tag {self._repository}:{tag} is for a referrers list and holds {served or 'no index'}",
                hint="remove that tag at the target, or give it another name, and copy again",
            )
        return _List(json.loads(reply.body), reply.headers.get("ETag", ""))

    async def _write(self, tag: str, current: _List, entry: dict[str, Any]) -> None:
        """PUT the list with `entry` at its end, unless it changed since it was read (412: read again)."""
        entries = [*(current.document.get("manifests") or ()), entry]
        body = json.dumps({**current.document, "manifests": entries}, separators=(",", ":")).encode()
        headers = {"Content-Type": mediatype.OCI_INDEX}
        if current.etag and not current.etag.startswith(
            "W/"
        ):  # weak ones never match (RFC 9110 section 13.1.1)
            headers["If-Match"] = current.etag
        path = endpoints.manifest(self._repository, tag)
        await self._client.request(
            "PUT", path, scope=self._scope, headers=headers, body=body, ok=(200, 201, 202, 412)
        )


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


async def _by_tag(
    client: RegistryClient, repository: str, digest: Digest, scope: Scope, artifact_type: str | None
) -> list[Descriptor]:
    path = endpoints.manifest(repository, fallback_tag(digest))
    headers = {"Accept": ", ".join(mediatype.MANIFEST_ACCEPT)}
    try:
        reply = await client.request("GET", path, scope=scope, headers=headers)
    except NotFound:
        return []
    index = parse_manifest(reply.body, reply.headers.get("Content-Type"))
    if not index.is_index:
        raise InvalidManifest(
            f"{redact_url(reply.url)}: the referrers list is no index but {index.media_type}"
        )
    return _filtered(index.manifests, artifact_type)


def _filtered(entries: Iterable[Descriptor], artifact_type: str | None) -> list[Descriptor]:
    return [entry for entry in entries if artifact_type is None or entry.artifact_type == artifact_type]
