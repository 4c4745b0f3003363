"""What there is to mirror: repositories by the catalog, tags, manifests without one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from msgspec import Struct

from crossdock.errors import CopyError, InvalidDigest, NotFound, RegistryError, root_cause
from crossdock.mirroring.names import Namespace, Selection, listed_subject
from crossdock.oci.digest import Digest
from crossdock.transfer.blob import during

if TYPE_CHECKING:
    from crossdock.registry.client import RegistryClient

_REFUSED = frozenset({400, 401, 403, 404, 405, 501})
_NO_CATALOG = (
    "use credentials that may list the catalog, or name the repositories, without patterns, by --repository: "
    "then it is not asked for"
)
_NO_LIST = "leave --untagged away: only registries with Azure's API (/acr/v1) list manifests without a tag"


class Item(Struct, frozen=True):
    """One thing to copy: a tag, or a manifest without one. ``repository`` is its name below the prefix."""

    repository: str
    tag: str | None = None
    digest: Digest | None = None


class Contents(Struct, frozen=True):
    """What is wanted of one repository."""

    referrers_lists: list[Item]  # of the Referrers Tag Schema, to be copied before what they are about
    items: list[Item]


class Listing:
    """Lists a source. Each repository's tags are asked for once."""

    def __init__(
        self,
        client: RegistryClient,
        source: Namespace,
        selection: Selection,
        *,
        untagged: bool = False,
        referrers: bool = True,
    ) -> None:
        self._client = client
        self._source = source
        self._selection = selection
        self._untagged = untagged
        self._referrers = referrers
        self._named = selection.named(source)

    async def repositories(self) -> list[str]:
        """The names below the prefix, as they were given or in the catalog's order. # network

        Raises `CopyError`, with a hint where the registry does not show its catalog.
        """
        if self._named is not None:
            return self._named
        from crossdock.registry.metadata import list_repositories

        try:
            with during("list repositories of", "source", str(self._source)):
                found = await list_repositories(self._client)
        except CopyError as error:
            cause = root_cause(error)
            if isinstance(cause, RegistryError) and cause.status in _REFUSED:
                error.hint = _NO_CATALOG
            raise
        below = [name for each in dict.fromkeys(found) if (name := self._source.name_of(each)) is not None]
        return [name for name in below if self._selection.wants_repository(name)]

    async def contents(self, name: str) -> Contents:
        """What is wanted of the repository. # network

        One that the catalog has and that has no tags, which distribution calls unknown, is empty. Raises
        `CopyError`.
        """
        from crossdock.registry.auth import Scope
        from crossdock.registry.tags import list_tags

        reference = self._source.reference(name)
        repository = reference.repository
        try:
            with during("list tags of", "source", reference.locator):
                tags = await list_tags(self._client, repository, Scope.pull(repository))
        except CopyError as error:
            if self._named is not None or not isinstance(root_cause(error), NotFound):
                raise
            tags = []
        # The engine looks for what is attached among the tags of digests: here they are.
        digest_tags = frozenset(tag for tag in tags if tag.startswith("sha256-"))
        self._client.memory.note_digest_tags(repository, digest_tags)
        wanted = [Item(name, tag) for tag in tags if self._selection.wants_tag(tag)]
        lists = [each for each in wanted if listed_subject(each.tag or "") is not None]
        items = [each for each in wanted if listed_subject(each.tag or "") is None]
        if self._untagged:
            items += [Item(name, digest=digest) for digest in await self._without_tag(name, bool(tags))]
        return Contents(lists if self._referrers else [], items)

    async def items(self) -> AsyncIterator[Item | CopyError]:
        """Everything, repository by repository; a `CopyError` for one that cannot be listed. # network"""
        for name in await self.repositories():
            try:
                found = await self.contents(name)
            except UntaggedUnlisted:
                raise
            except CopyError as error:
                yield error
                continue
            for item in (*found.referrers_lists, *found.items):
                yield item

    async def _without_tag(self, name: str, exists: bool) -> list[Digest]:
        from crossdock.registry.metadata import manifest_entries

        reference = self._source.reference(name)
        with during("list manifests of", "source", reference.locator):
            entries = await manifest_entries(self._client, reference.repository, None, None)
        if entries is None and exists:
            raise UntaggedUnlisted(
                f"list manifests of source {reference.locator}: the registry has no API for that",
                hint=_NO_LIST,
                operation="list manifests of",
                side="source",
                reference=reference.locator,
            )
        return [found for entry in entries or () if (found := _untagged_digest(entry)) is not None]


class UntaggedUnlisted(CopyError):
    """Manifests without a tag are wanted, and the source cannot list them."""


def _untagged_digest(entry: dict[str, object]) -> Digest | None:
    if entry.get("tags"):
        return None
    try:
        return Digest(str(entry.get("digest", "")))
    except InvalidDigest:
        return None
