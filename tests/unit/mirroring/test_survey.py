"""A survey over the test's own stores, which count requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any, cast

import pytest

from crossdock.content import ManifestRow
from crossdock.errors import Denied, InvalidInput, NotFound, NothingMatched, ReadFailed, root_cause
from crossdock.mirroring.choice import TagChoice
from crossdock.mirroring.entry import Entry
from crossdock.mirroring.names import Namespace
from crossdock.mirroring.patterns import Patterns
from crossdock.mirroring.survey import LISTED_AT_ONCE, Survey
from crossdock.mirroring.views import RepositoryView
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.mediatype import OCI_MANIFEST
from crossdock.runs.places import Places

SOURCE, TARGET = Namespace("source.example", "team"), Namespace("target.example")


def digest(word: str) -> Digest:
    """A digest for each word."""
    return Digest.of(word.encode())


def tags(*words: str) -> dict[str, Digest]:
    """Tags that mean the digests of their words: ``v1=one`` or ``v1``."""
    parts = [each.partition("=") for each in words]
    return {tag: digest(word or tag) for tag, _, word in parts}


class Store:
    """One repository; `asked` records its requests."""

    def __init__(self, held: Mapping[str, Digest] | None) -> None:
        """None: there is no such repository."""
        self.held = held
        self.asked: list[str] = []
        self.failures: dict[str, Exception] = {}

    async def tags(self, on_warning: Callable[[str], None] | None = None) -> list[str]:
        self._ask("tags")
        return list(self._all())

    async def resolve(self, reference: str) -> Descriptor:
        found = await self.find(reference)
        if found is None:
            raise NotFound(f"no {reference}", status=404)
        return found

    async def find(self, reference: str) -> Descriptor | None:
        self._ask(f"HEAD {reference}")
        held = self.held or {}
        found = reference if reference in held.values() else held.get(reference)
        return Descriptor(OCI_MANIFEST, Digest(found), 100) if found is not None else None

    def _all(self) -> Mapping[str, Digest]:
        if self.held is None:
            raise NotFound("no such repository", status=404)
        return self.held

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if (failure := self.failures.get(what) or self.failures.get("*")) is not None:
            raise failure


class BulkStore(Store):
    """One that lists its manifests, those of `untagged` too."""

    def __init__(
        self,
        held: Mapping[str, Digest] | None,
        untagged: tuple[Digest, ...] = (),
        pushed: float | None = None,
    ) -> None:
        super().__init__(held)
        self.untagged = untagged
        self.pushed = pushed

    async def list_manifests(
        self,
        on_warning: Callable[[str], None] | None = None,
        *,
        untagged: bool = False,
        needed: bool = False,
    ) -> list[ManifestRow]:
        self._ask("manifests")
        held: dict[Digest, list[str]] = {each: [] for each in self.untagged}
        for tag, each in self._all().items():
            held.setdefault(each, []).append(tag)
        return [ManifestRow(each, tuple(names), pushed=self.pushed) for each, names in held.items()]


class Stores:
    """In place of `Places`."""

    def __init__(self, stores: Mapping[str, Store]) -> None:
        self.stores = stores

    async def open(self, location: Any, side: str, on_retry: Any) -> Store:
        await asyncio.sleep(0)
        return self.stores[location.locator]


def entry(*names: str, **fields: Any) -> Entry:
    """An entry for these repositories."""
    return Entry(
        name="team",
        source=SOURCE,
        targets=(TARGET,),
        repositories=Patterns(include=names or ("app",)),
        **fields,
    )


def survey(stores: Mapping[str, Store], chosen: Entry, **options: Any) -> list[RepositoryView]:
    """All views of the survey."""

    async def run() -> list[RepositoryView]:
        surveying = Survey(chosen, cast("Places", Stores(stores)), **options)
        async with aclosing(surveying.views()) as views:
            return [view async for view in views]

    return asyncio.run(run())


def pair(source: Store, target: Store, name: str = "app") -> dict[str, Store]:
    """The stores of one repository."""
    return {f"source.example/team/{name}": source, f"target.example/{name}": target}


def test_a_plain_registry_gets_one_request_for_the_tags_and_one_for_each() -> None:
    """One list at the source and a HEAD a tag and side: no more."""
    source, target = Store(tags("v1", "v2")), Store(tags("v1", "v2=other", "v3"))
    [view] = survey(pair(source, target), entry())
    assert view.tags == source.held
    assert view.targets[0].tags == tags("v1", "v2=other")
    assert view.targets[0].listed is None
    assert sorted(source.asked) == ["HEAD v1", "HEAD v2", "tags"]
    assert sorted(target.asked) == ["HEAD v1", "HEAD v2"]


def test_all_tags_of_a_target_are_listed_when_they_are_wanted() -> None:
    """Tags that are not there cost no HEAD then."""
    source, target = Store(tags("v1", "v2")), Store(tags("v1", "old"))
    [view] = survey(pair(source, target), entry(), all_target_tags=True)
    assert view.listed == {"v1", "v2"}
    assert view.targets[0].listed == {"v1", "old"}
    assert sorted(target.asked) == ["HEAD v1", "tags"]


def test_a_target_without_the_repository() -> None:
    """It has nothing, which is no error."""
    [view] = survey(pair(Store(tags("v1")), Store(None)), entry(), all_target_tags=True)
    there = view.targets[0]
    assert (there.exists, there.error, dict(there.tags)) == (False, None, {})


def test_bulk_lists_say_it_all() -> None:
    """One request a repository and side."""
    names = [f"v{number}" for number in range(30)]
    source, target = BulkStore(tags(*names), (digest("lost"),)), BulkStore(tags("v1", "v2=old", "x"))
    [view] = survey(pair(source, target), entry(untagged=True))
    assert view.tags == source.held
    assert view.untagged == (digest("lost"),)
    assert view.targets[0].tags == target.held
    assert view.targets[0].listed == {"v1", "v2", "x"}
    assert (source.asked, target.asked) == (["manifests"], ["manifests"])


def test_a_few_tags_are_looked_up_one_by_one_at_a_target_with_bulk_lists() -> None:
    """Its list may have hundreds of pages."""
    target = BulkStore(tags("v1"))
    survey(pair(BulkStore(tags("v1")), target), entry())
    assert target.asked == ["HEAD v1"]


@pytest.mark.parametrize("source", [Store(tags("v1")), BulkStore(tags("v1"))], ids=["plain", "without times"])
def test_a_choice_by_push_time_needs_lists_that_have_it(source: Store) -> None:
    """Nothing is yielded, so nothing is sent."""
    with pytest.raises(InvalidInput, match="when it got"):
        survey(pair(source, Store({})), entry(tags=TagChoice(min_age=3600)))


def test_untagged_manifests_need_a_list_of_manifests() -> None:
    """As above."""
    with pytest.raises(InvalidInput, match="no API"):
        survey(pair(Store(tags("v1")), Store({})), entry(untagged=True))


def test_a_repository_that_cannot_be_listed_is_a_view_with_its_error() -> None:
    """The others are surveyed."""
    broken = Store({})
    broken.failures["tags"] = ReadFailed("cut")
    stores = pair(broken, Store({}), "bad") | pair(Store(tags("v1")), Store({}), "good")
    views = {view.name: view for view in survey(stores, entry("bad", "good"))}
    assert "list tags of source source.example/team/bad" in str(views["bad"].error)
    assert dict(views["bad"].tags) == {}
    assert dict(views["good"].tags) == tags("v1")


def test_a_tag_that_cannot_be_resolved_is_an_error_of_its_own() -> None:
    """The others are known."""
    source = Store(tags("v1", "v2"))
    source.failures["HEAD v1"] = NotFound("gone", status=404)
    [view] = survey(pair(source, Store({})), entry())
    assert dict(view.tags) == tags("v2")
    assert isinstance(root_cause(view.errors["v1"]), NotFound)


def test_a_target_that_refuses_a_look_up_gets_no_more_requests() -> None:
    """Its error is in the view."""
    names = [f"v{number}" for number in range(100)]
    target = Store({})
    target.failures["*"] = Denied("no", status=403)
    [view] = survey(pair(Store(tags(*names)), target), entry())
    assert len(view.tags) == 100
    assert isinstance(root_cause(view.targets[0].error or Exception()), Denied)
    assert len(target.asked) < 100


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_refused_tag_does_not_end_the_others(side: str) -> None:
    names = [f"v{number}" for number in range(50)]
    source, target = Store(tags(*names)), Store(tags(*names))
    refusing = source if side == "source" else target
    for number in range(0, 50, 20):
        refusing.failures[f"HEAD v{number}"] = Denied("no", status=403)
    [view] = survey(pair(source, target), entry())
    found = view.tags if side == "source" else view.targets[0].tags
    assert set(names) - set(found) == {"v0", "v20", "v40"}
    errors = [*view.errors.values(), view.targets[0].error]
    assert all(isinstance(root_cause(each), Denied) for each in errors if each is not None)
    assert any(errors)


def test_settled_content_is_not_requested() -> None:
    """At that target, and at the source when all targets have it."""
    source, target = Store(tags("v1", "v2")), Store(tags("v1"))
    [view] = survey(pair(source, target), entry(), settled=lambda name: (frozenset({"v1"}),))
    assert dict(view.tags) == tags("v2")
    assert view.listed == {"v1", "v2"}
    assert sorted(source.asked) == ["HEAD v2", "tags"]
    assert target.asked == ["HEAD v2"]


def test_a_settled_repository_yields_no_view_and_no_request() -> None:
    """As above, for all of it."""
    source, target = Store(tags("v1")), Store({})
    assert survey(pair(source, target), entry(), settled=lambda name: None) == []
    assert (source.asked, target.asked) == ([], [])


def test_only_some_names() -> None:
    """They are not selected again, and nothing is listed."""
    lost = digest("lost")
    source, target = Store(tags("v1", "v2") | {"": lost}), Store({})
    [view] = survey(pair(source, target), entry(), only={"app": ["v2", lost]})
    assert dict(view.tags) == tags("v2")
    assert view.untagged == (lost,)
    assert sorted(source.asked) == sorted(["HEAD v2", f"HEAD {lost}"])


def test_views_wait_to_be_taken() -> None:
    """Only a few repositories are listed ahead, and leaving ends running requests."""
    names = [f"r{number}" for number in range(200)]
    stores: dict[str, Store] = {}
    for name in names:
        stores |= pair(Store(tags("v1")), Store({}), name)

    async def run() -> int:
        surveying = Survey(entry(*names), cast("Places", Stores(stores)))
        async with aclosing(surveying.views()) as views:
            async for _ in views:
                for _ in range(1000):
                    await asyncio.sleep(0)
                break
        assert len(asyncio.all_tasks()) == 1
        return sum(bool(store.asked) for store in stores.values()) // 2

    assert 0 < asyncio.run(run()) <= 2 * LISTED_AT_ONCE + 1


def test_patterns_that_match_nothing_are_told_if_others_match() -> None:
    """In the end, since a later repository may have such a tag."""
    told: list[str] = []
    chosen = entry(tags=TagChoice(patterns=Patterns(include=("v*", "x*"))))
    survey(pair(Store(tags("v1")), Store({})), chosen, on_warning=told.append)
    assert told == ["no tag of source.example/team matches 'x*'"]


def test_an_entry_that_chooses_nothing_says_why() -> None:
    """Not when a repository could not be listed."""

    async def run(source: Store) -> NothingMatched | None:
        chosen = entry(tags=TagChoice(patterns=Patterns(include=("x*",))))
        surveying = Survey(chosen, cast("Places", Stores(pair(source, Store({})))))
        async with aclosing(surveying.views()) as views:
            async for _ in views:
                pass
        return surveying.nothing

    broken = Store({})
    broken.failures["tags"] = ReadFailed("cut")
    assert "'x*' matches none of the 1 tag of the 1 repository" in str(asyncio.run(run(Store(tags("v1")))))
    assert asyncio.run(run(Store(tags("x1")))) is None
    assert asyncio.run(run(broken)) is None


def test_a_target_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each of thousands of repositories would wait for it."""
    monkeypatch.setattr("crossdock.runs.reach.GIVE_UP_AFTER_S", 0.0)
    stores: dict[str, Store] = {}
    names = [f"r{number}" for number in range(100)]
    for name in names:
        silent = Store({})
        silent.failures["*"] = ReadFailed("cut")
        stores |= pair(Store(tags("v1")), silent, name)
    views = survey(stores, entry(*names))
    assert len(views) == 100
    assert all(view.targets[0].error is not None and view.tags == tags("v1") for view in views)
    asked = [store for name, store in stores.items() if name.startswith("target") and store.asked]
    assert 8 <= len(asked) < 50
