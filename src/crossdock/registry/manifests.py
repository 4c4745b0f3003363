"""Manifests of one repository: found by HEAD, fetched by digest, pushed with unchanged bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import TYPE_CHECKING

from msgspec.structs import replace

from crossdock.errors import (
    Advice,
    ContentError,
    CrossdockError,
    DigestMismatch,
    InvalidDigest,
    InvalidManifest,
    LimitExceeded,
    NotFound,
    RegistryError,
    SizeMismatch,
    TransportError,
    Unauthorized,
    Unsupported,
    root_cause,
    was_refused,
)
from crossdock.oci import mediatype
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import Manifest
from crossdock.protocol import endpoints
from crossdock.protocol.contentcoding import coding_of
from crossdock.protocol.errorcode import parse_error
from crossdock.reading import read_manifest
from crossdock.registry.handle import Repository
from crossdock.verify import verify_manifest

if TYPE_CHECKING:
    from crossdock.registry.client import OnRetry, RegistryClient, Reply, Scope
    from crossdock.registry.referrers import FallbackLists

LIMIT = 4 << 20  # bytes of one manifest; registries accept at least this (spec:538)
_ACCEPT = (("Accept", ", ".join(mediatype.MANIFEST_ACCEPT)),)
TAGS_OF_A_PUSH = 10  # registries that take any take so many (distribution-spec, "Pushing Manifests")
BLOBS_MISSING = frozenset({"MANIFEST_BLOB_UNKNOWN", "MANIFEST_INVALID"})  # distribution's code, and zot's
_MAY_PASS = BLOBS_MISSING | {"DIGEST_INVALID"}
_PUSHED = (200, 201, 202, 204)  # 202 is Quay's (3.2)


class Manifests(Repository):
    """The manifests of one repository."""

    def __init__(
        self, client: RegistryClient, path: str, scope: Scope, on_retry: OnRetry | None = None
    ) -> None:
        super().__init__(client, path, scope, on_retry)
        self._fallback: FallbackLists | None = None
        self._tags: dict[Digest, str] = {}  # by which a HEAD named the digests
        self._read: tuple[Digest, bytes] | None = None  # the last one that was resolved by GET

    async def resolve(self, reference: str) -> Descriptor:
        """The descriptor behind a tag or digest, by HEAD alone if that says everything. # network

        A HEAD costs no pull of the rate limit (A3). Where it is refused, GET decides: the specification has
        HEAD, but Nexus answers 404 to it, firewalls 403, others 405 or 500. Raises `NotFound`,
        `Unauthorized`, `Denied` and other `RegistryError`, `TransportError`, `DigestMismatch` when a digest
        leads to other content.
        """
        memory, refused = self.memory, False
        if memory.answers_head:
            try:
                _, found = await self._ask_head(reference)
            except CrossdockError as error:
                if isinstance(root_cause(error), Unauthorized) or not was_refused(error):
                    raise
                refused = True
            else:
                if found is not None:
                    return found
        try:
            found = await self._resolve_by_get(reference)
        except DigestMismatch as error:  # it may be damage on the way
            self.note_retry(f"fetch manifest {reference}", error)
            found = await self._resolve_by_get(reference)
        if refused:
            memory.note("head", False)
        return found

    async def look(self, tag: str) -> Descriptor | None:
        """The manifest behind the tag by one optional request, which only saves work. # network

        None: nothing, nothing that is understood, or nothing that may be seen. Raises as `has_manifest` does.
        """
        try:
            return await self.find(tag)
        except CrossdockError as error:
            if not was_refused(error):
                raise
            return None

    async def find(self, reference: str) -> Descriptor | None:
        """The manifest behind a tag or digest, by one request. # network

        None: nothing, or nothing that is understood. Raises as requests do, such as `Denied`.
        """
        try:
            if not self.memory.answers_head:
                return await self._resolve_by_get(reference)
            reply, found = await self._ask_head(reference)
            return (
                found if found is not None or reply.status != 200 else await self._resolve_by_get(reference)
            )
        except CrossdockError as error:
            if not isinstance(root_cause(error), NotFound | ContentError):
                raise
            return None

    async def _ask_head(self, reference: str) -> tuple[Reply, Descriptor | None]:
        """The response to HEAD, and the descriptor, if it states all of it. # network"""
        reply = await self._request("HEAD", reference, ok=(200, 500))  # GET has retries enough for both
        found = self._from_head(reference, reply) if reply.status == 200 else None
        if found is not None and ":" not in reference:
            self._tags[found.digest] = reference
        return reply, found

    async def describe(self, reference: str) -> Descriptor:
        """As `resolve`; of a document that is not understood, what the registry states. # network

        Raises `InvalidDigest` when it states nothing.
        """
        try:
            return await Manifests.resolve(self, reference)
        except InvalidManifest:
            reply = await self._request("HEAD", reference)
        size = reply.headers.get("Content-Length", "")
        digest = Digest(reply.headers.get("Docker-Content-Digest", "").strip())
        media_type = mediatype.bare(reply.headers.get("Content-Type"))
        return Descriptor(media_type, digest, int(size) if size.isdecimal() else 0)

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """The manifest's bytes, digest verified; requested once more when they are wrong. # network

        One that is not found is requested by the tag that HEAD resolved, since some caches serve tags alone.
        When the tag has other content, later calls of `resolve` do not trust HEAD. Raises `NotFound`,
        `ContentError` (`LimitExceeded` over 4 MiB) and as requests do.
        """
        if self._read is not None and self._read[0] == descriptor.digest:
            data, self._read = self._read[1], None
            return data
        if descriptor.size > LIMIT:
            raise LimitExceeded(
                f"manifest {descriptor.digest} has {descriptor.size} bytes, over the limit of {LIMIT}",
                limit=LIMIT,
            )
        for is_last in (False, True):
            try:
                reply = await self._request("GET", descriptor.digest)
                verify_manifest(reply.body, descriptor)
                _compare_stated(reply, descriptor.digest, reply.body)
                return reply.body
            except (DigestMismatch, SizeMismatch) as error:  # it may be damage on the way
                if is_last:
                    raise
                self.note_retry(f"fetch manifest {descriptor.digest}", error)
            except NotFound:
                by_tag = await self._fetch_by_tag(descriptor.digest)
                if by_tag is None:
                    raise
                return by_tag
        raise AssertionError("the last try returns or raises")

    async def _fetch_by_tag(self, digest: Digest) -> bytes | None:
        """The manifest behind the tag that led to `digest`, if it is that one. # network"""
        tag = self._tags.get(digest)
        data = await self.find_manifest(tag) if tag is not None else None
        if data is not None and digest.matches(data):
            return data
        if data is not None:
            self.memory.note("head", False)
        return None

    async def find_manifest(self, reference: str) -> bytes | None:
        """The manifest behind a tag or digest, as it came; None: there is none. # network

        One over the size limit counts as absent: no copy could have put it there.
        """
        try:
            reply = await self._request("GET", reference, ok=(200, 404))
        except (NotFound, LimitExceeded):
            return None
        is_there = reply.status == 200
        is_absent = not is_there and "NAME_UNKNOWN" in parse_error(reply.body).codes
        self.memory.contents.note_absent(self.path, is_absent)
        return reply.body if is_there else None

    def knows_manifest(self, descriptor: Descriptor) -> bool:
        """Whether any copy of this process pushed it here."""
        return self.memory.contents.has_manifest(self.path, descriptor.digest)

    async def has_manifest(self, descriptor: Descriptor) -> bool:
        """Whether the repository is known to have the manifest under its digest. # network

        A refusal is a no: it costs a PUT, and the right to push need not hold the right to look.
        """
        if self.knows_manifest(descriptor):
            return True
        if self.memory.contents.is_absent(self.path):
            return False
        try:
            await self._request("HEAD", descriptor.digest)
        except CrossdockError as error:
            if not was_refused(error):
                raise
            return False
        return True

    async def push_manifest(self, descriptor: Descriptor, data: bytes, tag: str | None) -> None:
        """PUT the bytes under `tag`, or by digest; list them at their subject if need be. # network

        The Content-Type is the document's own, whatever `descriptor` says: registries compare the two.
        Raises `ContentError` when the target states another digest, `RegistryError` when it refuses.
        """
        manifest = await read_manifest(data, descriptor.media_type)
        descriptor = replace(descriptor, media_type=manifest.media_type)
        async with self._turn(manifest, descriptor) as has_waited:
            if has_waited and tag is None and self.memory.contents.has_manifest(self.path, descriptor.digest):
                return  # another copy has just pushed it
            reply = await self._push(descriptor, data, tag, manifest)
            is_listed = manifest.subject is None or (reply and reply.headers.get("OCI-Subject", ""))
            if is_listed:
                self._note_push(descriptor, manifest)
        if not is_listed:  # outside of the turn: the list that is pushed lists this manifest
            await self._fallback_lists().add(manifest, descriptor)
            self._note_push(descriptor, manifest)

    async def _push(
        self, descriptor: Descriptor, data: bytes, tag: str | None, manifest: Manifest
    ) -> Reply | None:
        """PUT it; None: the response was lost, and the target has it. # network"""
        try:
            return await self._put_patiently(descriptor, data, tag, names_urls=_names_urls(manifest))
        except CrossdockError as error:
            if isinstance(error, RegistryError) and not BLOBS_MISSING.isdisjoint(error.codes):
                self.memory.contents.forget(self.path)
            # Without a response it may have worked, as a closing PUT may.
            if isinstance(root_cause(error), TransportError) and await self._means(tag, descriptor):
                return None
            if isinstance(error, RegistryError) and (advice := _advice(error, manifest)):
                raise error.replace(advice=advice) from error.__cause__
            raise

    def _note_push(self, descriptor: Descriptor, manifest: Manifest) -> None:
        contents = self.memory.contents
        contents.add_manifest(self.path, descriptor.digest)
        if not manifest.is_index:
            contents.refer(self.path, [each.digest for each in manifest.successors()])

    async def push_tags(self, descriptor: Descriptor, data: bytes, tags: Sequence[str]) -> frozenset[str]:
        """As `content.PushesTags`: PUT by digest with the tags, which an ``OCI-Tag`` confirms. # network

        A registry that does not know of them stores the manifest and ignores the tags: it is tried once.
        """
        memory, given = self.memory, set[str]()
        manifest = await read_manifest(data, descriptor.media_type)
        if manifest.subject is not None or len(tags) < 2:
            return frozenset()
        descriptor = replace(descriptor, media_type=manifest.media_type)
        for start in range(0, len(tags), TAGS_OF_A_PUSH):
            if memory.learned.multi_tag is False:
                break
            some = tags[start : start + TAGS_OF_A_PUSH]
            try:
                path = endpoints.manifest(self.path, descriptor.digest, *some)
                async with self._turn(manifest, descriptor):
                    reply = await self._put_at(path, descriptor, data)
            except RegistryError as error:
                if not BLOBS_MISSING.isdisjoint(error.codes) or not was_refused(error):
                    raise
                break  # perhaps one of the tags is: each is pushed by itself
            _compare_stated(reply, descriptor.digest, data)
            self._note_push(descriptor, manifest)
            told = {tag.strip() for tag in ",".join(reply.headers.getall("OCI-Tag")).split(",")}
            given |= told.intersection(some)
            if memory.learned.multi_tag is None or not told.intersection(some):
                memory.note("multi_tag", not told.isdisjoint(some))
        return frozenset(given)

    def _turn(self, manifest: Manifest, descriptor: Descriptor) -> AbstractAsyncContextManager[bool]:
        below = (each.digest for each in manifest.manifests)
        return self.memory.pushes.turn(self.path, descriptor.digest, below)

    def _fallback_lists(self) -> FallbackLists:
        """One for all pushes, which wait for each other there. Loaded for the first that needs it: few do."""
        if self._fallback is None:
            from crossdock.registry.referrers import FallbackLists

            self._fallback = FallbackLists(self)
        return self._fallback

    async def _put_patiently(
        self, descriptor: Descriptor, data: bytes, tag: str | None, *, names_urls: bool
    ) -> Reply:
        """PUT, and once more when the target had, or kept, something else than was sent.

        Damage on the way shows so; and distribution 2 reads an empty link, and calls a blob unknown, while
        another client pushes the same blob to the repository.
        """
        try:
            return await self._put_unchanged(descriptor, data, tag)
        except DigestMismatch as error:
            self.note_retry("push manifest", error)
        except RegistryError as error:
            if names_urls or isinstance(error, Unsupported) or _MAY_PASS.isdisjoint(error.codes):
                raise
            self.note_retry("push manifest", error)
        await asyncio.sleep(self.client.network.backoff_s(1))
        return await self._put_unchanged(descriptor, data, tag)

    async def _put_unchanged(self, descriptor: Descriptor, data: bytes, tag: str | None) -> Reply:
        reply = await self._put(descriptor, data, tag)
        _compare_stated(reply, descriptor.digest, data)
        return reply

    async def _put(self, descriptor: Descriptor, data: bytes, tag: str | None) -> Reply:
        """PUT by tag or by digest. A tag alone would make the registry name the bytes by sha256."""
        digest = descriptor.digest
        if tag is None:
            return await self._put_at(endpoints.manifest(self.path, digest), descriptor, data)
        if digest.algorithm != "sha256":
            path = endpoints.manifest(self.path, digest, tag)
            with suppress(RegistryError):  # distribution knows no other manifests than by sha256
                reply = await self._put_at(path, descriptor, data)
                if tag in map(str.strip, ",".join(reply.headers.getall("OCI-Tag")).split(",")):
                    return reply
        return await self._put_at(endpoints.manifest(self.path, tag), descriptor, data)

    async def _put_at(self, path: str, descriptor: Descriptor, data: bytes) -> Reply:
        return await self.write(
            "PUT",
            path,
            headers=(("Content-Type", descriptor.media_type),),
            body=data,
            ok=_PUSHED,
        )

    async def _means(self, tag: str | None, descriptor: Descriptor) -> bool:
        """Whether the tag, or the digest, leads to the manifest. # network"""
        try:
            return descriptor.digest.matches(await self.find_manifest(tag or descriptor.digest) or b"")
        except CrossdockError:
            return False

    # -- resolving -----------------------------------------------------------------------------------

    def _from_head(self, reference: str, reply: Reply) -> Descriptor | None:
        """The descriptor that a HEAD's headers state; None when they do not suffice or contradict."""
        media_type = mediatype.bare(reply.headers.get("Content-Type"))
        digest, size = _stated(reply), reply.headers.get("Content-Length", "").strip()
        if digest is None or not mediatype.is_manifest(media_type) or not size.isdigit() or size == "0":
            return None
        if coding_of(reply.headers.get("Content-Encoding", "")):  # of which the length is
            return None
        if ":" in reference and digest != reference:
            return None
        return Descriptor(media_type, digest, int(size))

    async def _resolve_by_get(self, reference: str) -> Descriptor:
        reply = await self._request("GET", reference)
        media_type = (await read_manifest(reply.body, reply.headers.get("Content-Type"))).media_type
        wanted = Digest(reference) if ":" in reference else _stated(reply)
        digest = Digest.of(reply.body, wanted.algorithm if wanted else "sha256")
        if wanted is not None and digest != wanted:
            raise DigestMismatch(
                f"GET {reply.url}: wrong digest of {len(reply.body)} bytes: "
                f"expected {wanted}, received {digest}",
                expected=wanted,
                actual=digest,
            )
        self._read = digest, reply.body
        return Descriptor(media_type, digest, len(reply.body))

    def _request(self, method: str, reference: str, ok: Collection[int] = (200,)) -> Awaitable[Reply]:
        path = endpoints.manifest(self.path, reference)
        return self.request(method, path, headers=_ACCEPT, ok=ok, limit=LIMIT)


def _names_urls(manifest: Manifest) -> bool:
    return any(layer.urls for layer in manifest.layers)


def _advice(error: RegistryError, manifest: Manifest) -> Advice | None:
    """Advice for a target that does not accept such a manifest; None when it refused for another reason."""
    if _names_urls(manifest) and not BLOBS_MISSING.isdisjoint(error.codes):
        return Advice(
            "permit-at-target",
            "it names layers by URL, which only the target's settings can permit "
            "(distribution: validation.manifests.urls.allow)",
        )
    if not {"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"}.isdisjoint(error.codes):
        return Advice(
            "report",
            "the target lacks a blob or manifest that it confirmed before: its storage, or a cache in front "
            "of it, is inconsistent",
        )
    if error.status == 415 and manifest.media_type in (mediatype.DOCKER_MANIFEST, mediatype.DOCKER_LIST):
        return Advice(
            "permit-at-target",
            "the target takes no Docker manifests: allow them there (zot: http.compat docker2s2)",
        )
    return None


def _stated(reply: Reply) -> Digest | None:
    """``Docker-Content-Digest``; None when it is missing or of no known algorithm."""
    try:
        return Digest(reply.headers.get("Docker-Content-Digest", "").strip())
    except InvalidDigest:
        return None


def _compare_stated(reply: Reply, digest: Digest, data: bytes) -> None:
    """The digest that the registry states, which may use another algorithm than `digest`."""
    stated = _stated(reply)
    if stated is None or stated == digest or (stated.algorithm != digest.algorithm and stated.matches(data)):
        return
    raise DigestMismatch(
        f"{reply.url}: the registry names the manifest {digest} as {stated}",
        advice=Advice(
            "report",
            "the registry, or a proxy before it, changes manifests: they cannot be copied byte-exact",
        ),
        expected=digest,
        actual=stated,
    )
