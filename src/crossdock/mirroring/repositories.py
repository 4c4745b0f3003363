"""Which repositories of a source are wanted: named ones, or those of its catalog."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from crossdock.errors import Advice, CopyError, RegistryError, root_cause
from crossdock.mirroring.entry import Entry
from crossdock.mirroring.names import Namespace
from crossdock.steps import during

if TYPE_CHECKING:
    from crossdock.runs.places import Places

_REFUSED = frozenset({400, 401, 403, 404, 405, 501})


class Repositories:
    """The repositories of one entry's source."""

    def __init__(self, entry: Entry, places: Places, on_warning: Callable[[str], None]) -> None:
        """Raises `InvalidInput` for an invalid repository name; no I/O."""
        self._entry = entry
        self._places = places
        self._on_warning = on_warning
        self._named = entry.named if isinstance(entry.source, Namespace) else [""]
        self.in_catalog: list[str] | None = None
        """All that the registry lists, once it was asked."""

    @property
    def is_named(self) -> bool:
        """The repositories are named without patterns, so that the catalog is not needed."""
        return self._named is not None

    async def names(self) -> list[str]:
        """The names below the prefix, as they were given or in the catalog's order. # network

        A layout is one repository without a name. Raises `CopyError`, with advice where the registry does not
        show its catalog.
        """
        source = self._entry.source
        if self._named is not None or not isinstance(source, Namespace):
            return self._named or []
        self.in_catalog = list(dict.fromkeys(await self._catalog(source)))
        below = [name for each in self.in_catalog if (name := source.name_of(each)) is not None]
        return [name for name in below if self._entry.repositories.wants(name)]

    async def _catalog(self, source: Namespace) -> list[str]:
        try:
            with during("list repositories of", "source", str(source)):
                registry = source.reference("catalog")
                return await self._places.repositories(
                    registry, on_warning=self._on_warning, prefix=source.prefix
                )
        except CopyError as error:
            cause = root_cause(error)
            if not isinstance(cause, RegistryError) or cause.status not in _REFUSED:
                raise
            raise error.replace(advice=Advice("name-repositories", side="source")) from cause
