"""Blobs: pull (end-2), push (end-4 to end-6, end-11, end-13, end-14) and delete (end-10)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from aiohttp import web

from crossdock.embedded.bodies import send_file
from crossdock.embedded.repositories import Repository, parse_digest
from crossdock.embedded.responses import Refused
from crossdock.embedded.uploads import Session
from crossdock.errors import NotFound, StoreError
from crossdock.oci.digest import ALGORITHMS, Digest
from crossdock.protocol.byterange import (
    Unsatisfiable,
    content_range,
    parse_chunk_range,
    parse_range,
    unsatisfied_range,
    uploaded_range,
)
from crossdock.tasks import in_thread

if TYPE_CHECKING:
    from crossdock.embedded.app import Registry
    from crossdock.embedded.routes import Route

BINARY = "application/octet-stream"


async def pull(registry: Registry, request: web.Request, route: Route) -> web.StreamResponse:
    """GET and HEAD of a blob, whole or one range of it."""
    digest = parse_digest(route.argument)
    repository = await in_thread(registry.repositories.existing, route.name)
    try:
        descriptor, size = await in_thread(
            repository.files.open, digest, undo=lambda opened: os.close(opened[0])
        )
    except NotFound:
        raise Refused("BLOB_UNKNOWN", "blob unknown to registry", detail={"digest": digest}) from None
    try:
        return await _send(request, digest, descriptor, size)
    finally:
        os.close(descriptor)


async def _send(request: web.Request, digest: Digest, descriptor: int, size: int) -> web.StreamResponse:
    etag = f'"{digest}"'
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "max-age=31536000",  # content of a digest never changes
        "Content-Type": BINARY,
        "Docker-Content-Digest": digest,
        "ETag": etag,
    }
    if etag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    requested = request.headers.get("Range")
    if request.method == "HEAD" or request.headers.get("If-Range", etag) != etag:
        requested = None
    try:
        part = parse_range(requested, size)
    except Unsatisfiable:
        headers = {"Content-Range": unsatisfied_range(size), "Accept-Ranges": "bytes"}
        raise Refused("UNSUPPORTED", "range not satisfiable", status=416, headers=headers) from None
    start, stop = part or (0, size)
    headers["Content-Length"] = str(stop - start)
    if part is not None:
        headers["Content-Range"] = content_range(start, stop, size)
    response = web.StreamResponse(status=200 if part is None else 206, headers=headers)
    if request.method == "HEAD":
        await response.prepare(request)
        await response.write_eof()
    else:
        await send_file(request, response, descriptor, start, stop)
    return response


async def delete(registry: Registry, request: web.Request, route: Route) -> web.Response:
    """DELETE of a blob."""
    digest = parse_digest(route.argument)
    repository = await in_thread(registry.repositories.existing, route.name)
    await in_thread(repository.delete_blob, digest)
    return web.Response(status=202)


async def start_upload(registry: Registry, request: web.Request, route: Route) -> web.Response:
    """POST: a mount, a whole blob in this request, or a new session."""
    name, owner, query = route.name, route.owner, request.query
    if "mount" in query:
        digest = parse_digest(query["mount"])
        if await in_thread(_mount, registry, name, digest, query.get("from")):
            return _created(name, digest)
        return _session_response(registry.uploads.start(name, owner=owner), 202)
    algorithm = query.get("digest-algorithm", "sha256")
    if algorithm not in ALGORITHMS:
        raise Refused("DIGEST_INVALID", "unsupported algorithm", detail={"digest-algorithm": algorithm})
    if "digest" in query and request.can_read_body:
        whole = parse_digest(query["digest"])
        session = registry.uploads.start(name, whole.algorithm, owner=owner)
        try:
            return await _finish(registry, request, session, whole)
        finally:
            await registry.uploads.end(session)  # the client does not know its location
    return _session_response(registry.uploads.start(name, algorithm, owner=owner), 202)


async def upload_status(registry: Registry, request: web.Request, route: Route) -> web.Response:
    """GET of a session: how many bytes it holds."""
    return _session_response(_session(registry, route), 204)


async def append(registry: Registry, request: web.Request, route: Route) -> web.Response:
    """PATCH: the next chunk, or everything in one stream."""
    session = _session(registry, route)
    async with session.writing(request):
        _check_chunk(request, session)
        await _feed(registry, request, session)
        return _session_response(session, 202)


async def finish(registry: Registry, request: web.Request, route: Route) -> web.Response:
    """PUT: the last bytes, if any, and the digest of the blob."""
    session = _session(registry, route)
    return await _finish(registry, request, session, parse_digest(request.query.get("digest", "")))


async def cancel(registry: Registry, request: web.Request, route: Route) -> web.Response:
    """DELETE of a session."""
    session = _session(registry, route)
    async with session.writing(request):
        await registry.uploads.end(session)
    return web.Response(status=204)


def _session(registry: Registry, route: Route) -> Session:
    return registry.uploads.find(route.name, route.argument)


async def _finish(registry: Registry, request: web.Request, session: Session, digest: Digest) -> web.Response:
    repository = registry.repositories.at(session.name)
    async with session.writing(request):
        _check_chunk(request, session)
        await _feed(registry, request, session)
        try:
            await in_thread(repository.index.create)
            await session.commit(repository.files, digest)
        finally:
            # Committed, or refused permanently: distribution also ends the session when a commit fails.
            await registry.uploads.end(session)
    return _created(session.name, digest)


async def _feed(registry: Registry, request: web.Request, session: Session) -> None:
    try:
        await session.feed(request)
    except StoreError:
        await registry.uploads.end(session)
        raise


def _check_chunk(request: web.Request, session: Session) -> None:
    """Raises `Refused` with 416 if the chunk is not the next one."""
    header = request.headers.get("Content-Range")
    if header is None:
        return
    chunk = parse_chunk_range(header)
    if chunk is None:
        raise Refused("BLOB_UPLOAD_INVALID", "Content-Range must be <first>-<last>", detail={"given": header})
    length = request.content_length
    if length is not None and length != chunk[1] - chunk[0]:
        raise Refused("SIZE_INVALID", "Content-Range and Content-Length disagree", detail={"given": header})
    if chunk[0] != session.offset:
        raise Refused(
            "BLOB_UPLOAD_INVALID",
            f"the next chunk starts at {session.offset}",
            status=416,
            headers=_session_headers(session),
        )


def _mount(registry: Registry, name: str, digest: Digest, origin: str | None) -> bool:
    """Link the blob from the repository `origin`. False if `origin` is not given or lacks the blob."""
    if not origin:
        return False
    source, target = registry.repositories.at(origin), registry.repositories.at(name)
    if not source.index.exists() or source.files.size(digest) is None:
        return False
    target.index.create()
    return _adopt(source, target, digest)


def _adopt(source: Repository, target: Repository, digest: Digest) -> bool:
    if target.files.size(digest) != source.files.size(digest):
        target.files.remove(digest)  # damaged, if it is there at all
    return target.files.adopt(source.files, digest)


def _created(name: str, digest: Digest) -> web.Response:
    headers = {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest}
    return web.Response(status=201, headers=headers)


def _session_response(session: Session, status: int) -> web.Response:
    return web.Response(status=status, headers=_session_headers(session))


def _session_headers(session: Session) -> dict[str, str]:
    return {
        "Location": f"/v2/{session.name}/blobs/uploads/{session.id}",
        "Range": uploaded_range(session.offset),
        "Docker-Upload-UUID": session.id,
    }
