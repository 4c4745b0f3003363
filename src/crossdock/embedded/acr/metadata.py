"""The metadata API of Azure's registries, ``/acr/v1``, for repositories, manifests and tags.

Paths, fields and paging are those of Azure.ContainerRegistry 2021-07-01. A layout has no times except those
of its files, so both times of a manifest or tag are the time at which the manifest was last pushed. PATCH
changes `locks`; manifests are deleted under ``/v2``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from aiohttp import web

from crossdock.embedded.acr.locks import BODY_LIMIT, Change, change_locks, forget_deleted, read_locks
from crossdock.embedded.bodies import receive_whole
from crossdock.embedded.repositories import MANIFEST_LIMIT, Repository, parse_digest
from crossdock.embedded.responses import Refused, json_response, page_size
from crossdock.errors import ContentError, NotFound
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import Manifest, parse_manifest
from crossdock.protocol.metadata import (
    CONFIG_LIMIT,
    Entry,
    ImageConfig,
    has_platform,
    image_size,
    manifest_entry,
    read_config,
    tag_entry,
    tags_by_digest,
    timestamp,
)
from crossdock.protocol.pagination import next_link
from crossdock.store.indexfile import name_of
from crossdock.tasks import in_thread

if TYPE_CHECKING:
    from crossdock.embedded.app import Registry
    from crossdock.embedded.routes import Route

PAGE = 100  # entries of a page without `n`, as with Azure
MAX_PAGE = 1000
_ORDERS = {"": False, "none": False, "timeasc": False, "timedesc": True}  # → newest first

Key = tuple[int, str]  # a time in ns (0 when the order is by name), and a digest or tag


async def catalog(registry: Registry, request: web.Request, route: Route) -> web.Response:
    """The repositories, a page at a time."""
    names = await in_thread(registry.repositories.names)
    page, headers = _page(request, [(0, each) for each in names], by_time=False)
    return json_response({"repositories": page}, headers=headers)


async def repository(registry: Registry, request: web.Request, route: Route) -> web.Response:
    """GET and PATCH of a repository's entry."""
    listing = await _listing(registry, request, route)
    return _response(request, route, **await in_thread(listing.summary))


async def manifests(registry: Registry, request: web.Request, route: Route) -> web.Response:
    """The manifests of a repository, a page at a time."""
    listing, by_time = await _listing(registry, request, route), _by_time(request)
    page, headers = _page(request, await in_thread(listing.manifest_keys, by_time), by_time=by_time)
    return _response(request, route, headers, manifests=await in_thread(listing.manifests, page))


async def manifest(registry: Registry, request: web.Request, route: Route) -> web.Response:
    """GET and PATCH of a manifest's entry."""
    listing = await _listing(registry, request, route)
    return _response(request, route, manifest=await in_thread(listing.manifest, route.argument))


async def tags(registry: Registry, request: web.Request, route: Route) -> web.Response:
    """The tags of a repository, or of one ``digest``, a page at a time."""
    listing, by_time = await _listing(registry, request, route), _by_time(request)
    digest = parse_digest(request.query["digest"]) if request.query.get("digest") else None
    page, headers = _page(request, await in_thread(listing.tag_keys, by_time, digest), by_time=by_time)
    return _response(request, route, headers, tags=await in_thread(listing.tags, page))


async def tag(registry: Registry, request: web.Request, route: Route) -> web.Response:
    """GET and PATCH of a tag's entry."""
    listing = await _listing(registry, request, route)
    return _response(request, route, tag=await in_thread(listing.tag, route.argument))


async def delete_tag(registry: Registry, request: web.Request, route: Route) -> web.Response:
    """DELETE of a tag; its manifest stays."""
    repository = await in_thread(registry.repositories.existing, route.name)
    await in_thread(repository.delete_tag, route.argument)
    await in_thread(forget_deleted, repository)
    return web.Response(status=202)


async def delete_repository(registry: Registry, request: web.Request, route: Route) -> web.Response:
    """DELETE of a repository; the response lists its tags and manifests."""
    repository = await in_thread(registry.repositories.existing, route.name)
    manifests, tags = await in_thread(repository.known), await in_thread(repository.tags)
    await in_thread(registry.repositories.delete, route.name)
    return json_response({"manifestsDeleted": sorted(manifests), "tagsDeleted": tags}, status=202)


async def _listing(registry: Registry, request: web.Request, route: Route) -> Listing:
    """The repository's listing, after a PATCH has been applied. Raises `Refused`, `StoreError`."""
    repository = await in_thread(registry.repositories.existing, route.name)
    if request.method != "PATCH":
        return await in_thread(Listing, repository)
    change = Change.from_json(await receive_whole(request, BODY_LIMIT, "a change of attributes"))
    listing = await in_thread(Listing, repository)
    await in_thread(listing.change, change, route)
    return listing


def _response(
    request: web.Request, route: Route, headers: dict[str, str] | None = None, **more: object
) -> web.Response:
    return json_response({"registry": request.host, "imageName": route.name, **more}, headers=headers)


class Listing:
    """The entries of one repository. Blocking."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.locks = read_locks(repository.files.folder)

    def change(self, change: Change, route: Route) -> None:
        """Change the attributes of the item at `route`. Raises `Refused` if it does not exist."""
        digest = tag = ""
        if route.endpoint == "acr-manifest":
            digest = self.repository.manifest(parse_digest(route.argument)).digest
        elif route.endpoint == "acr-tag":
            tag = self.tag(route.argument)["name"]
        self.locks = change_locks(self.repository, change, digest=digest, tag=tag)

    def manifest_keys(self, by_time: bool) -> list[Key]:
        """The manifests that locks do not hide."""
        return [
            (self._time(digest) if by_time else 0, digest)
            for digest in self.repository.known()
            if self.locks.of_manifest(digest).list_enabled
        ]

    def tag_keys(self, by_time: bool, digest: Digest | None) -> list[Key]:
        """The tags, or those of one manifest, that locks do not hide."""
        return [
            (self._time(found) if by_time else 0, name)
            for name, found in self._tagged().items()
            if digest in (None, found) and self.locks.of_tag(name).list_enabled
        ]

    def manifests(self, digests: Iterable[str]) -> list[Entry]:
        """The entries of these manifests that exist."""
        known, names = self.repository.known(), self.tags_of_digests()
        found = (known.get(Digest(digest)) for digest in digests)
        return [self._entry(each, names.get(each.digest, [])) for each in found if each is not None]

    def tags_of_digests(self) -> dict[Digest, list[str]]:
        """The tags of each manifest that has some."""
        return tags_by_digest(self._tagged().items())

    def manifest(self, reference: str) -> Entry:
        """The entry of the manifest with this digest. Raises `Refused`."""
        descriptor = self.repository.manifest(parse_digest(reference))
        return self._entry(descriptor, self.tags_of_digests().get(descriptor.digest, []))

    def tags(self, names: Iterable[str]) -> list[Entry]:
        """The entries of these tags that exist."""
        tagged = self._tagged()
        return [
            {
                **tag_entry(name, digest, self._time(digest)),
                "changeableAttributes": self.locks.of_tag(name).document(),
            }
            for name in names
            if (digest := tagged.get(name)) is not None
        ]

    def tag(self, name: str) -> Entry:
        """The entry of a tag. Raises `Refused`."""
        found = self.tags([name])
        if not found:
            raise Refused("MANIFEST_UNKNOWN", "tag unknown", detail={"tag": name})
        return found[0]

    def summary(self) -> Entry:
        """The entry of the repository."""
        times = [self._time(digest) for digest in self.repository.known()]
        return {
            "createdTime": timestamp(min(times, default=0)),
            "lastUpdateTime": timestamp(max(times, default=0)),
            "manifestCount": len(times),
            "tagCount": len(self._tagged()),
            "changeableAttributes": self.locks.repository.document(),
        }

    def _tagged(self) -> dict[str, Digest]:
        known, tags = self.repository.known(), set(self.repository.tags())
        named = ((name_of(entry), entry["digest"]) for entry in self.repository.index.entries())
        return {name: known[digest].digest for name, digest in named if name in tags and digest in known}

    def _time(self, digest: Digest) -> int:
        """The time at which the manifest's file was written, in ns; 0 if it no longer exists."""
        found = self.repository.files.stat(digest)
        return found.st_mtime_ns if found is not None else 0

    def _entry(self, descriptor: Descriptor, tags: list[str]) -> Entry:
        manifest = self._read(descriptor)
        entry = manifest_entry(
            descriptor,
            manifest,
            size=self._size(manifest) if manifest else 0,
            config=self._config(manifest),
            tags=tags,
            time=self._time(descriptor.digest),
        )
        return {**entry, "changeableAttributes": self.locks.of_manifest(descriptor.digest).document()}

    def _read(self, descriptor: Descriptor) -> Manifest | None:
        """The manifest, or None if the file is missing or not a manifest, for which the entry is short."""
        try:
            data = self.repository.files.read(descriptor.digest, MANIFEST_LIMIT)
            return parse_manifest(data, descriptor.media_type)
        except (ContentError, NotFound):
            return None

    def _size(self, manifest: Manifest) -> int:
        """The size of an image; of an index the sum of its children. Nested indexes do not occur in
        practice."""
        children = (self.repository.facts.of(child) for child in manifest.manifests)
        return image_size(manifest) + sum(child.image_size for child in children)

    def _config(self, manifest: Manifest | None) -> ImageConfig:
        config = manifest.config if manifest else None
        if config is None or not has_platform(config):
            return ImageConfig()
        try:
            return read_config(self.repository.files.read(config.digest, CONFIG_LIMIT))
        except (ContentError, NotFound):
            return ImageConfig()


# -- paging ----------------------------------------------------------------------------------------------


def _by_time(request: web.Request) -> bool:
    order = request.query.get("orderby", "")
    if order not in _ORDERS:
        raise Refused(
            "UNSUPPORTED", "orderby is timeasc, timedesc or none", status=400, detail={"orderby": order}
        )
    return order.startswith("time")


def _page(request: web.Request, keys: list[Key], *, by_time: bool) -> tuple[list[str], dict[str, str]]:
    """The names of the page that `n` and `last` request, and a Link to the next page if there is one."""
    order = request.query.get("orderby", "")
    newest_first = by_time and _ORDERS[order]
    keys.sort(reverse=newest_first)
    last = request.query.get("last", "")
    if last:
        at = _key_of(last, keys) if by_time else (0, last)
        is_after: Callable[[Key], bool] = (lambda key: key < at) if newest_first else (lambda key: key > at)
        keys = [key for key in keys if is_after(key)]
    page = keys[: page_size(request.query.get("n", str(PAGE)), 1, MAX_PAGE)]
    names = [name for _, name in page]
    if len(page) == len(keys):
        return names, {}
    # In an order by time the mark has the last entry's time, so that a client that deletes the listed entries
    # still
    # finds the next page.
    mark = f"{page[-1][0]},{names[-1]}" if by_time else names[-1]
    return names, {"Link": next_link(request.path, {"last": mark, "n": len(page), "orderby": order})}


def _key_of(last: str, keys: list[Key]) -> Key:
    """The position of `last` in an order by time; `last` is a mark of `_page` or the name of an entry."""
    time, comma, name = last.partition(",")
    if comma and time.isascii() and time.isdigit() and len(time) < 20:
        return int(time), name
    for key in keys:
        if key[1] == last:
            return key
    raise Refused("PAGINATION_NUMBER_INVALID", "last is not in the list", detail={"last": last})
