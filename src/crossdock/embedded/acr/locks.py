"""Locks: the ``changeableAttributes`` of repositories, manifests and tags, and what they forbid.

They are stored in a hidden file of the layout, so they move with the folder; without the file nothing is
locked. As with Azure's registries:

- ``writeEnabled`` false forbids push and delete, ``deleteEnabled`` false delete, ``readEnabled`` false pull,
  and ``listEnabled`` false hides the item from lists.
- A repository's attributes apply to everything in it. A tag's attributes apply to this name only: its
  manifest can be pushed and pulled under another one. A manifest with a locked tag cannot be deleted.
- A refusal has ACR's code and status 405, which az does not retry.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from crossdock.embedded.responses import Refused
from crossdock.errors import ContentError, StoreError
from crossdock.store.files import explained, read_file, replace_file
from crossdock.store.folder import Folder

if TYPE_CHECKING:
    from crossdock.embedded.repositories import Repository
    from crossdock.embedded.routes import Route

FILE_NAME = ".crossdock-locks.json"
FILE_LIMIT = 32 << 20  # bytes, the same as for index.json
BODY_LIMIT = 64 << 10  # bytes of a PATCH
DISALLOWED = (
    "The operation is disallowed on this registry, repository or image. The attributes of {} do not allow it."
)

_mutex = threading.Lock()  # around each change, which takes microseconds


class Attributes(Struct, frozen=True, rename="camel", omit_defaults=True):
    """The attributes of one item. Only false ones are written to the file."""

    delete_enabled: bool = True
    write_enabled: bool = True
    read_enabled: bool = True
    list_enabled: bool = True

    def document(self) -> dict[str, bool]:
        """All four attributes, as in the API."""
        return {
            "deleteEnabled": self.delete_enabled,
            "writeEnabled": self.write_enabled,
            "readEnabled": self.read_enabled,
            "listEnabled": self.list_enabled,
        }

    @property
    def may_delete(self) -> bool:
        """Whether neither lock forbids it."""
        return self.delete_enabled and self.write_enabled


UNLOCKED = Attributes()


class Change(Struct, frozen=True, rename="camel"):
    """A PATCH: absent or null attributes are unchanged. The API's other members are ignored."""

    delete_enabled: bool | None = None
    write_enabled: bool | None = None
    read_enabled: bool | None = None
    list_enabled: bool | None = None

    @classmethod
    def from_json(cls, body: bytes) -> Change:
        """The change in a body. Raises `Refused`."""
        try:
            return msgspec.json.decode(body, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refused("UNSUPPORTED", f"the attributes cannot be read: {error}", status=400) from None

    def of(self, before: Attributes) -> Attributes:
        """`before` with the change."""
        given = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}
        return msgspec.structs.replace(before, **given)


class Locks(Struct, frozen=True, omit_defaults=True):
    """The attributes of all items in a repository that are not fully enabled."""

    repository: Attributes = UNLOCKED
    manifests: Mapping[str, Attributes] = {}  # by digest
    tags: Mapping[str, Attributes] = {}

    def of_manifest(self, digest: str) -> Attributes:
        """The attributes of a manifest."""
        return self.manifests.get(digest, UNLOCKED)

    def of_tag(self, name: str) -> Attributes:
        """The attributes of a tag."""
        return self.tags.get(name, UNLOCKED)

    def changed(self, change: Change, *, digest: str = "", tag: str = "") -> Locks:
        """These locks with `change` of a manifest, a tag, or else of the repository."""
        if digest:
            return msgspec.structs.replace(
                self, manifests=_with(self.manifests, digest, change.of(self.of_manifest(digest)))
            )
        if tag:
            return msgspec.structs.replace(self, tags=_with(self.tags, tag, change.of(self.of_tag(tag))))
        return msgspec.structs.replace(self, repository=change.of(self.repository))

    def only(self, digests: Iterable[str], tags: Iterable[str]) -> Locks:
        """The locks of the items that still exist."""
        held, named = set(digests), set(tags)
        return msgspec.structs.replace(
            self,
            manifests={digest: own for digest, own in self.manifests.items() if digest in held},
            tags={name: own for name, own in self.tags.items() if name in named},
        )


def may_have_locks(folder: Folder) -> bool:
    """Whether the repository may have locks: one lstat, the only cost for unlocked repositories."""
    return os.path.lexists(folder.path / FILE_NAME)


def read_locks(folder: Folder) -> Locks:
    """The locks of the repository in `folder`. Raises `StoreError`, `ContentError`. Blocks."""
    path = folder.path / FILE_NAME
    data = b"{}"
    with explained("cannot read", path), suppress(FileNotFoundError):
        data = read_file(folder, FILE_NAME, FILE_LIMIT + 1)
    if len(data) > FILE_LIMIT:
        raise ContentError(f"{path} has more than {FILE_LIMIT} bytes")
    try:
        return msgspec.json.decode(data, type=Locks)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ContentError(f"{path} is damaged: {error}") from None


def change_locks(repository: Repository, change: Change, *, digest: str = "", tag: str = "") -> Locks:
    """Change the attributes of one item and store them. Raises as `read_locks`. Blocks."""
    folder = repository.files.folder
    with _mutex:
        before = read_locks(folder)
        locks = before.changed(change, digest=digest, tag=tag)
        if locks != before:
            _write(folder, locks.only(repository.known(), repository.tags()))
    return locks


def forget_deleted(repository: Repository) -> None:
    """Drop the locks of deleted items, so that an item that is pushed again is unlocked. Blocks."""
    folder = repository.files.folder
    with _mutex:
        before = read_locks(folder)
        locks = before.only(repository.known(), repository.tags())
        if locks != before:
            _write(folder, locks)


def check_locks(repository: Repository, method: str, route: Route, tags: Sequence[str] = ()) -> None:
    """Raise `Refused` when the locks forbid a request. Blocks.

    `tags`: the tags that a push by digest sets.
    """
    if not repository.index.exists():
        return
    locks = read_locks(repository.files.folder)
    everything = locks.repository
    match route.endpoint, method:
        case ("manifest", "DELETE"):
            if ":" in route.argument:
                _refuse_manifest(repository, locks, route.argument)
            else:
                _refuse_unless(locks.of_tag(route.argument).may_delete, f"tag {route.argument}")
        case ("acr-tag", "DELETE"):
            _refuse_unless(locks.of_tag(route.argument).may_delete, f"tag {route.argument}")
        case ("acr-repository", "DELETE"):
            for kind, items in (("manifest", locks.manifests), ("tag", locks.tags)):
                for name, own in items.items():
                    _refuse_unless(own.may_delete, f"{kind} {name}")
        case ("manifest", "PUT"):
            for tag in (route.argument, *tags):
                _refuse_unless(locks.of_tag(tag).write_enabled, f"tag {tag}")
        case ("manifest", "GET" | "HEAD"):
            digest = route.argument
            if ":" not in digest:
                _refuse_unless(locks.of_tag(digest).read_enabled, f"tag {digest}")
                digest = repository.manifest(digest).digest
            _refuse_unless(locks.of_manifest(digest).read_enabled, f"manifest {digest}")
    if method == "DELETE" and route.endpoint != "upload":
        _refuse_unless(everything.may_delete, f"repository {repository.name}")
    elif method in ("PUT", "POST") or route.endpoint == "upload":
        _refuse_unless(everything.write_enabled, f"repository {repository.name}")
    elif route.endpoint in ("manifest", "blob"):
        _refuse_unless(everything.read_enabled, f"repository {repository.name}")


def listed_tags(repository: Repository, names: list[str]) -> list[str]:
    """The tags among `names` that are not hidden from lists. Blocks."""
    locks = read_locks(repository.files.folder)
    return [name for name in names if locks.of_tag(name).list_enabled]


def is_listed(folder: Folder) -> bool:
    """Whether the catalog shows the repository, which it does if its locks cannot be read. Blocks."""
    try:
        return read_locks(folder).repository.list_enabled
    except (StoreError, ContentError):
        return True


def _refuse_manifest(repository: Repository, locks: Locks, digest: str) -> None:
    _refuse_unless(locks.of_manifest(digest).may_delete, f"manifest {digest}")
    for name, own in locks.tags.items():
        if not own.may_delete and repository.manifest(name).digest == digest:
            _refuse_unless(False, f"tag {name}")


def _refuse_unless(allowed: bool, what: str) -> None:
    if not allowed:
        raise Refused("REGISTRY_DISALLOWED_OPERATION", DISALLOWED.format(what))


def _with(items: Mapping[str, Attributes], name: str, own: Attributes) -> dict[str, Attributes]:
    rest = {each: attributes for each, attributes in items.items() if each != name}
    return rest if own == UNLOCKED else {**rest, name: own}


def _write(folder: Folder, locks: Locks) -> None:
    with explained("cannot write", folder.path / FILE_NAME), folder.entered() as within:
        if locks != Locks():
            replace_file(within, FILE_NAME, msgspec.json.encode(locks))
        else:
            with suppress(FileNotFoundError):
                os.unlink(FILE_NAME, dir_fd=within)
