"""Many references into one new archive as a run. It is written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import cast

from msgspec import Struct

from crossdock.content import Target
from crossdock.descriptors import affordable
from crossdock.errors import Advice, CopiesFailed, CrossdockError, InvalidInput
from crossdock.events import ignore
from crossdock.oci.archivereference import DockerArchiveReference, OciArchiveReference
from crossdock.oci.digest import Digest
from crossdock.oci.reference import Reference, parse_location
from crossdock.runs.kept import KeptSource
from crossdock.runs.one import CopySpec, copy_one
from crossdock.runs.pairs import Pairs
from crossdock.runs.places import Shared
from crossdock.runs.results import ManyResult, PairResult, unended
from crossdock.runs.run import Watchers
from crossdock.runs.runner import AT_ONCE, FailedFast, Runner
from crossdock.runs.totals import Totals
from crossdock.steps import during
from crossdock.store.archive import Archive
from crossdock.store.archivetarget import ArchiveRepository, ArchiveTarget, DockerArchiveTarget, Held
from crossdock.store.outputs import SMALLEST_PART as SMALLEST_PART  # for imports
from crossdock.store.outputs import WrittenFile
from crossdock.store.parts import first_of_parts
from crossdock.store.tarindex import opened_tar
from crossdock.tally import Tally
from crossdock.tasks import in_abandonable_thread, run_each

Place = OciArchiveReference | DockerArchiveReference


class Written(Struct, frozen=True):
    """The archive that a run wrote: its files (none for a pipe), and the blobs that are left out."""

    files: tuple[WrittenFile, ...]
    blobs_left_out: int
    bytes_left_out: int


class ToArchive:
    """Copies of references into one archive (`run.Work`), each under ``host/repository:tag``.

    All names are resolved first, so that one that is missing costs no bytes. If one copy fails, no archive is
    written, and an older one stays.
    """

    def __init__(
        self,
        place: Place,
        references: Iterable[str],
        *,
        part_size: int | None = None,
        since: str | None = None,
    ) -> None:
        """`place` is the archive, without a name. `since` is an older archive whose blobs are left out.

        Raises `InvalidInput`.
        """
        self.pairs = Pairs("reference ")
        for number, text in enumerate(references, 1):
            source = parse_location(text)
            if not isinstance(source, Reference):
                raise InvalidInput(f"{text} is not in a registry, and an archive has names of registries")
            self.pairs.add(source, _named(place, source), number)
        self.totals = Totals(images=len(self.pairs))
        self.written: Written | None = None
        self._place = place
        self._part_size = part_size
        self._since = since
        self._results: dict[int, PairResult] = {}
        self._sources: dict[int, tuple[KeptSource, Tally]] = {}
        self._has_begun = False
        if since is not None and whole_path(since) == whole_path(place.path):
            raise InvalidInput(f"{since} is the archive that is to be written")

    async def run(self, shared: Shared, watchers: Watchers) -> None:
        """Copy all. Raises `CopiesFailed`, and `CopyError` where an archive fails. # network"""
        for source, _ in self.pairs:
            shared.places.prepare(source, "source")
        since = None
        if self._since is not None:
            with during("read", "source", self._since):
                since = await in_abandonable_thread(held_by, self._since)
        with during("write", "target", str(self._place)):
            archive = self._open(since)
        self._has_begun = True
        try:
            await self._find(shared, Runner(watchers, self._results.__setitem__))
            self._check()
            await self._copy(archive, shared, Runner(watchers, self._results.__setitem__, fail_fast=True))
            self._check()
            with during("write", "target", archive.name):
                await archive.finish()
        finally:
            archive.close()
        left_out = archive.left_out.values()
        self.written = Written(
            files=tuple(archive.written),
            blobs_left_out=len(left_out),
            bytes_left_out=sum(held.size for held in left_out),
        )

    def result(self) -> ManyResult:
        """The result so far. Nothing counts as copied until the archive is in its place."""
        return ManyResult(
            copies=tuple(self._result(index) for index in range(len(self.pairs))),
            seconds=self.totals.seconds,
        )

    def _result(self, index: int) -> PairResult:
        ended = self._results.get(index)
        if ended is not None and (self.written is not None or ended.status == "failed"):
            return ended
        return unended(*self.pairs[index], begun=self._has_begun)

    def _open(self, since: Mapping[Digest, Held] | None) -> ArchiveTarget:
        kind = DockerArchiveTarget if isinstance(self._place, DockerArchiveReference) else ArchiveTarget
        return kind(self._place.path, self._part_size, since)

    async def _find(self, shared: Shared, runner: Runner) -> None:
        """Resolve every reference. # network"""

        async def find(index: int) -> None:
            source, target = self.pairs[index]
            tally = Tally(ignore)
            try:
                reading = await shared.places.open(source, "source", tally.retried)
                name = source.tag or str(source.digest or "")
                kept = KeptSource(reading, str(source), name, source.digest)
                await kept.find()
            except CrossdockError as error:
                runner.fail(index, str(source), str(target), error)
                return
            self._sources[index] = kept, tally

        await run_each(range(len(self.pairs)), find, AT_ONCE)

    async def _copy(self, archive: ArchiveTarget, shared: Shared, runner: Runner) -> None:
        async def do(index: int) -> None:
            source, target = self.pairs[index]
            assert isinstance(source, Reference)
            kept, tally = self._sources.pop(index)
            spec = CopySpec(
                source,
                target,
                is_alone=True,
                reading=kept,
                writing=cast(Target, ArchiveRepository(archive, source.locator)),
            )
            await runner.copy(index, (source, target), partial(copy_one, spec, shared), tally=tally)

        with suppress(FailedFast):
            await run_each(range(len(self.pairs)), do, min(affordable(AT_ONCE, per=8), len(self.pairs)))

    def _check(self) -> None:
        """Raise `CopiesFailed` if one reference has failed."""
        errors = tuple(each.error for each in self._results.values() if each.error is not None)
        if errors:
            count = f"{len(errors)} of {len(self.pairs)} references"
            raise CopiesFailed(
                f"{count} cannot be copied, and {self._place} was not written",
                advice=Advice("retry", "leave them out, or try again when they are there")
                if all(getattr(each, "side", None) == "source" for each in errors)
                else None,
                errors=errors,
            )


def whole_path(path: str) -> str:
    """The real path of an archive; of one in parts that of the whole."""
    return os.path.realpath(first_of_parts(path) or path)


def held_by(path: str) -> Mapping[Digest, Held]:
    """The blobs of the archive `path`, of either kind. Blocking. Raises `StoreError`, `ContentError`."""
    with opened_tar(path) as tar:
        archive = Archive(path, tar)
    try:
        return archive.held()
    finally:
        archive.close()


def _named(place: Place, source: Reference) -> Place:
    """The image's place in the archive: under its own name, without a digest that was given beside a tag."""
    name = f"{source.locator}:{source.tag}" if source.tag else f"{source.locator}@{source.digest}"
    try:
        return type(place)(place.path, name)
    except InvalidInput as error:
        raise error.replace(f"{source} cannot be named in an archive: {error}") from None
