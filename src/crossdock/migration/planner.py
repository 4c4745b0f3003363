"""Making a plan: both sides of every entry are surveyed, and what is missing is added up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import aclosing, suppress
from heapq import heappush, heapreplace

from crossdock.content import Source
from crossdock.errors import (
    ContentError,
    CopyError,
    CrossdockError,
    InvalidInput,
    NotFound,
    ProtocolError,
    root_cause,
    was_refused,
)
from crossdock.migration.costs import BlobSums, HostBlobs, settle
from crossdock.migration.deleting import missing_tags, over_caps, shared_warning
from crossdock.migration.file import Limits
from crossdock.migration.images import FETCHED_AT_ONCE, Images, Key, digest_of
from crossdock.migration.plan import MOST_DELETES, EntryPlan, Plan
from crossdock.migration.requests import PUSH, READ, Need, requests_of
from crossdock.migration.tags import TagComparison, Writers
from crossdock.mirroring.entry import Entry
from crossdock.mirroring.names import Namespace
from crossdock.mirroring.rename import Collision, collisions
from crossdock.mirroring.survey import Survey
from crossdock.mirroring.views import ProblemKind, RepositoryView, TargetView, place_of, shown
from crossdock.oci.attachedtag import is_attached_tag
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.platform import Platform
from crossdock.oci.reference import LayoutReference, Reference
from crossdock.oci.registryname import registry_key
from crossdock.runs.comparing import extends
from crossdock.runs.measuring import read_rate
from crossdock.runs.places import Places
from crossdock.runs.results import without_traceback
from crossdock.tally import log_retry
from crossdock.tasks import run_each, run_each_of
from crossdock.units import format_size

ENTRIES_AT_ONCE = 4
VIEWS_AT_ONCE = 8  # repositories whose images are looked at
ASKED_AT_ONCE = 32  # blobs of one repository
MOST_ASKED = 20_000  # blobs of a target; behind that only large ones are asked for
LARGE_BLOB = 1 << 20  # bytes
MANY_BLOBS = 8  # of a repository; whether it exists at all is found out first
MOST_SAMPLES = 64  # blobs
MEASURED = 64 << 20  # bytes that are read to estimate the rest
MOST_ERRORS = 1_000

OnView = Callable[[int, RepositoryView, tuple[Mapping[str, Digest | None], ...], int], None]
"""Called with the index of the entry, each view once it is planned, the tags that each target is to lose with
what they mean, and the bytes of the blobs that the targets' repositories lack."""


class Planner:
    """Plans entries; nothing is written anywhere."""

    def __init__(
        self,
        entries: Iterable[Entry],
        places: Places,
        limits: Limits,
        *,
        on_view: OnView = lambda index, view, delete, lacking: None,
        on_warning: Callable[[str], None] = lambda message: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`places` do not write (`Places.writes`). No I/O."""
        self._entries = tuple(entries)
        self._limits = limits
        self.places = places
        self.on_view = on_view
        self.on_warning = on_warning
        self.clock = clock
        self._errors: list[Exception] = []
        self._hosts: dict[str, HostBlobs] = {}
        self._images: dict[tuple[str, ...], Images] = {}
        self.samples: list[tuple[int, Key, Reference | LayoutReference]] = []
        """The largest blobs to be copied that were seen, as a heap: size, digest and source."""
        self.repositories = self.planned = 0
        """Repositories of all entries, once they are listed, and how many are done."""
        self.writers = Writers()
        self._work = [_EntryWork(self, index, entry) for index, entry in enumerate(self._entries)]

    async def measure(self, plan: Plan) -> None:
        """Read some of what would be read, and estimate the seconds by it. After `plan`. # network

        Raises `CopyError` when a blob cannot be read.
        """
        samples = []
        for size, key, place in sorted(self.samples, key=lambda each: each[0], reverse=True):
            source = await self.places.open(place, "source", log_retry)
            samples.append((source, Descriptor("", digest_of(key), size)))
        rate = await read_rate(samples, MEASURED)
        limit = self._limits.bytes_per_second
        moved = sum(each.bytes_to_move for each in plan.entries)
        if rate is not None:
            plan.seconds = moved / min(rate, limit or rate)
        elif not moved:
            plan.seconds = 0.0

    async def plan(self) -> Plan:
        """The plan. # network

        Raises `CopyError` when no source can be listed, and `InvalidInput` for a selection that a source
        cannot answer. What a repository lacks is in the plan.
        """
        await run_each(self._work, _EntryWork.list_names, ENTRIES_AT_ONCE)
        if self._errors and not any(each.is_listed for each in self._work):
            raise self._errors[0]
        await run_each(self._work, _EntryWork.run, ENTRIES_AT_ONCE)
        settle(sums for each in self._work for sums in each.sums)
        for each in self._work:
            each.finish()
        plans = [plan for each in self._work for plan in each.plans]
        rate = self._limits.bytes_per_second
        return Plan(
            entries=plans,
            requests=requests_of((need for each in self._work for need in each.needs()), self._limits),
            seconds=sum(each.bytes_to_move for each in plans) / rate if rate else None,
            errors=self._errors,
        )

    def images(self, platforms: tuple[str, ...]) -> Images:
        """The blobs of images, for this choice of platforms."""
        found = self._images.get(platforms)
        if found is None:
            wanted = tuple(map(Platform.parse, platforms))
            copies = self.places.options.foreign_layers == "copy"
            found = self._images[platforms] = Images(wanted, foreign_layers=copies)
        return found

    def host(self, target: Namespace) -> HostBlobs:
        """The blobs at the target's registry, as far as they are known."""
        return self._hosts.setdefault(registry_key(target.registry), HostBlobs())

    def fail(self, error: Exception) -> None:
        """A part of the plan is missing."""
        if len(self._errors) < MOST_ERRORS:
            self._errors.append(without_traceback(error))


class _EntryWork:
    """One entry on its way to plans, one for each target."""

    def __init__(self, planner: Planner, index: int, entry: Entry) -> None:
        self.planner = planner
        self.index = index
        self.entry = entry
        self.plans = [
            EntryPlan(name=entry.name, source=str(entry.source), target=str(target))
            for target in entry.targets
        ]
        self.sums = [BlobSums(planner.host(target)) for target in entry.targets]
        self.is_listed = True
        self.images_to_copy = 0  # that some target lacks
        self.manifests_to_read = 0
        self.listed = [0 for _ in entry.targets]  # tags of the targets
        self.manifests_to_push = [0 for _ in entry.targets]
        self._has_told_of_shared = False
        self._tags = TagComparison(entry, index, planner.writers)
        self._images = planner.images(entry.platforms)
        self._attached = planner.images(())  # what tags of digests name is copied for all platforms
        self._survey = Survey(
            entry,
            planner.places,
            all_target_tags=entry.deletes.mode != "off",
            on_warning=planner.on_warning,
            clock=planner.clock,
        )

    # -- names ---------------------------------------------------------------------------------------------

    async def list_names(self) -> None:
        """List the repositories, and find names that become one. # network"""
        try:
            names = await self._survey.repositories()
        except CopyError as error:  # the others are planned
            self.planner.fail(error)
            self.is_listed = False
            return
        self.planner.repositories += len(names)
        if isinstance(self.entry.source, LayoutReference):
            collided: list[Collision] = []
        else:
            collided = collisions(names, self.entry.naming)
        for target, plan in zip(self.entry.targets, self.plans, strict=True):
            for each in collided:
                plan.problem("collision", f"{target}/{each.target}", f"{each} at the target")
            for name in names:
                self.planner.writers.add(_locator(self.entry, target, name), self.index)

    # -- repositories --------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look at every repository. # network"""
        if not self.is_listed:
            return

        async def plan(view: RepositoryView) -> None:
            await self._plan_view(view)
            self.planner.planned += 1

        async with aclosing(self._survey.views()) as views:
            await run_each_of(views, plan, VIEWS_AT_ONCE)
        if (nothing := self._survey.nothing) is not None:
            self.planner.on_warning(f"{self.entry.name}: {nothing}")

    async def _plan_view(self, view: RepositoryView) -> None:
        if view.error is not None:
            self._not_listed(view, view.error)
            return
        self._add_unresolved(view)
        source = await self.planner.places.open(view.source, "source", log_retry)
        chosen = await self._chosen(view, source)
        lacking: dict[Digest, None] = {}
        size = 0
        for index, there in enumerate(view.targets):
            if there.repository is not None and there.error is not None and not was_refused(there.error):
                self.planner.fail(there.error)
                continue
            merged = await self._merged(source, view, there)
            todo = self._tags.compare(self.plans[index], view, there, chosen, merged)
            lacking |= dict.fromkeys(todo)
            size += await self._add_bytes(index, source, view, there, todo)
        self.images_to_copy += len(lacking)
        images = self._images_of(view)
        self.manifests_to_read += sum(images(each).manifests(each) for each in lacking)
        deletes = tuple([await self._to_delete(view, each) for each in view.targets])
        for index, (there, tags) in enumerate(zip(view.targets, deletes, strict=True)):
            plan = self.plans[index]
            plan.tags_to_delete += len(tags)
            plan.todo += len(tags) if self.entry.deletes.mode == "delete" else 0
            plan.deletes += [f"{there.name}:{tag}" for tag in tags][: MOST_DELETES - len(plan.deletes)]
            self.listed[index] += len(there.listed or ())
        self.planner.on_view(self.index, view, deletes, size)

    def _not_listed(self, view: RepositoryView, error: Exception) -> None:
        if was_refused(error) and not isinstance(root_cause(error), NotFound):
            for plan in self.plans:
                plan.problem("denied", place_of(view.source), str(error))
        else:
            self.planner.fail(error)

    def _add_unresolved(self, view: RepositoryView) -> None:
        """Count the names that the source does not resolve; they are not in the view's tags."""
        for name, error in view.errors.items():
            reference = shown(place_of(view.source), name)
            kind = _kind_of(error)
            if kind is None:
                self.planner.on_warning(f"{reference} is left out: {error}")
                self.planner.fail(error)
                continue
            for plan, there in zip(self.plans, view.targets, strict=True):
                plan.tags += 1
                if name in there.tags or name in there.digests:
                    plan.tags_changed += 1
                else:
                    plan.tags_new += 1
                plan.problem(kind, reference, _why(kind, error))

    async def _chosen(self, view: RepositoryView, source: Source) -> dict[Digest, Digest]:
        """The target's digest for each of the view's; those that cannot be copied are left out."""
        digests = dict.fromkeys((*view.tags.values(), *view.untagged))
        if not self.entry.platforms:
            return {each: each for each in digests}
        found = {digest: digest for tag, digest in view.tags.items() if is_attached_tag(tag)}

        async def choose(digest: Digest) -> None:
            try:
                found[digest] = await self._images.chosen(source, digest)
            except CrossdockError as error:
                for plan in self.plans:
                    self._unreadable(view, digest, error, plan)

        others = [each for each in digests if each not in found]
        await run_each(others, choose, min(FETCHED_AT_ONCE, len(others)))
        return found

    def _images_of(self, view: RepositoryView) -> Callable[[Digest], Images]:
        """A function that tells where to look up an image."""
        if not self.entry.platforms:
            return lambda digest: self._images
        attached = {digest for tag, digest in view.tags.items() if is_attached_tag(tag)}
        return lambda digest: self._attached if digest in attached else self._images

    async def _merged(self, source: Source, view: RepositoryView, there: TargetView) -> set[str]:
        """The tags made of digests under which the target has all that the source has, and more. # network"""
        differ = [
            tag
            for tag, digest in view.tags.items()
            if is_attached_tag(tag) and there.tags.get(tag, digest) != digest
        ]
        if not differ or there.repository is None:
            return set()
        target = await self.planner.places.open(there.repository, "target", log_retry)
        merged: set[str] = set()
        for tag in differ:
            try:
                ours = await source.fetch_manifest(Descriptor("", view.tags[tag], 0))
                theirs = await target.find_manifest(tag)
            except CrossdockError:  # count it as to be copied: the copy will show the error
                continue
            if theirs is not None and extends(ours, theirs):
                merged.add(tag)
        return merged

    async def _to_delete(self, view: RepositoryView, there: TargetView) -> dict[str, Digest | None]:
        """The target's tags that the source no longer has, and what they mean. # network

        One that cannot be looked up means None.
        """
        if self.planner.writers.are_several(there.name):
            # Tags of other entries are not this source's to miss.
            if self.entry.deletes.mode != "off" and not self._has_told_of_shared:
                self._has_told_of_shared = True
                self.planner.on_warning(shared_warning(self.entry, there.name))
            return {}
        found = {tag: there.tags.get(tag) for tag in sorted(missing_tags(self.entry, view, there))}
        unknown = [tag for tag, digest in found.items() if digest is None]
        if unknown and there.repository is not None:
            target = await self.planner.places.open(there.repository, "target", log_retry)

            async def look(tag: str) -> None:
                with suppress(CrossdockError):
                    named = await target.find(tag)
                    found[tag] = named.digest if named is not None else None

            await run_each(unknown, look, min(ASKED_AT_ONCE, len(unknown)))
        return found

    # -- bytes ---------------------------------------------------------------------------------------------

    async def _add_bytes(
        self, index: int, source: Source, view: RepositoryView, there: TargetView, todo: list[Digest]
    ) -> int:
        """Add the blobs of these images to the sums of one target, and return the bytes to add. # network"""
        readable: list[Digest] = []
        images = self._images_of(view)

        async def learn(digest: Digest) -> None:
            try:
                await images(digest).learn(source, digest)
                readable.append(digest)
            except CrossdockError as error:
                self._unreadable(view, digest, error, self.plans[index])

        await run_each(todo, learn, min(FETCHED_AT_ONCE, len(todo)))
        if not readable or there.repository is None:
            return 0
        self.manifests_to_push[index] += sum(images(each).manifests(each) for each in readable)
        whole = {*there.tags.values(), *there.digests}
        blobs: dict[Key, int] = {}
        here: set[Key] = set()
        for digest in readable:
            of_image = dict(images(digest).blobs(digest))
            self._check_sizes(index, view, there, digest, of_image)
            blobs |= of_image
            if digest in whole:
                here.update(of_image)
        unknown = [key for key in blobs if key not in here]
        here.update(await self._look(index, there, unknown, blobs))
        for key, size in blobs.items():
            self.sums[index].add(key, size, is_here=key in here)
            if key not in here:
                self._sample(size, key, view)
        return sum(size for key, size in blobs.items() if key not in here)

    def _sample(self, size: int, key: Key, view: RepositoryView) -> None:
        """Keep it among the largest ones."""
        samples = self.planner.samples
        is_full = len(samples) == MOST_SAMPLES
        if (is_full and size <= samples[0][0]) or any(key == other for _, other, _ in samples):
            return
        (heapreplace if is_full else heappush)(samples, (size, key, view.source))

    async def _look(
        self, index: int, there: TargetView, keys: list[Key], sizes: Mapping[Key, int]
    ) -> list[Key]:
        """Those of the blobs that the target's repository has. # network"""
        host = self.planner.host(self.entry.targets[index])
        if not keys or not there.exists or there.error is not None or there.repository is None:
            return []
        repository = await self.planner.places.open(there.repository, "target", log_retry)
        found: list[Key] = []
        try:
            if len(keys) > MANY_BLOBS and not there.tags and not there.digests and there.listed is None:
                await repository.tags()

            async def look(key: Key) -> None:
                if host.asked >= MOST_ASKED and sizes[key] < LARGE_BLOB:
                    return
                host.asked += 1
                if await repository.has_blob(Descriptor("", digest_of(key), sizes[key])):
                    found.append(key)

            await run_each(keys, look, min(ASKED_AT_ONCE, len(keys)))
        except CrossdockError as error:  # knowing which blobs are there only saves work
            if not isinstance(root_cause(error), NotFound):
                self.planner.on_warning(f"which blobs {there.name} has is not known: {error}")
        return found

    def _check_sizes(
        self,
        index: int,
        view: RepositoryView,
        there: TargetView,
        digest: Digest,
        blobs: Mapping[Key, int],
    ) -> None:
        repository = there.repository
        assert repository is not None
        limit = self.planner.places.client(repository, "target").kind.largest_blob
        if limit is None:
            return
        for key, size in blobs.items():
            if size > limit:
                name = next((tag for tag, each in view.tags.items() if each == digest), str(digest))
                self.plans[index].problem(
                    "too_large",
                    shown(there.name, name),
                    f"{digest_of(key)} has {format_size(size)}, and {repository.registry} takes at most "
                    f"{format_size(limit)}",
                )

    def _unreadable(
        self, view: RepositoryView, digest: Digest, error: CrossdockError, plan: EntryPlan
    ) -> None:
        """An image that cannot be read at the source: it cannot be copied, or the plan is not whole."""
        name = next((tag for tag, each in view.tags.items() if each == digest), str(digest))
        reference = shown(place_of(view.source), name)
        kind = _kind_of(error)
        if kind is not None:
            plan.problem(kind, reference, _why(kind, error))
        else:
            self.planner.fail(error)

    # -- the end -------------------------------------------------------------------------------------------

    def needs(self) -> Iterator[Need]:
        """The requests that an apply needs at the source and at each target, once the sums are there."""
        places, source = self.planner.places, self.entry.source
        if isinstance(source, Namespace):
            referrers = self.images_to_copy if self.entry.referrers != "off" else 0
            reads = READ * sum(each.moves for each in self.sums)
            client = places.client(source.reference("catalog"), "source")
            yield Need(source.registry, client, referrers + reads, pulls=self.manifests_to_read)
        for index, target in enumerate(self.entry.targets):
            sums, plan = self.sums[index], self.plans[index]
            more = PUSH * sums.moves + sums.mounts + self.manifests_to_push[index]
            more += plan.tags_new + plan.tags_changed + plan.tags_to_delete
            yield Need(target.registry, places.client(target.reference("catalog"), "target"), more)

    def finish(self) -> None:
        """Take the sums of bytes over."""
        for plan, sums, listed in zip(self.plans, self.sums, self.listed, strict=True):
            if why := over_caps(self.entry.deletes, plan.tags_to_delete, listed):
                plan.problem("denied", plan.target, f"nothing will be deleted: {why}")
            plan.bytes_to_move, plan.bytes_to_mount = sums.to_move, sums.to_mount
            plan.bytes_present = sums.present
            plan.problems.sort(key=lambda each: (each.kind, each.reference))


def _kind_of(error: Exception) -> ProblemKind | None:
    """The kind of problem of an image that cannot be read at the source; None: later it may be readable."""
    if isinstance(root_cause(error), ContentError | ProtocolError | InvalidInput | NotFound):
        return "unsupported"
    return "denied" if was_refused(error) else None


def _why(kind: ProblemKind, error: Exception) -> str:
    return str(root_cause(error) if kind == "unsupported" else error)


def _locator(entry: Entry, target: Namespace, name: str) -> str:
    """The target's repository as people write it."""
    try:
        return entry.target_reference(target, name).locator
    except InvalidInput:
        return f"{target}/{entry.target_name(name)}"
