"""Proving that targets hold what a source has: tags, then graphs, then bytes. Nothing is written.

It reads both sides for itself and uses nothing that a copy has left behind.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

from crossdock.errors import CrossdockError, InvalidOption, NothingMatched, was_refused
from crossdock.mirroring.entry import Entry
from crossdock.mirroring.survey import Survey
from crossdock.mirroring.views import RepositoryView, TargetView
from crossdock.oci.attachedtag import is_attached_tag, subject_of
from crossdock.oci.digest import Digest
from crossdock.oci.platform import Platform
from crossdock.oci.reference import Location, Reference
from crossdock.options import CopyOptions
from crossdock.runs.comparing import Comparison, Findings, Level, RepositoryComparison
from crossdock.runs.places import Places
from crossdock.runs.results import without_traceback
from crossdock.tally import log_retry
from crossdock.tasks import run_each

if TYPE_CHECKING:
    from crossdock.content import Source

IMAGES_AT_ONCE = 16  # of one repository and target
VIEWS_AT_ONCE = 4


class Verification:
    """One verification of any number of entries or single images. `findings` grow while it runs.

    `level`: ``tags`` compares digests, ``graph`` every manifest and the presence and size of each blob too,
    ``bytes`` also hashes the blobs of the target again. `sample` is the percentage of the tags that are
    compared; which ones depends on their names alone, so that a second run compares the same.
    """

    def __init__(
        self,
        options: CopyOptions,
        level: Level = "graph",
        sample: float = 100.0,
        on_warning: Callable[[str], None] = lambda message: None,
    ) -> None:
        """Raises `InvalidOption`; no I/O."""
        if not 0 < sample <= 100:
            raise InvalidOption("the sample is a percentage: more than 0, and 100 at most")
        self.findings = Findings()
        self._options = options
        self._level: Level = level
        self._sample = sample
        self._on_warning = on_warning

    async def entries(self, entries: Iterable[Entry]) -> None:
        """Compare the targets of each entry with its source. Errors of registries are in `findings`.

        Raises `NothingMatched` when no entry chooses anything. # network
        """
        async with Places(self._options, writes=False) as places:
            for entry in entries:
                self.findings.targets += len(entry.targets)
                await self._entry(entry, places)
            for warning in places.take_warnings():
                self._on_warning(warning)
        self.findings.sort()
        if not self.findings.tags and not self.findings.errors and not self.findings.manifests:
            raise NothingMatched("nothing to verify: the source has no tags that are chosen")

    async def image(self, source: Location, target: Location) -> None:
        """Compare what one reference names with another one. # network

        Raises `CopyError` when the source cannot be resolved.
        """
        platforms = tuple(Platform.parse(each) for each in self._options.platforms)
        async with Places(self._options, writes=False) as places:
            ours = await places.open(source, "source", log_retry)
            theirs = await places.open(target, "target", log_retry)
            comparison = self._comparison(places, referrers=self._options.referrers is not False)
            name = source.repository if isinstance(source, Reference) else ours.name
            check = RepositoryComparison(comparison, name, ours, theirs, shown=str(target))
            try:
                await check.named(
                    source.tag or str(source.digest or ""), target.tag or str(target.digest or ""), platforms
                )
            except CrossdockError as error:
                self._failed(error)

    # -- an entry ------------------------------------------------------------------------------------------

    async def _entry(self, entry: Entry, places: Places) -> None:
        comparison = self._comparison(
            places, referrers=entry.referrers != "off", leaves_out=entry.tags.leaves_out
        )
        survey = Survey(entry, places, all_target_tags=True, on_warning=self._on_warning)
        platforms = tuple(Platform.parse(each) for each in entry.platforms or self._options.platforms)
        slots = asyncio.Semaphore(VIEWS_AT_ONCE)

        async def compare(view: RepositoryView) -> None:
            try:
                ours = await places.open(view.source, "source", log_retry)
                for there, target in zip(view.targets, entry.targets, strict=True):
                    await self._target(view, there, str(target), ours, places, comparison, platforms)
            except CrossdockError as error:
                self._failed(error)
            finally:
                slots.release()

        async with asyncio.TaskGroup() as group:
            try:
                async with aclosing(survey.views()) as views:
                    async for view in views:
                        for error in view.errors.values():
                            self._failed(error)
                        if view.error is not None:
                            self._failed(view.error)
                            continue
                        await slots.acquire()
                        group.create_task(compare(view))
            except CrossdockError as error:
                self._failed(error)

    async def _target(
        self,
        view: RepositoryView,
        there: TargetView,
        shown: str,
        ours: Source,
        places: Places,
        comparison: Comparison,
        platforms: tuple[Platform, ...],
    ) -> None:
        """Compare one repository with the same at one target."""
        is_listed = there.error is None or (there.listed is not None and was_refused(there.error))
        if there.repository is None or not is_listed:
            self._failed(there.error)
            return
        theirs = await places.open(there.repository, "target", log_retry)
        check = RepositoryComparison(
            comparison,
            view.name,
            ours,
            theirs,
            shown=shown,
            tags=view.tags,
            registry=there.repository.registry,
        )
        await self._compare(view, there, check, platforms)
        # Signatures and lists of referrers come with their image, under tags the source may not have.
        extra = [
            tag
            for tag in sorted((there.listed or frozenset()) - (view.listed or frozenset()))
            if (subject := subject_of(tag)) is None or self._is_extra(view, check, subject)
        ]
        await self._each([partial(self._extra, there, check, tag) for tag in extra])

    async def _extra(self, there: TargetView, check: RepositoryComparison, tag: str) -> None:
        actual = there.tags.get(tag) or await check.at_target(tag)
        self.findings.extra.append(check.row(tag, None, actual))

    def _is_extra(self, view: RepositoryView, check: RepositoryComparison, subject: Digest) -> bool:
        """Whether an attached tag is of no image of the source, as far as the level tells."""
        return self._level != "tags" and subject not in view.tags.values() and not check.has_compared(subject)

    async def _compare(
        self,
        view: RepositoryView,
        there: TargetView,
        check: RepositoryComparison,
        platforms: tuple[Platform, ...],
    ) -> None:
        found = self.findings
        same: list[tuple[str | None, Digest]] = []

        async def tag_of(tag: str, digest: Digest) -> None:
            # A survey takes what cannot be seen for missing; here it has to be proven.
            actual = there.tags.get(tag) or await check.at_target(tag)
            wanted = digest if is_attached_tag(tag) else await check.chosen(digest, platforms)
            found.tags += 1
            if actual is None:
                found.missing.append(check.row(tag, wanted, None))
            elif actual == wanted:
                same.append((tag, wanted))
            elif not (is_attached_tag(tag) and await check.is_extended(wanted, actual)):
                found.different.append(check.row(tag, wanted, actual))

        await self._each(
            [partial(tag_of, tag, digest) for tag, digest in view.tags.items() if self._is_in(view, tag)]
        )
        if self._level == "tags":
            for digest in view.untagged:
                if digest not in there.digests and self._is_in(view, digest):
                    found.missing.append(check.row(None, digest, None, "manifest"))
            return
        same += [(None, digest) for digest in view.untagged if self._is_in(view, digest)]
        await self._each([partial(check.image, tag, digest) for tag, digest in same])

    async def _each(self, work: list[Callable[[], Awaitable[None]]]) -> None:
        """Each of them, some at a time; an error of a registry is noted, and ends no other."""

        async def do(one: Callable[[], Awaitable[None]]) -> None:
            try:
                await one()
            except CrossdockError as error:
                self._failed(error)

        await run_each(work, do, min(IMAGES_AT_ONCE, len(work)))

    def _comparison(
        self, places: Places, *, referrers: bool, leaves_out: Callable[[str], bool] = lambda tag: False
    ) -> Comparison:
        return Comparison(
            self.findings,
            self._level,
            self._options.network,
            referrers=referrers,
            limits=places.limits,
            leaves_out=leaves_out,
        )

    def _is_in(self, view: RepositoryView, name: str) -> bool:
        """Whether the sample has this tag or digest of the repository."""
        if self._sample >= 100:
            return True
        number = int.from_bytes(hashlib.sha256(f"{view.name}:{name}".encode()).digest()[:4], "big")
        return number < self._sample / 100 * 2**32

    def _failed(self, error: Exception | None) -> None:
        if error is not None:
            self.findings.errors.append(without_traceback(error))
