"""Every image of an archive to the same repository elsewhere, as a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from msgspec import Struct

from crossdock.content import Source
from crossdock.descriptors import affordable
from crossdock.errors import Advice, InvalidInput, NotFound
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.reference import Reference
from crossdock.runs.one import CopySpec, copy_one
from crossdock.runs.pairs import Pair, Pairs
from crossdock.runs.places import Shared
from crossdock.runs.results import ManyResult, PairResult, status_of_error, unended
from crossdock.runs.run import Watchers
from crossdock.runs.runner import AT_ONCE, Runner
from crossdock.runs.totals import Totals
from crossdock.steps import during
from crossdock.store.archive import Archive, ArchivedRepository, Named
from crossdock.store.parts import PartsBytes
from crossdock.store.several import listed
from crossdock.store.tarbytes import AnyBytes, open_bytes
from crossdock.store.tarindex import TarIndex
from crossdock.tasks import in_abandonable_thread, in_thread, run_each

CHECKS_AT_ONCE = 16
PARTS_AT_ONCE = 4  # each is hashed by one thread
LISTED = 4

Translate = Callable[[Reference], Reference]
"""The target of an image by its name in the archive. Raises `InvalidInput`."""

Elsewhere = dict[tuple[str, str], dict[Digest, Source]]
"""Repositories that have a blob, by the `Location.place` that lacks it."""


class _Needed(Struct, frozen=True):
    """A blob that the archive leaves out, and the repository that an image needs it in."""

    target: Reference
    blob: Descriptor


class FromArchive:
    """Copies of all images of an archive (`run.Work`).

    Parts are compared with their SHA-256 first. Before any tag is written, what the archive leaves out is
    looked for at the target: in the image's repository, and in those whose images had it before.
    """

    def __init__(self, path: str, translate: Translate) -> None:
        """`path` may be stdin, or lead to the first of several parts. No I/O."""
        self.pairs = Pairs("image ")
        self.totals = Totals()
        self.warnings: list[str] = []
        self._path = path
        self._translate = translate
        self._images: list[tuple[Named, Reference]] = []
        self._results: dict[int, PairResult] = {}
        self._begun: set[int] = set()

    async def run(self, shared: Shared, watchers: Watchers) -> None:
        """Copy all. Raises `CopyError`. # network"""
        with during("open", "source", self._path):
            archive = await self._open()
        try:
            with during("read", "source", self._path):
                await in_thread(self._list, archive)
            self.totals.images_found = len(self.pairs)
            for _, target in self.pairs:
                shared.places.prepare(target, "target")
            elsewhere = await self._find_left_out(archive, shared) if archive.left_out else {}
            await self._copy(archive, elsewhere, shared, watchers)
        finally:
            archive.close()

    def result(self) -> ManyResult:
        """The result so far."""
        return ManyResult(
            copies=tuple(
                self._results.get(index) or unended(*pair, begun=index in self._begun)
                for index, pair in enumerate(self.pairs)
            ),
            seconds=self.totals.seconds,
        )

    # -- before anything is copied -------------------------------------------------------------------------

    async def _open(self) -> Archive:
        data: AnyBytes = await in_abandonable_thread(open_bytes, self._path, undo=_close)
        try:
            if isinstance(data, PartsBytes):
                check = partial(in_abandonable_thread, data.check_part)
                await run_each(data.numbers(), check, PARTS_AT_ONCE)
            return await in_abandonable_thread(lambda: Archive(self._path, TarIndex(data)))
        except BaseException:
            data.close()
            raise

    def _list(self, archive: Archive) -> None:
        """Find the images and their targets. Raises `InvalidInput` where two have one target."""
        targets: dict[Reference, Named] = {}
        for image in archive.images():
            target = self._translate(image.reference)
            other = targets.setdefault(target, image)
            if other is image:
                self._images.append((image, target))
                self.pairs.add(archive.location(image.name), target, len(self._images))
            elif not (digests := archive.digests(image)) or digests != archive.digests(other):
                raise InvalidInput(
                    f"{other.name} and {image.name} would both be {target}",
                    advice=Advice("correct-name", f"copy them one by one: {archive.location(image.name)}"),
                )
        nameless = [f"{archive.source.name}{_suffix(each)}" for each in archive.nameless()]
        if nameless and not self._images:
            raise InvalidInput(
                f"no image in it has a name like host/repository:tag: {', '.join(nameless[:LISTED])}",
                advice=Advice("correct-name", f"copy it by what it has: crossdock copy {nameless[0]} TARGET"),
            )
        if not self._images:
            raise NotFound(f"{self._path} holds no image")
        self.warnings += [
            f"{each} has no name like host/repository:tag and is not copied" for each in nameless
        ]

    async def _find_left_out(self, archive: Archive, shared: Shared) -> Elsewhere:
        """The repositories at the target with the blobs that are left out, for images that lack them.

        Raises `CopyError` over `NotFound` for blobs that none has. # network
        """
        with during("read", "source", self._path):
            needed = await in_thread(self._needed, archive, shared)
        missing: dict[Digest, Reference] = {}
        found: Elsewhere = {}

        async def find(item: _Needed) -> None:
            digest = item.blob.digest
            homes = [item.target, *self._homes(archive, digest)]
            for home in dict.fromkeys(Reference(each.registry, each.repository) for each in homes):
                repository = await shared.places.open(home, "target")
                with during("check blob at", "target", f"{home.locator}@{digest}"):
                    try:
                        is_there = await repository.has_blob(item.blob)  # network
                    except NotFound:
                        is_there = False
                if is_there:
                    if home.place != item.target.place:
                        found.setdefault(item.target.place, {})[digest] = repository
                    return
            missing[digest] = item.target

        await run_each(needed, find, CHECKS_AT_ONCE)
        if missing:
            digest, target = next(iter(missing.items()))
            shown = listed(list(missing), LISTED)
            with during("check blob at", "target", f"{target.locator}@{digest}"):
                raise NotFound(
                    f"the archive leaves out what another one holds, and it is not there: {shown}",
                    advice=Advice("retry", "copy the archive there first that was written before"),
                )
        return found

    def _needed(self, archive: Archive, shared: Shared) -> list[_Needed]:
        """Every blob that is left out, once for each repository that needs it."""
        platforms, referrers = shared.platforms, shared.options.referrers is not False
        found: dict[tuple[tuple[str, str], Digest], _Needed] = {}
        for image, target in self._images:
            for _, blobs in archive.walk(image, platforms, referrers=referrers):
                for blob in blobs:
                    if archive.is_left_out(blob.digest):
                        found.setdefault((target.place, blob.digest), _Needed(target, blob))
        return list(found.values())

    def _homes(self, archive: Archive, digest: Digest) -> list[Reference]:
        """The repositories at the target that had the blob by an archive before."""
        homes = []
        for repository in archive.left_out[digest].repositories:
            try:
                homes.append(self._translate(Reference("localhost", repository)))
            except InvalidInput:
                continue
        return homes

    # -- the copies ----------------------------------------------------------------------------------------

    async def _copy(
        self,
        archive: Archive,
        elsewhere: Elsewhere,
        shared: Shared,
        watchers: Watchers,
    ) -> None:
        runner = Runner(watchers, self._results.__setitem__)
        self._begun = runner.begun

        async def do(index: int) -> None:
            pair: Pair = self.pairs[index]
            image, _ = self._images[index]
            source = ArchivedRepository(archive, image.reference.locator, elsewhere.get(pair[1].place, {}))
            await runner.copy(
                index,
                pair,
                partial(copy_one, CopySpec(*pair, is_alone=True, reading=source), shared),
                error_status=partial(status_of_error, existing=shared.options.existing),
            )

        await run_each(range(len(self.pairs)), do, min(affordable(AT_ONCE, per=8), len(self.pairs)))


def _suffix(name: str) -> str:
    return name if name.startswith("@sha") else f":{name}"


def _close(data: AnyBytes) -> None:
    data.close()
