"""The metadata API of Azure's registries, ``/acr/v1``: repositories, manifests and tags with what is known of
them.

Paths, fields and paging are those of Azure.ContainerRegistry 2021-07-01. A layout keeps no times but those of
its files: both times of a manifest, and of a tag, are the moment the manifest was last pushed. PATCH changes
`locks`; manifests are deleted under ``/v2``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from aiohttp import web

from crossdock.embedded.acr.locks import BODY_LIMIT, Change, change_locks, forget_deleted, read_locks
from crossdock.embedded.answers import Refused, json_answer
from crossdock.embedded.bodies import receive_whole
from crossdock.embedded.repositories import MANIFEST_LIMIT, Repository, parse_digest
from crossdock.errors import ContentError, NotFound
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import Manifest, parse_manifest
from crossdock.oci.metadata import (
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
from crossdock.store.files import in_thread
from crossdock.store.indexfile import name_of

if TYPE_CHECKING:
    from crossdock.embedded.app import Registry
    from crossdock.embedded.routing import Route

PAGE = 100  # entries of an answer without `n`, as the service has it
MAX_PAGE = 1000
_ORDERS = {"": False, "none": False, "timeasc": False, "timedesc": True}  # → newest first

Key = tuple[int, str]  # a time in ns (0 when the order is by name), and a digest or tag


async def answer(registry: Registry, request: web.Request, asked: Route) -> web.Response:
    """The answer for a route that begins with ``acr-``. Raises `Refused`, `StoreError`."""
    name, argument = asked.name, asked.argument
    if asked.endpoint == "acr-catalog":
        names = await in_thread(registry.repositories.names)
        page, headers = _page(request, [(0, each) for each in names], by_time=False)
        return json_answer({"repositories": page}, headers=headers)
    repository = await in_thread(registry.repositories.existing, name)
    if request.method == "DELETE":
        return await _delete(registry, repository, asked)
    change = None
    if request.method == "PATCH":
        change = Change.from_json(await receive_whole(request, BODY_LIMIT, "a change of attributes"))
    listing = await in_thread(_Listing, repository)
    if change is not None:
        await in_thread(listing.change, change, asked)
    about = {"registry": request.host, "imageName": name}
    match asked.endpoint:
        case "acr-manifests":
            by_time = _by_time(request)
            keys = await in_thread(listing.manifest_keys, by_time)
            page, headers = _page(request, keys, by_time=by_time)
            entries = await in_thread(listing.manifests, page)
            return json_answer({**about, "manifests": entries}, headers=headers)
        case "acr-manifest":
            entry = await in_thread(listing.manifest, argument)
            return json_answer({**about, "manifest": entry})
        case "acr-tags":
            by_time, digest = _by_time(request), request.query.get("digest")
            keys = await in_thread(listing.tag_keys, by_time, parse_digest(digest) if digest else None)
            page, headers = _page(request, keys, by_time=by_time)
            return json_answer({**about, "tags": await in_thread(listing.tags, page)}, headers=headers)
        case "acr-tag":
            return json_answer({**about, "tag": await in_thread(listing.tag, argument)})
        case _:
            return json_answer({**about, **await in_thread(listing.summary)})


async def _delete(registry: Registry, repository: Repository, asked: Route) -> web.Response:
    """A tag alone, or the whole repository, of which the answer lists what it had."""
    if asked.endpoint == "acr-tag":
        await in_thread(repository.delete_tag, asked.argument)
        await in_thread(forget_deleted, repository)
        return web.Response(status=202)
    manifests, tags = await in_thread(repository.known), await in_thread(repository.tags)
    await in_thread(registry.repositories.delete, asked.name)
    return json_answer({"manifestsDeleted": sorted(manifests), "tagsDeleted": tags}, status=202)


class _Listing:
    """One repository as it is listed. Blocking."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.locks = read_locks(repository.files.folder)

    def change(self, change: Change, asked: Route) -> None:
        """Change the attributes of what is `asked` for. Raises `Refused` when it is not there."""
        digest = tag = ""
        if asked.endpoint == "acr-manifest":
            digest = self.repository.manifest(parse_digest(asked.argument)).digest
        elif asked.endpoint == "acr-tag":
            tag = self.tag(asked.argument)["name"]
        self.locks = change_locks(self.repository, change, digest=digest, tag=tag)

    def manifest_keys(self, by_time: bool) -> list[Key]:
        return [
            (self._time(digest) if by_time else 0, digest)
            for digest in self.repository.known()
            if self.locks.of_manifest(digest).list_enabled
        ]

    def tag_keys(self, by_time: bool, digest: Digest | None) -> list[Key]:
        return [
            (self._time(found) if by_time else 0, name)
            for name, found in self._tagged().items()
            if digest in (None, found) and self.locks.of_tag(name).list_enabled
        ]

    def manifests(self, digests: Iterable[str]) -> list[Entry]:
        known, names = self.repository.known(), tags_by_digest(self._tagged().items())
        found = (known.get(Digest(digest)) for digest in digests)
        return [self._entry(each, names.get(each.digest, [])) for each in found if each is not None]

    def manifest(self, reference: str) -> Entry:
        descriptor = self.repository.manifest(parse_digest(reference))
        names = tags_by_digest(self._tagged().items())
        return self._entry(descriptor, names.get(descriptor.digest, []))

    def tags(self, names: Iterable[str]) -> list[Entry]:
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
        found = self.tags([name])
        if not found:
            raise Refused("MANIFEST_UNKNOWN", "tag unknown", detail={"tag": name})
        return found[0]

    def summary(self) -> Entry:
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
        """When the manifest's file was written, in ns; 0 when it is gone meanwhile."""
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
        """None for what is no manifest, or gone: the listing goes on without it."""
        try:
            data = self.repository.files.read(descriptor.digest, MANIFEST_LIMIT)
            return parse_manifest(data, descriptor.media_type)
        except (ContentError, NotFound):
            return None

    def _size(self, manifest: Manifest) -> int:
        """Of an index, what its children have together; they are not indexes again in practice."""
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
    """The names that `n` and `last` ask for, and a Link to the next page if there is one."""
    order = request.query.get("orderby", "")
    newest_first = by_time and _ORDERS[order]
    keys.sort(reverse=newest_first)
    last = request.query.get("last", "")
    if last:
        at = _key_of(last, keys) if by_time else (0, last)
        is_after: Callable[[Key], bool] = (lambda key: key < at) if newest_first else (lambda key: key > at)
        keys = [key for key in keys if is_after(key)]
    page = keys[: _size_of(request)]
    names = [name for _, name in page]
    if len(page) == len(keys):
        return names, {}
    # By time the last entry's time goes along: whoever deletes what was listed finds the next page even so.
    mark = f"{page[-1][0]},{names[-1]}" if by_time else names[-1]
    query = urlencode({"last": mark, "n": len(page), "orderby": order})
    return names, {"Link": f'<{request.path}?{query}>; rel="next"'}


def _key_of(last: str, keys: list[Key]) -> Key:
    """The place that `last` means in an order by time: a mark of ours, or the name of an entry."""
    time, comma, name = last.partition(",")
    if comma and time.isascii() and time.isdigit() and len(time) < 20:
        return int(time), name
    for key in keys:
        if key[1] == last:
            return key
    raise Refused("PAGINATION_NUMBER_INVALID", "last is not in the list", detail={"last": last})


def _size_of(request: web.Request) -> int:
    given = request.query.get("n", str(PAGE))
    if not (given.isascii() and given.isdigit() and len(given) < 10) or int(given) == 0:
        raise Refused("PAGINATION_NUMBER_INVALID", "n must be a number from 1", detail={"n": given})
    return min(int(given), MAX_PAGE)
