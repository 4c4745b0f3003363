"""Manifests: pull (end-3), push (end-7) and delete (end-9)."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from aiohttp import web

from crossdock.embedded.acr.locks import forget_deleted
from crossdock.embedded.bodies import receive_whole
from crossdock.embedded.repositories import MANIFEST_LIMIT, parse_digest
from crossdock.embedded.responses import Refused
from crossdock.errors import InvalidManifest, LimitExceeded, NotFound
from crossdock.oci import mediatype
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import LARGE, Limits, Manifest, parse_manifest
from crossdock.oci.reference import is_tag
from crossdock.tasks import in_thread

if TYPE_CHECKING:
    from crossdock.embedded.app import Registry
    from crossdock.embedded.routes import Route

MAX_TAGS = 100  # of one PUT; distribution-spec: "at least 10"


async def pull(registry: Registry, request: web.Request, route: Route) -> web.Response:
    """GET and HEAD of a manifest, which is never converted, whatever the client accepts."""
    reference = route.argument
    _check_reference(reference)
    repository = await in_thread(registry.repositories.existing, route.name)
    async with repository.reading if repository.is_unread and ":" in reference else nullcontext():
        descriptor = await in_thread(repository.manifest, reference)
    etag = f'"{descriptor.digest}"'
    headers = {
        "Content-Type": descriptor.media_type or "application/octet-stream",
        "Docker-Content-Digest": descriptor.digest,
        "ETag": etag,
    }
    if etag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    if request.method == "HEAD":
        return web.Response(headers={**headers, "Content-Length": str(descriptor.size)})
    try:
        data = await in_thread(repository.read, descriptor)
    except NotFound:
        raise Refused("MANIFEST_UNKNOWN", "manifest unknown", detail={"reference": reference}) from None
    return web.Response(body=data, headers=headers)


async def push(registry: Registry, request: web.Request, route: Route) -> web.Response:
    """PUT of a manifest under a tag, or under its digest and any ``tag`` of the query."""
    name, reference = route.name, route.argument
    tags = _check_reference(reference)
    by_digest = not tags
    if by_digest:
        tags = request.query.getall("tag", [])
        for tag in tags:
            _check_tag(tag)
        if len(tags) > MAX_TAGS:
            raise Refused("TAG_INVALID", f"more than {MAX_TAGS} tags at once", status=414)
    data = await receive_whole(request, MANIFEST_LIMIT, "a manifest")
    digest = await in_thread(_digest_of, data, reference if by_digest else None)
    async with registry.costly if len(data) > LARGE else nullcontext():
        manifest = await in_thread(_parse, data, request.headers.get("Content-Type"))
        descriptor = Descriptor(manifest.media_type, digest, len(data))
        repository = registry.repositories.at(name)
        await in_thread(repository.put_manifest, descriptor, manifest, data, tags)
    headers = {"Location": f"/v2/{name}/manifests/{reference}", "Docker-Content-Digest": digest}
    if manifest.subject is not None:
        headers["OCI-Subject"] = manifest.subject.digest
    if by_digest and tags:
        headers["OCI-Tag"] = ", ".join(tags)
    return web.Response(status=201, headers=headers)


async def delete(registry: Registry, request: web.Request, route: Route) -> web.Response:
    """DELETE of a tag, or of a manifest with all its tags."""
    name, reference = route.name, route.argument
    tags = _check_reference(reference)
    repository = await in_thread(registry.repositories.existing, name)
    if tags:
        await in_thread(repository.delete_tag, reference)
    else:
        await in_thread(repository.delete_manifest, Digest(reference))
    await in_thread(forget_deleted, repository)
    return web.Response(status=202)


def _check_reference(reference: str) -> list[str]:
    """The tag as a list, or an empty list for a digest. Raises `Refused` for anything else."""
    if ":" in reference:
        parse_digest(reference)
        return []
    _check_tag(reference)
    return [reference]


def _check_tag(tag: str) -> None:
    if not is_tag(tag):
        raise Refused("TAG_INVALID", "invalid tag", detail={"tag": tag})


def _digest_of(data: bytes, named: str | None) -> Digest:
    if named is None:
        return Digest.of(data)
    digest = parse_digest(named)
    actual = Digest.of(data, digest.algorithm)
    if actual != digest:
        raise Refused(
            "DIGEST_INVALID", "provided digest did not match uploaded content", detail={"actual": actual}
        )
    return digest


def _parse(data: bytes, content_type: str | None) -> Manifest:
    given = mediatype.bare(content_type)
    if given and not mediatype.is_manifest(given) and given != "application/octet-stream":
        raise Refused("MANIFEST_INVALID", f"{given} is not the type of a manifest", status=415)
    try:
        manifest = parse_manifest(data, given, Limits(size=MANIFEST_LIMIT))
    except (InvalidManifest, LimitExceeded) as error:
        raise Refused("MANIFEST_INVALID", str(error)) from None
    if mediatype.is_manifest(given) and manifest.media_type != given:
        # "If a manifest includes a mediaType field, clients MUST set the Content-Type header to the value
        # specified by the mediaType field" (distribution-spec, "Pushing Manifests").
        raise Refused("MANIFEST_INVALID", f"mediaType is {manifest.media_type}, Content-Type {given}")
    return manifest
