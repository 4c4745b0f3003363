"""The API of a registry that lists its manifests, if there is one, and how earlier questions to it ended.

A question to such an API is optional: whatever it answers, the list of tags is there. So every refusal means
"no such list" to the caller, and a repository that the API does not know is left to the list of tags (L7).

The API is known by the host's name, or by the service that the registry's challenge names. Elsewhere the
first repository is asked for in each way that is left; the one that has answered is remembered for the host
(`HostMemory.bulk`), and one that is certainly not there is never asked again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing
from importlib import import_module
from typing import TYPE_CHECKING

from crossdock.activity import CURRENT
from crossdock.content import ManifestRow
from crossdock.errors import (
    CrossdockError,
    LimitExceeded,
    ProtocolError,
    RegistryError,
    Unsupported,
    root_cause,
)
from crossdock.oci.registryname import split_key
from crossdock.registry.listings.api import Api, Asked
from crossdock.registry.listings.rows import merged
from crossdock.registry.pages import LeftOut, OnWarning

if TYPE_CHECKING:
    from crossdock.registry.handle import Repository

_log = logging.getLogger(__name__)

_NONE = ("mcr.microsoft.com",)  # hosts without an API whose kind has one
_SERVICES = {"harbor-registry": "harbor", "quay.io": "quay"}  # of challenges
_TRIED = ("azure", "harbor", "quay", "google")
_NOT_THERE = frozenset({400, 404, 405, 406, 410, 415, 501})

MOST_ENTRIES = 200_000  # of one list; each takes half a KiB here
MOST_KEPT = 200_000  # rows of lists that came with the list of repositories
KEPT_S = 600.0  # for which these may be used
_MISSES = 5  # refusals or failures in a row, after which an API is given up
_DOUBTS = 50  # repositories that are not there, as one that never answered says: a target may begin with many


class Bulk:
    """The lists of manifests at one host, as far as they are known."""

    def __init__(self, host: str, known: str | None, *, is_sure: bool) -> None:
        """`known`: by its kind, as `Kind.lists`. Unless `is_sure`, a proxy may have answered for it."""
        if split_key(host)[0] in _NONE:
            known, is_sure = "none", True
        self.is_sure = is_sure and known is not None
        first = () if known in (None, "none") else (known,)
        self.left: tuple[str, ...] = first if self.is_sure else tuple(dict.fromkeys((*first, *_TRIED)))
        self.asking = asyncio.Lock()
        self.page: int | None = None
        """Entries of a page that the API is known to take."""
        self.signer: object = None
        """Signs requests to an API on another host (`ecr`)."""
        self._kept: dict[str, tuple[float, list[ManifestRow]]] = {}
        self._misses = self._doubts = self._kept_rows = 0
        self._was_hinted = False

    def keep(self, path: str, rows: list[ManifestRow], listed_at: float) -> None:
        """Rows that the list of repositories told, for the repository's own list, if there is room."""
        self.take(path, listed_at)
        if self._kept_rows + len(rows) <= MOST_KEPT:
            self._kept[path] = listed_at, rows
            self._kept_rows += len(rows)

    def take(self, path: str, since: float) -> tuple[float, list[ManifestRow]] | None:
        """Rows that were kept for the repository at `since` or later, which are then forgotten."""
        listed_at, rows = self._kept.pop(path, (0.0, []))
        self._kept_rows -= len(rows)
        return (listed_at, rows) if rows and listed_at >= since else None

    def hint(self, service: str) -> None:
        """Learn from the name of the token service."""
        if not self._was_hinted and service in _SERVICES:
            self._was_hinted = True
            self.left = (_SERVICES[service], *(each for each in self.left if each != _SERVICES[service]))

    def answered(self, api: str) -> None:
        """Note that the API listed a repository."""
        self.left, self.is_sure, self._misses = (api,), True, 0
        self._doubts = 0

    def drop(self, *apis: str) -> None:
        """Note that the registry does not have these APIs."""
        self.left = tuple(each for each in self.left if each not in apis)

    def missed(self) -> None:
        """Note that a request was refused, or failed."""
        self._misses += 1
        if self._misses >= _MISSES:
            self.left = ()

    def doubted(self) -> None:
        """Note that all APIs that are left may exist, and respond that the repository does not."""
        self._doubts += 1
        if self._doubts >= _DOUBTS:
            self.left = ()


async def list_manifests(
    repository: Repository,
    on_warning: OnWarning | None = None,
    *,
    untagged: bool = False,
    needed: bool = False,
) -> list[ManifestRow] | None:
    """As `content.ListsManifests`. # network"""
    bulk = bulk_of(repository)
    if not bulk.is_sure and bulk.left:
        async with bulk.asking:  # one repository after the other, until it is known which API there is
            if not bulk.is_sure:
                return await _try_all(bulk, repository, on_warning, untagged, needed)
    if not bulk.left:
        return None
    name = bulk.left[0]
    api, asked = load(name), Asked(repository)
    if untagged and not api.shows_untagged:
        return None
    try:
        rows = await _rows(api, asked, on_warning)
    except CrossdockError as error:
        _log.debug("%s list of %s: %s", api.name, repository.path, error)
        if isinstance(error, Unsupported) and not error.status:  # this machine cannot ask
            bulk.drop(name)
        elif _status(error) != 404:
            bulk.missed()
            if needed:
                raise
        return None
    bulk.answered(name)
    return rows if asked.sees_all or needed or not untagged else None


def bulk_of(repository: Repository) -> Bulk:
    """The lists of the repository's host."""
    memory = repository.memory
    if memory.bulk is None:
        memory.bulk = Bulk(repository.client.host, memory.kind.lists, is_sure=memory.is_named)
    memory.bulk.hint(repository.client.auth.service)
    return memory.bulk


def load(name: str) -> Api:
    """The API; its module is loaded when it is needed."""
    api: Api = import_module(f"crossdock.registry.listings.{name}").API
    return api


async def _try_all(
    bulk: Bulk, repository: Repository, on_warning: OnWarning | None, untagged: bool, needed: bool
) -> list[ManifestRow] | None:
    """The rows by the first API that lists the repository."""
    doubt: CrossdockError | None = None
    for name in bulk.left:
        if name not in bulk.left:
            continue
        api, asked = load(name), Asked(repository, retries=needed)
        if not api.has(repository.path):
            continue
        try:
            rows = await _rows(api, asked, on_warning)
        except CrossdockError as error:
            _log.debug("%s list of %s: %s", api.name, repository.path, error)
            if _is_absent(api, asked, error):
                bulk.drop(name)
            elif not asked.not_found:
                doubt = doubt or error
            bulk.hint(repository.client.auth.service)
            continue
        bulk.answered(name)
        return rows if (api.shows_untagged and (asked.sees_all or needed)) or not untagged else None
    if doubt is None:
        bulk.doubted()
        return None
    bulk.missed()
    if needed:
        raise doubt
    return None


def _is_absent(api: Api, asked: Asked, error: CrossdockError) -> bool:
    """Whether the API is certainly not there: a refusal, or a repository that is missing, does not say so."""
    if asked.not_found:
        return not api.knows(asked.not_found)
    return isinstance(error, ProtocolError) or _status(error) in _NOT_THERE


def _status(error: CrossdockError) -> int:
    cause = root_cause(error)
    return cause.status if isinstance(cause, RegistryError) else 0


async def _rows(api: Api, asked: Asked, on_warning: OnWarning | None) -> list[ManifestRow]:
    """Every manifest of the repository. Raises as `pages.pages`."""
    started = time.monotonic()
    activity = CURRENT.get()
    since = max(started - KEPT_S, activity.since if activity is not None else 0.0)
    found: list[ManifestRow] = []
    left_out = LeftOut()
    kept = bulk_of(asked).take(asked.path, since) if api.comes_with_names else None
    if kept is not None:
        started, found = kept
    else:
        async with aclosing(api.walk(asked)) as walk:
            async for page in walk:
                found += page.entries
                left_out.add(page.odd)
                if len(found) > MOST_ENTRIES:
                    raise LimitExceeded(f"{asked.path} has over {MOST_ENTRIES} manifests", limit=MOST_ENTRIES)
    rows = merged(found)
    if rows is None:
        raise ProtocolError(f"the list of {asked.path} changed while it was read")
    left_out.tell(on_warning, f"list of manifests of {asked.path}")
    if api.shows_attached:  # the engine looks for what is attached among them
        tags = frozenset(tag for row in rows for tag in row.tags if tag.startswith("sha256-"))
        asked.memory.note_digest_tags(asked.path, tags, started)
    return rows
