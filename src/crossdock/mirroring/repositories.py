"""The wanted repositories of a source, by name or from its catalog; and the reason when there are none."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from crossdock.errors import Advice, CopyError, NothingMatched, RegistryError, root_cause
from crossdock.mirroring.entry import Entry
from crossdock.mirroring.names import Namespace
from crossdock.oci.text import quote
from crossdock.steps import during
from crossdock.units import count

if TYPE_CHECKING:
    from crossdock.runs.places import Places

_REFUSED = frozenset({400, 401, 403, 404, 405, 501})
_PATTERNS = Advice(
    "correct-pattern",
    "patterns are a shell's (*, ?, [a-z]), for the whole name below the prefix, or /regular expressions/",
)


class Repositories:
    """The wanted repositories of one entry's source."""

    def __init__(self, entry: Entry, places: Places, on_warning: Callable[[str], None]) -> None:
        """Raises `InvalidInput` for an invalid repository name; no I/O."""
        self._entry = entry
        self._places = places
        self._on_warning = on_warning
        self._named = entry.named if isinstance(entry.source, Namespace) else [""]
        self._in_catalog: list[str] | None = None
        self._wanted = 0

    @property
    def is_named(self) -> bool:
        """The repositories are named without patterns, so that the catalog is not needed."""
        return self._named is not None

    async def names(self) -> list[str]:
        """The names below the prefix, as they were given or in the catalog's order. # network

        A layout is one repository without a name. Warns of patterns that match nothing, if others do. Raises
        `CopyError`, with advice where the registry does not show its catalog.
        """
        source, patterns = self._entry.source, self._entry.repositories
        if self._named is not None or not isinstance(source, Namespace):
            self._wanted = len(self._named or ())
            return self._named or []
        self._in_catalog = list(dict.fromkeys(await self._catalog(source)))
        below = _below(source, self._in_catalog)
        wanted = [name for name in below if patterns.wants(name)]
        for pattern in patterns.unmatched(below) if wanted else ():
            self._on_warning(f"no repository of {source} matches {quote(pattern)}")
        self._wanted = len(wanted)
        return wanted

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

    def nothing(self, tags: int, idle: Collection[str]) -> NothingMatched:
        """Why there is nothing to copy, once `names` was called.

        `tags` is how many were listed; none was chosen. `idle` are the patterns that match none of them.
        """
        entry, source, advice = self._entry, self._entry.source, None
        if not isinstance(source, Namespace):
            what = f"{source} has no tags"
            if tags:
                what = f"none of the {count(tags, 'tag')} of {source} is chosen"
        elif self._wanted:
            repositories = f"the {count(self._wanted, 'repository', 'repositories')} of {source}"
            what = f"{repositories} {'has' if self._wanted == 1 else 'have'} no tags"
            if tags:
                of = f"the {count(tags, 'tag')} of {repositories}"
                what = f"none of {of} is chosen"
                if len(idle) == len(entry.tags.patterns.include) > 0:
                    what = f"{_quoted(idle)} matches none of {of}"
                    advice = _PATTERNS.replace(
                        text="patterns are a shell's, for the whole tag (*, ?, [a-z]), or /expressions/"
                    )
        elif self._in_catalog is None:
            what = f"all repositories that are named are excluded: {_quoted(entry.repositories.exclude)}"
            advice = _PATTERNS
        elif self._in_catalog:
            what, advice = self._unwanted(source, self._in_catalog)
        else:
            what = f"{source.registry} lists no repositories"
            advice = Advice("log-in", why="a login may show more", side="source", registry=source.registry)
        return NothingMatched(f"nothing to mirror: {what}", advice=advice)

    def _unwanted(self, source: Namespace, listed: list[str]) -> tuple[str, Advice]:
        """Why no repository of the catalog is wanted, and the advice."""
        patterns = self._entry.repositories
        repositories = f"the {count(len(listed), 'repository', 'repositories')} of {source.registry}"
        below = _below(source, listed)
        if not below:
            return f"none of {repositories} is below {source.prefix}/", _advice_on_prefix(source, listed)
        matching = [name for name in below if patterns.includes(name)]
        if not matching:
            return f"none of {repositories} is wanted: {_quoted(patterns.include)}", _PATTERNS
        left = f"the {count(len(matching), 'repository', 'repositories')} of {source}"
        if patterns.include:
            left = f"{left} for {_quoted(patterns.include)}"
        return f"all of {left} are excluded: {_quoted(patterns.exclude)}", _PATTERNS


def _below(source: Namespace, listed: Iterable[str]) -> list[str]:
    return [name for each in listed if (name := source.name_of(each)) is not None]


def _advice_on_prefix(source: Namespace, listed: list[str]) -> Advice:
    """A repository given as a prefix, as skopeo sync takes it, or a prefix that is almost right."""
    if source.prefix in listed:
        parent, _, name = source.prefix.rpartition("/")
        place = f"{source.registry}/{parent}" if parent else source.registry
        return Advice(
            "mirror-parent", why=f"{source.prefix} is a repository", registry=place, repository=name
        )
    more = ", for example" if len(listed) > 1 else ""
    return Advice("check-name", f"it lists {quote(listed[0])}{more}")


def _quoted(patterns: Iterable[str]) -> str:
    return ", ".join(quote(each) for each in patterns)
