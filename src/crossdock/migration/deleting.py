"""Deleting at a target the tags that the source no longer has.

Rules:

1. Only a tag that the source does not list, in a repository that it lists, and that the entry would copy if
   it were there: never what a selection leaves out, never a tag by which something is attached to an image,
   which may still be there under a tag that is left out, or in an index.
2. Nothing at all of a target when one of its lists was not whole, or a cap is passed.
3. A tag waits for `Deletes.grace` from the first run that saw it missing.
4. Just before each delete the source is asked for the tag: a list can miss one that moves meanwhile.
5. The tag alone. A registry that deletes other tags of the same manifest with it gets those back, and nothing
   more of it is deleted.
6. By a reviewed plan, only a tag that the source still lacks and that means at the target what it meant then.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from crossdock.errors import (
    ChangedSincePlan,
    CopyError,
    CrossdockError,
    LimitExceeded,
    NotFound,
    RegistryError,
    Unsupported,
    root_cause,
)
from crossdock.mirroring.entry import Deletes, Entry
from crossdock.mirroring.views import Problem, RepositoryView, TargetView, place_of
from crossdock.oci.attachedtag import is_attached_tag
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.reference import LayoutReference, Reference
from crossdock.runs.places import Places
from crossdock.runs.results import without_traceback
from crossdock.steps import during
from crossdock.tally import log_retry

_NOT_BY_NAME = frozenset({400, 405, 501})  # distribution 2 demands a digest
MOST_NAMED = 10_000  # tags of a target, in a report
MOST_KEPT = 100_000  # tags to delete; more are counted

FirstMissing = Callable[[str, str, frozenset[str]], Awaitable[Mapping[str, float]]]
"""When tags of a target's repository were first seen missing in the source's (`RunFile.missing_since`)."""


def missing_tags(entry: Entry, view: RepositoryView, target: TargetView) -> frozenset[str]:
    """The target's tags in this repository that the source no longer has, by rule 1."""
    if entry.deletes.mode == "off" or view.error is not None or view.listed is None or not target.listed:
        return frozenset()
    missing = {each for each in target.listed - view.listed if not is_attached_tag(each)}
    if not missing or entry.tags.takes_all:
        return frozenset(missing)
    choice = replace(entry.tags, newest=None, pushed_after=None, pushed_within=None, min_age=None)
    return frozenset(choice.choose(dict.fromkeys(missing), time.time()))


def shared_warning(entry: Entry, repository: str) -> str:
    """The warning that the entry deletes nothing where another entry writes too, as in `repository`."""
    return (
        f"{entry.name}: no tags are deleted in repositories that another mirror writes too, "
        f"such as {repository}"
    )


def over_caps(deletes: Deletes, due: int, tags: int) -> str:
    """The cap that forbids deleting `due` of the target's `tags`, as text; empty: none does."""
    if due > deletes.max_tags:
        return f"{due} tags are over the limit of {deletes.max_tags}"
    if 100 * due / max(tags, 1) > deletes.max_percent:
        return f"{due} of {tags} tags are over the limit of {deletes.max_percent:g} percent"
    return ""


class MissingTag(Struct, frozen=True):
    """A tag to delete."""

    name: str  # of the repository, below the source's prefix
    source: Reference | LayoutReference
    repository: Reference
    tag: str
    listed: frozenset[str]  # all tags of the target's repository
    planned: Mapping[str, Digest | None] | None = None
    """The target's tags with their digests when the plan was made, if there is one."""

    def check(self, digest: Digest) -> None:
        """Raise `ChangedSincePlan` unless the tag, which means `digest` now, is as the plan says."""
        if self.planned is None or (meant := self.planned[self.tag]) == digest:
            return
        raise ChangedSincePlan(
            f"it is not deleted: the target had {meant}, and has {digest} now"
            if meant is not None
            else "it is not deleted: what the target had could not be looked up for the plan"
        )


class Seen(Struct, frozen=True):
    """The findings of one repository's lists."""

    name: str  # below the source's prefix
    source: Reference | LayoutReference
    repository: Reference | None
    incomplete: str  # the list that is incomplete; empty: none
    missing: frozenset[str]
    tags: int  # of the target's repository
    listed: frozenset[str]  # these tags, if one is missing at the source


class TargetDeletes(Struct, kw_only=True):
    """Deletes of one entry at one of its targets: `look` at every view, then `run` once."""

    entry: Entry
    target: str
    waiting: int = 0
    """Tags that are missing at the source, and wait for their grace to end."""
    due: int = 0
    deleted: int = 0
    problems: list[Problem] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    changed: list[tuple[MissingTag, Exception]] = field(default_factory=list)
    """Tags that are kept because they are not as the plan says, with the reason."""
    _tags: int = 0  # of the target, in the repositories that the source lists
    _incomplete: str = ""  # a list that was not whole
    _found: list[MissingTag] = field(default_factory=list)

    async def look(self, view: RepositoryView, there: TargetView, first_missing: FirstMissing) -> None:
        """Note the tags to delete in one repository. # disk"""
        await self.note(self.see(view, there), first_missing)

    def see(self, view: RepositoryView, there: TargetView) -> Seen:
        """The findings of one repository's lists, for `note`."""
        incomplete, listed = "", there.listed or frozenset()
        if view.error is not None or view.listed is None:
            incomplete = place_of(view.source)
        elif there.repository is not None and there.listed is None:
            incomplete = there.name
        missing = frozenset[str]() if incomplete else missing_tags(self.entry, view, there)
        kept = listed if missing else frozenset[str]()
        return Seen(view.name, view.source, there.repository, incomplete, missing, len(listed), kept)

    async def note(self, seen: Seen, first_missing: FirstMissing) -> None:
        """Note the tags to delete in the repository of these findings. # disk"""
        if seen.incomplete:
            self._incomplete = self._incomplete or seen.incomplete
            return
        if seen.repository is None:
            return
        self._tags += seen.tags
        for each in await self._due(seen.source, seen.repository, seen.missing, first_missing):
            self._add(MissingTag(seen.name, seen.source, seen.repository, each, seen.listed))

    async def look_planned(
        self,
        name: str,
        source: Reference | LayoutReference,
        repository: Reference,
        tags: Mapping[str, Digest | None],
        places: Places,
        first_missing: FirstMissing,
    ) -> None:
        """Note the tags that a reviewed plan says one repository is to lose, with what they meant there.

        # network, disk
        """
        try:
            with during("list tags of", "target", repository.locator):
                listed = frozenset(await (await places.open(repository, "target", log_retry)).tags())
        except CrossdockError:
            self._incomplete = self._incomplete or repository.locator
            return
        self._tags += len(listed)
        for each in await self._due(source, repository, listed & tags.keys(), first_missing):
            self._add(MissingTag(name, source, repository, each, listed, tags))

    async def _due(
        self,
        source: Reference | LayoutReference,
        repository: Reference,
        missing: frozenset[str],
        first_missing: FirstMissing,
    ) -> list[str]:
        """The missing tags whose grace is over. # disk"""
        since = await first_missing(place_of(source), repository.locator, missing)
        before = time.time() - self.entry.deletes.grace
        due = [tag for tag in sorted(missing) if since[tag] <= before]
        self.waiting += len(missing) - len(due)
        return due

    def _add(self, missing: MissingTag) -> None:
        self.due += 1
        if self.due <= MOST_KEPT:
            self._found.append(missing)

    @property
    def is_incomplete(self) -> bool:
        """Whether a list was not whole."""
        return bool(self._incomplete)

    def found(self) -> list[str]:
        """The tags that are due, the first of them."""
        return [f"{each.repository.locator}:{each.tag}" for each in self._found[:MOST_NAMED]]

    def not_listed(self, source: str) -> None:
        """The source's repositories could not be listed."""
        self._incomplete = self._incomplete or source

    async def run(self, places: Places) -> None:
        """Delete, or report, what is due. # network"""
        refusal = self._refusal()
        if refusal is not None:
            self.problems.append(Problem("denied", self.target, str(refusal)))
            self._fail(self.target, refusal)
            return
        if self.entry.deletes.mode != "delete":
            return
        for each in self._found:
            shown = f"{each.repository.locator}:{each.tag}"
            try:
                if await self._delete(places, each):
                    self.deleted += 1
            except CrossdockError as error:
                if isinstance(root_cause(error), ChangedSincePlan):
                    self.changed.append((each, without_traceback(error)))
                    continue
                self._fail(shown, error)
                if isinstance(root_cause(error), Unsupported):
                    self.problems.append(Problem("unsupported", shown, str(error)))
                    return
            except Exception as error:  # one odd tag does not keep the others from being deleted
                self._fail(shown, error)

    def _refusal(self) -> Exception | None:
        why = over_caps(self.entry.deletes, self.due, self._tags)
        if self._incomplete and (self.due or self.entry.deletes.mode == "delete"):
            why = f"the list of {self._incomplete} was not whole"
        return LimitExceeded(f"nothing was deleted: {why}") if why else None

    def _fail(self, shown: str, error: Exception) -> None:
        if isinstance(error, CrossdockError) and not isinstance(error, CopyError):
            try:
                with during("delete tags of", "target", shown):
                    raise error
            except CopyError as named:
                error = named
        self.errors.append(without_traceback(error))

    async def _delete(self, places: Places, missing: MissingTag) -> bool:
        """Delete one tag; False: the source has it after all. Raises `CopyError`. # network"""
        with during("resolve", "source", f"{place_of(missing.source)}:{missing.tag}"):
            source = await places.open(missing.source, "source", log_retry)
            try:
                await source.resolve(missing.tag)
            except NotFound:
                pass
            else:
                if missing.planned is not None:
                    raise ChangedSincePlan("it is not deleted: the source has it again")
                return False
        target = await places.open(missing.repository, "target", log_retry)
        with during("delete tag", "target", f"{missing.repository.locator}:{missing.tag}"):
            data = await target.find_manifest(missing.tag)
            if data is None:
                return True
            named = await target.resolve(missing.tag)
            missing.check(named.digest)
            try:
                await target.delete_tag(missing.tag)
            except CrossdockError as error:
                if not isinstance(error, RegistryError) or error.status not in _NOT_BY_NAME:
                    raise
                raise Unsupported(f"the registry does not delete a tag by its name: {error}") from error
            if len(missing.listed) > 1 and await target.find(named.digest) is None:
                await _restore(target, named, data, missing.listed - {missing.tag})
        return True


async def _restore(target: object, named: Descriptor, data: bytes, others: frozenset[str]) -> None:
    """Give other tags of the manifest back, if it went away with one of them. Raises `Unsupported`."""
    lost = [tag for tag in sorted(others) if await target.find(tag) is None]  # type: ignore[attr-defined]
    for tag in lost:
        await target.push_manifest(named, data, tag)  # type: ignore[attr-defined]
    if lost:
        raise Unsupported(
            f"the registry deletes all tags of a manifest with one: {', '.join(lost)} had to be pushed "
            "again, and no more tags are deleted"
        )
