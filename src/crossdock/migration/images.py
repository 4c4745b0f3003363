"""The blobs of images: each manifest is fetched once, and only digests and sizes of blobs are kept.

A plan of 100,000 tags keeps hundreds of thousands of them, so that a digest is its bytes here (`key_of`), and
what an image consists of is packed into one value.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from crossdock.oci.digest import Digest
from crossdock.oci.manifest import Manifest
from crossdock.oci.mediatype import is_foreign_layer
from crossdock.oci.platform import Platform
from crossdock.reading import read_manifest
from crossdock.runs.looking import fetch_chosen
from crossdock.steps import during
from crossdock.tasks import run_each

Key = bytes
"""A digest as bytes: 32 of a sha256, 64 of a sha512."""

FETCHED_AT_ONCE = 64  # manifests
CHILDREN_AT_ONCE = 8  # of one index
MOST_DEPTH = 8  # of indexes that list indexes

_BLOB = struct.Struct(">QB")


def key_of(digest: Digest) -> Key:
    """The digest as bytes."""
    return bytes.fromhex(digest.encoded)


def digest_of(key: Key) -> Digest:
    """The digest of a key."""
    return Digest(f"{'sha256' if len(key) == 32 else 'sha512'}:{key.hex()}")


class Images:
    """The images of one choice of platforms."""

    def __init__(self, platforms: tuple[Platform, ...], *, foreign_layers: bool) -> None:
        """`foreign_layers`: layers that manifests name by URL are copied as well."""
        self._platforms = platforms
        self._foreign_layers = foreign_layers
        self._known: dict[Key, bytes] = {}  # "m" and blobs, or "i" and keys of manifests
        self._chosen: dict[Key, Key] = {}  # the manifest that stands for one at the target
        self._fetching: dict[Key, asyncio.Future[None]] = {}
        self._slots = asyncio.Semaphore(FETCHED_AT_ONCE)

    async def chosen(self, source: Any, digest: Digest) -> Digest:
        """The manifest that a copy of `digest` is at a target: another one where platforms are chosen.

        Raises `CopyError`, over `NotFound` for a platform that is not there. # network
        """
        if not self._platforms:
            return digest
        await self._learn(source, digest, self._platforms, 0)
        return digest_of(self._chosen[key_of(digest)])

    async def learn(self, source: Any, digest: Digest) -> None:
        """Find out what the image consists of. Raises `CopyError`. # network"""
        await self._learn(source, digest, self._platforms, 0)

    def blobs(self, digest: Digest) -> Iterator[tuple[Key, int]]:
        """The blobs of an image that was learnt, with their sizes; some may come twice."""
        key = key_of(digest)
        yield from self._blobs(self._chosen.get(key, key))

    def manifests(self, digest: Digest) -> int:
        """How many manifests an image that was learnt has."""
        key = key_of(digest)
        return self._manifests(self._chosen.get(key, key))

    @property
    def fetched(self) -> int:
        """How many manifests were fetched."""
        return len(self._known)

    # -- fetching ------------------------------------------------------------------------------------------

    async def _learn(self, source: Any, digest: Digest, platforms: tuple[Platform, ...], depth: int) -> None:
        key = key_of(digest)
        root = self._chosen.get(key, key) if platforms else key
        if root in self._known and (not platforms or key in self._chosen):
            return
        async with self._alone(key) as is_first:
            if not is_first:
                return
            with during("fetch manifest from", "source", f"{source.name}@{digest}"):
                async with self._slots:
                    named, data = await fetch_chosen(source, digest, platforms)
                manifest = await read_manifest(data, named.media_type or None)
            if platforms:
                self._chosen[key] = key_of(named.digest)
            if depth < MOST_DEPTH:
                children = dict.fromkeys(each.digest for each in manifest.manifests)
                await run_each(
                    children, lambda child: self._learn(source, child, (), depth + 1), CHILDREN_AT_ONCE
                )
            self._known[key_of(named.digest)] = self._packed(manifest)

    @asynccontextmanager
    async def _alone(self, key: Key) -> AsyncIterator[bool]:
        """Whether this is the first to ask for the manifest; the others wait, and get its error."""
        running = self._fetching.get(key)
        if running is not None:
            await asyncio.shield(running)
            yield False
            return
        running = self._fetching[key] = asyncio.get_running_loop().create_future()
        try:
            yield True
        except BaseException as error:
            if isinstance(error, Exception):
                running.set_exception(error)
                running.exception()  # there may be nobody else
            else:
                running.cancel()
            raise
        else:
            running.set_result(None)
        finally:
            del self._fetching[key]

    # -- what is known -------------------------------------------------------------------------------------

    def _packed(self, manifest: Manifest) -> bytes:
        if manifest.is_index:
            keys = [key_of(each.digest) for each in manifest.manifests]
            return b"i" + b"".join(bytes((len(key),)) + key for key in keys)
        parts = []
        for each in (manifest.config, *manifest.layers, *manifest.blobs):
            if each is None or (each.urls and is_foreign_layer(each.media_type) and not self._foreign_layers):
                continue
            key = key_of(each.digest)
            parts.append(_BLOB.pack(each.size, len(key)) + key)
        return b"m" + b"".join(parts)

    def _blobs(self, key: Key) -> Iterator[tuple[Key, int]]:
        packed = self._known.get(key, b"m")
        at = 1
        if packed[:1] == b"i":
            for child in _keys(packed):
                yield from self._blobs(child)
            return
        while at < len(packed):
            size, length = _BLOB.unpack_from(packed, at)
            at += _BLOB.size
            yield packed[at : at + length], size
            at += length

    def _manifests(self, key: Key) -> int:
        packed = self._known.get(key, b"m")
        return 1 + (sum(map(self._manifests, _keys(packed))) if packed[:1] == b"i" else 0)


def _keys(packed: bytes) -> Iterator[Key]:
    at = 1
    while at < len(packed):
        length = packed[at]
        yield packed[at + 1 : at + 1 + length]
        at += 1 + length
