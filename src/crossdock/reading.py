"""Reading documents of peers on an event loop that serves others meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from crossdock.oci.manifest import LARGE, Manifest, parse_manifest

A = TypeVar("A")
R = TypeVar("R")


async def read_manifest(data: bytes, media_type: str | None = None) -> Manifest:
    """As `parse_manifest`, in a thread for a large document."""
    return await aside(lambda data: parse_manifest(data, media_type), data, size=len(data))


async def aside(read: Callable[[A], R], document: A, *, size: int) -> R:
    """`read` of a document of `size` bytes: in a thread where a hostile peer can make it slow."""
    return read(document) if size <= LARGE else await asyncio.to_thread(read, document)
