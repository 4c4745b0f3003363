"""A registry as a writer sees it, tried with blobs and manifests of our own in one repository. # network

At most `MOST_SENT` bytes are sent. What was written is removed again, as far as the registry lets it be.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from crossdock.errors import CrossdockError, RegistryError
from crossdock.oci import mediatype
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.protocol import endpoints
from crossdock.protocol.byterange import content_range_for_chunk, parse_uploaded
from crossdock.protocol.headers import number
from crossdock.protocol.redirect import next_hop
from crossdock.registry.auth.authorization import Scope
from crossdock.registry.client import Reply
from crossdock.registry.kinds import Mounts
from crossdock.registry.repository import DELETED, RegistryRepository
from crossdock.url import Url

KiB, MiB = 1 << 10, 1 << 20
LARGE = 32 * MiB
ANOTHER = 8 * MiB  # more than any least chunk that is known
MOST_SENT = 192 * MiB
CLEAN_UP_S = 20.0
SEARCH_S = 25.0  # after which limits are searched no further
SIZES = (64 * KiB, 1 * MiB, 4 * MiB, 5 * MiB, 8 * MiB, 10 * MiB, 16 * MiB, 20_000_000, 20 * MiB, 32 * MiB)
"""Chunks that are tried: the limits that registries and proxies are known for."""

_TAKEN = (200, 201, 202, 204)
_BINARY = ("Content-Type", "application/octet-stream")
_CONFIG = "application/vnd.crossdock.probe.config.v1+json"


@dataclass
class Written:
    """The findings."""

    uploads: dict[str, Any] = field(default_factory=dict)
    mount: Mounts = "never"
    referrers: Literal["api", "tag", "refused"] = "tag"
    tag_delete: bool = False
    multi_tag: bool = False
    left: list[str] = field(default_factory=list)
    large_put: bool | None = None  # whether a blob of `LARGE` bytes goes up in one request; None: not tried


class Writer:
    """One trial in a repository, to which the client may write."""

    def __init__(self, repository: RegistryRepository) -> None:
        self._repository = repository
        self._client = repository.client
        self._name = repository.name
        self._mark = f"crossdock-probe-{os.urandom(6).hex()}"
        self._blobs: dict[str, Descriptor] = {}
        self._below = f"{repository.path}/{self._mark}"  # a repository that only a mount makes
        self._mounted_below: list[Digest] = []
        self._manifests: dict[str, bytes] = {}
        self._tags: list[str] = []
        self._sent = 0
        self._random = os.urandom(1 * MiB)
        self._since = time.monotonic()

    async def run(self) -> Written:
        """Try everything, and clean up, also after an error. Raises as requests do, where nothing can be
        written at all."""
        found = Written()
        try:
            found.uploads = await self._uploads()
            if found.uploads["single"] and self._may_send(LARGE):
                found.large_put = await self._try_single(LARGE)
            found.mount, manifest, data = await self._mounts()
            found.multi_tag = await self._multi_tag(manifest, data)
            found.tag_delete = await self._tag_delete(manifest, data)
            found.referrers = await self._referrers(manifest)
        finally:
            try:
                async with asyncio.timeout(CLEAN_UP_S):
                    await self._clean_up()
            except TimeoutError:
                pass  # what was not looked at is still there
            found.left = self._left()
        return found

    # -- uploads ---------------------------------------------------------------------------------------------

    async def _uploads(self) -> dict[str, Any]:
        single = await self._try_single(64 * KiB)
        least = None
        stated = await self._stated_least()
        sizes = [each for each in SIZES if each >= stated]
        while sizes and self._may_send(3 * sizes[0]):
            size = sizes.pop(0)
            sent = self._sent
            if await self._try_chunks(size):
                least = size
                break
            if self._sent - sent <= size:  # not even the first one was taken: a larger one shows that none is
                sizes = [each for each in sizes if each == ANOTHER]
        if not single and least is None:
            await self._put_blob(b"probe")  # raises what the registry says
        chunk_max = await self._most_chunk(least) if least is not None else None
        return {
            "single": single,
            "chunks": least is not None,
            "resume": least is not None and await self._resumes(least),
            "chunk_min": least if least is not None and (least > SIZES[0] or stated) else None,
            "chunk_max": chunk_max,
        }

    async def _try_single(self, size: int) -> bool:
        with suppress(CrossdockError):
            await self._put_blob(self._bytes(size))
            return True
        return False

    async def _stated_least(self) -> int:
        """The least chunk that the registry states; 0: none."""
        reply = await self._open()
        await self._drop(self._location(reply))
        return number(reply.headers, "oci-chunk-min-length")

    async def _try_chunks(self, size: int) -> bool:
        """Whether two chunks of `size` and a smaller one make a blob."""
        data = self._bytes(2 * size + size // 2)
        location: Url | None = None
        try:
            location = self._location(await self._open())
            for start in (0, size):
                location = await self._patch(location, data[start : start + size], start)
            await self._close(location, data, 2 * size)
        except CrossdockError:
            await self._drop(location)
            return False
        return True

    async def _most_chunk(self, least: int) -> int | None:
        """The largest chunk of `SIZES` that is taken; None if all are, or if that was not found out."""
        sizes = [each for each in SIZES if each >= least]
        low, high = 0, len(sizes) - 1
        if low == high or not self._may_send(sizes[high]) or await self._takes(sizes[high]):
            return None
        while high - low > 1:
            at = (low + high) // 2
            if not self._may_send(sizes[at]):
                return None
            if await self._takes(sizes[at]):
                low = at
            else:
                high = at
        return sizes[low]

    async def _takes(self, size: int) -> bool:
        location: Url | None = None
        try:
            location = self._location(await self._open())
            location = await self._patch(location, self._bytes(size), 0)
            return True
        except CrossdockError:
            return False
        finally:
            await self._drop(location)

    async def _resumes(self, size: int) -> bool:
        """Whether a session reports after two chunks how many bytes it holds."""
        size = min(size, 8 * MiB)
        if not self._may_send(2 * size):
            return False
        location: Url | None = None
        try:
            location = self._location(await self._open())
            data = self._bytes(2 * size)
            for start in (0, size):
                location = await self._patch(location, data[start : start + size], start)
            reply = await self._request("GET", location, ok=(200, 202, 204))
            range_end = self._client.kind.upload.range_end
            return parse_uploaded(reply.headers.get("Range", ""), range_end) == 2 * size
        except CrossdockError:
            return False
        finally:
            await self._drop(location)

    def _may_send(self, size: int) -> bool:
        return self._sent + size <= MOST_SENT and time.monotonic() - self._since < SEARCH_S

    def _bytes(self, size: int) -> bytes:
        """Bytes that no other blob has."""
        head = os.urandom(16)
        times = -(-size // len(self._random))
        return (head + self._random * times)[:size]

    async def _open(self) -> Reply:
        return await self._request("POST", endpoints.uploads(self._repository.path), ok=(200, 201, 202))

    async def _patch(self, location: Url, chunk: bytes, start: int) -> Url:
        headers = (_BINARY, ("Content-Range", content_range_for_chunk(start, start + len(chunk))))
        reply = await self._request("PATCH", location, body=chunk, headers=headers, ok=_TAKEN)
        return self._location(reply)

    async def _close(self, location: Url, data: bytes, start: int = 0) -> None:
        """The closing PUT with the bytes from `start` on."""
        blob = _described(data)
        headers = [_BINARY]
        if start:
            headers.append(("Content-Range", content_range_for_chunk(start, len(data))))
        url = endpoints.commit_location(location, str(blob.digest))
        await self._request("PUT", url, body=data[start:], headers=headers, ok=_TAKEN)
        self._blobs[str(blob.digest)] = blob

    async def _put_blob(self, data: bytes) -> None:
        location = self._location(await self._open())
        try:
            await self._close(location, data)
        except CrossdockError:
            await self._drop(location)
            raise

    async def _add_blob(self, data: bytes) -> Descriptor:
        """Upload it as a copy would."""
        blob = _described(data)
        session = await self._repository.start_upload(blob)
        self._sent += len(data)
        self._blobs[str(blob.digest)] = blob
        try:
            await session.append(memoryview(data))
            await session.commit()
        except BaseException:
            await session.cancel()
            raise
        return blob

    def _location(self, reply: Reply) -> Url:
        location = reply.headers.get("Location", "")
        return next_hop(reply.url, location, registry=self._client.origin) if location else reply.url

    async def _drop(self, location: Url | None, scope: Scope | None = None) -> None:
        if location is not None:
            with suppress(CrossdockError):
                await self._request("DELETE", location, body=None, ok=(*_TAKEN, 404), scope=scope)

    # -- mounts, tags, referrers -----------------------------------------------------------------------------

    async def _mounts(self) -> tuple[Mounts, Descriptor, bytes]:
        """How a blob of the repository is mounted, and the manifest that refers to the blob."""
        layer = await self._add_blob(self._bytes(1 * KiB))
        at_once = await self._mount(layer)
        manifest, data = await self._push_image([layer], f"{self._mark}-a")
        if at_once:
            return "at_once", manifest, data
        return ("after_manifest" if await self._mount(layer) else "never"), manifest, data

    async def _mount(self, blob: Descriptor) -> bool:
        """Mount it into its own repository, which leaves nothing, or else into one below."""
        source = self._repository.path
        if await self._mount_into(source, blob, self._repository.scope):
            return True
        if await self._mount_into(self._below, blob, Scope.push(self._below, source)):
            self._mounted_below.append(blob.digest)
            return True
        return False

    async def _mount_into(self, path: str, blob: Descriptor, scope: Scope) -> bool:
        target = endpoints.mount(path, str(blob.digest), self._repository.path)
        try:
            reply = await self._request("POST", target, ok=(201, 202), scope=scope)
        except RegistryError:
            return False
        if reply.status == 201:
            return True
        if reply.headers.get("Location", ""):
            await self._drop(self._location(reply), scope)
        return False

    async def _push_image(
        self, layers: list[Descriptor], tag: str | None, subject: Descriptor | None = None
    ) -> tuple[Descriptor, bytes]:
        config = await self._add_blob(json.dumps({"probe": os.urandom(8).hex()}).encode())  # no other has it
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": mediatype.OCI_MANIFEST,
            "artifactType": "application/vnd.crossdock.probe",
            "config": {"mediaType": _CONFIG, "digest": str(config.digest), "size": config.size},
            "layers": [
                {"mediaType": "application/octet-stream", "digest": str(each.digest), "size": each.size}
                for each in layers
            ],
            "annotations": {"crossdock.probe": self._mark},
        }
        if subject is not None:
            document["subject"] = {
                "mediaType": subject.media_type,
                "digest": str(subject.digest),
                "size": subject.size,
            }
        data = json.dumps(document).encode()
        found = _described(data, mediatype.OCI_MANIFEST)
        await self._push(found, data, tag or str(found.digest))
        return found, data

    async def _push(self, manifest: Descriptor, data: bytes, reference: str, *tags: str) -> Reply:
        path = endpoints.manifest(self._repository.path, reference, *tags)
        headers = (("Content-Type", manifest.media_type),)
        reply = await self._request("PUT", path, body=data, headers=headers, ok=_TAKEN)
        self._manifests[str(manifest.digest)] = data
        self._tags += [each for each in (reference, *tags) if ":" not in each]
        return reply

    async def _multi_tag(self, manifest: Descriptor, data: bytes) -> bool:
        """Whether a PUT by digest that lists tags gives them to the manifest (end-7b)."""
        tags = (f"{self._mark}-b", f"{self._mark}-c")
        try:
            reply = await self._push(manifest, data, str(manifest.digest), *tags)
        except RegistryError:
            return False
        if not reply.headers.get("OCI-Tag", ""):
            self._tags = [each for each in self._tags if each not in tags]
            return False
        return all([await self._exists(tag) for tag in tags])

    async def _tag_delete(self, manifest: Descriptor, data: bytes) -> bool:
        """Whether a DELETE of a tag leaves the manifest and its other tag."""
        tag = f"{self._mark}-d"
        await self._push(manifest, data, tag)
        if not await self._delete(endpoints.manifest(self._repository.path, tag)):
            return False
        if await self._exists(tag):
            return False
        self._tags.remove(tag)
        if await self._exists(str(manifest.digest)):
            return True
        await self._push(manifest, data, f"{self._mark}-a")  # it took the manifest: the rest needs it
        return False

    async def _referrers(self, subject: Descriptor) -> Literal["api", "tag", "refused"]:
        layer = await self._add_blob(self._bytes(1 * KiB))
        try:
            pushed, _ = await self._push_image([layer], None, subject)
        except RegistryError:
            return "refused"
        path = endpoints.referrers(self._repository.path, str(subject.digest))
        try:
            reply = await self._request("GET", path, ok=(200,))
        except CrossdockError:
            return "tag"
        return "api" if str(pushed.digest).encode() in reply.body else "tag"

    async def _exists(self, reference: str) -> bool:
        headers = (("Accept", ", ".join(mediatype.MANIFEST_ACCEPT)),)
        path = endpoints.manifest(self._repository.path, reference)
        try:
            return (await self._request("GET", path, headers=headers, ok=(200, 404))).status == 200
        except CrossdockError:
            return False

    # -- the end ---------------------------------------------------------------------------------------------

    async def _clean_up(self) -> None:
        """Remove everything, and forget what is gone."""
        path = self._repository.path
        for digest in reversed(list(self._manifests)):
            if await self._delete(endpoints.manifest(path, digest)) or not await self._exists(digest):
                del self._manifests[digest]
        for tag in dict.fromkeys(self._tags):
            if await self._exists(tag):
                await self._delete(endpoints.manifest(path, tag))
            if not await self._exists(tag):
                self._tags = [each for each in self._tags if each != tag]
        for digest in list(self._blobs):
            if await self._delete(endpoints.blob(path, digest)) or not await self._has_blob(digest):
                del self._blobs[digest]
        for mounted in list(self._mounted_below):
            if await self._delete(endpoints.blob(self._below, mounted), self._below):
                self._mounted_below.remove(mounted)

    def _left(self) -> list[str]:
        found = [f"{self._name}:{tag}" for tag in dict.fromkeys(self._tags)]
        found += [f"{self._name}@{digest}" for digest in (*self._manifests, *self._blobs)]
        return found + [f"{self._name}/{self._mark}@{digest}" for digest in self._mounted_below]

    async def _has_blob(self, digest: str) -> bool:
        try:
            path = endpoints.blob(self._repository.path, digest)
            return (await self._request("HEAD", path, ok=(200, 307, 404))).status != 404
        except CrossdockError:
            return True

    async def _delete(self, path: str, repository: str = "") -> bool:
        # Quay gives no token for the right to delete, but for all rights (containers/image).
        repository = repository or self._repository.path
        everything = Scope((f"repository:{repository}:*",), repository)
        for scope in (Scope.delete(repository), everything):
            with suppress(CrossdockError):
                await self._client.request("DELETE", path, scope=scope, ok=DELETED, retry=False)
                return True
        return False

    async def _request(
        self,
        method: str,
        target: str | Url,
        *,
        body: bytes | None = b"",
        headers: tuple[tuple[str, str], ...] | list[tuple[str, str]] = (),
        ok: tuple[int, ...],
        scope: Scope | None = None,
    ) -> Reply:
        """One try, with the rights that `scope` names, or to read and write. A GET has no body."""
        if method in ("GET", "HEAD"):
            body = None
        self._sent += len(body or b"")
        return await self._client.request(
            method,
            target,
            scope=scope or self._repository.scope,
            headers=tuple(headers),
            body=body,
            ok=ok,
            retry=False,
        )


def _described(data: bytes, media_type: str = "application/octet-stream") -> Descriptor:
    return Descriptor(media_type, Digest.of(data), len(data))
