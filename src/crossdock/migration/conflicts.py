"""Tags that two entries of a file would write: as far as the file shows it, and as the sources' lists do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import combinations

from msgspec import Struct

from crossdock.errors import Advice, CopyError, InvalidInput
from crossdock.mirroring.choice import TagChoice
from crossdock.mirroring.entry import Entry
from crossdock.mirroring.names import Namespace
from crossdock.mirroring.patterns import Patterns, is_pattern
from crossdock.mirroring.survey import LISTED_AT_ONCE, Survey
from crossdock.oci.attachedtag import is_attached_tag
from crossdock.oci.reference import LayoutReference
from crossdock.oci.registryname import registry_key
from crossdock.tasks import run_each


class Conflict(Struct, frozen=True):
    """Two entries, by their numbers, and what both write: a repository or more, perhaps with a tag."""

    entries: tuple[int, int]
    what: str


# -- as the file shows it ------------------------------------------------------------------------------------


def written_twice(entries: Sequence[Entry]) -> Conflict | None:
    """The first two entries that write one tag, where names without patterns show it, or one source."""
    for first, second, what, is_one_source in _meeting(entries):
        tag = _tag_of_both(entries[first].tags, entries[second].tags, is_one_source)
        if tag is not None:
            return Conflict((first, second), f"{what}{tag}")
    return None


def read_and_written(entries: Sequence[Entry]) -> Conflict | None:
    """The first entry whose source another one writes to, that one, and where: a prefix of a registry.

    Those are apart that names without patterns show to be.
    """
    targets: dict[str, list[tuple[int, Namespace]]] = defaultdict(list)  # by registry
    for number, entry in enumerate(entries):
        for target in entry.targets:
            targets[registry_key(target.registry)].append((number, target))
    for number, entry in enumerate(entries):
        source = entry.source
        if isinstance(source, LayoutReference):
            continue
        for writer, target in targets.get(registry_key(source.registry), ()):
            if (
                writer != number
                and source.overlaps(target)
                and not _are_apart(entry, entries[writer], target)
            ):
                return Conflict((number, writer), str(target))
    return None


def _are_apart(reader: Entry, writer: Entry, target: Namespace) -> bool:
    """Whether names without patterns show that nothing is read that is written."""
    source = reader.source
    assert isinstance(source, Namespace)
    if writer.named is None and not isinstance(writer.source, LayoutReference):
        # It may write anything below its target.
        read = [source.reference(name).repository for name in reader.named or ()]
        return reader.named is not None and all(target.name_of(each) is None for each in read)
    written = [source.name_of(writer.target_reference(target, name).repository) for name in _names(writer)]
    wanted = reader.repositories.wants if reader.named is None else reader.named.__contains__
    return not any(name is not None and wanted(name) for name in written)


def _meeting(entries: Sequence[Entry]) -> Iterator[tuple[int, int, str, bool]]:
    """Two entries that write one repository, that or where it is, and whether it is of one source."""
    named: dict[str, list[int]] = defaultdict(list)
    alike: dict[Hashable, list[int]] = defaultdict(list)  # of one source, named alike, to one target
    same: dict[tuple[Hashable, Patterns], list[int]] = defaultdict(
        list
    )  # and with the same patterns of repositories
    places: dict[Hashable, str] = {}
    for number, entry in enumerate(entries):
        for target in entry.targets:
            for name in _names(entry):
                named[entry.target_reference(target, name).locator].append(number)
            key = (entry.source, entry.naming, target)
            places[key] = str(target)
            alike[key].append(number)
            same[key, entry.repositories].append(number)
    for place, numbers in named.items():
        for first, second in combinations(numbers, 2):
            is_one_source = entries[first].source == entries[second].source
            yield first, second, place, is_one_source and entries[first].naming == entries[second].naming
    for (whose, _), numbers in same.items():
        yield from ((first, second, places[whose], True) for first, second in combinations(numbers, 2))
    for whose, numbers in alike.items():
        for taker in (number for number in numbers if entries[number].repositories.wants_all):
            for each in numbers:
                if each != taker:
                    yield min(taker, each), max(taker, each), places[whose], True


def _names(entry: Entry) -> Sequence[str]:
    """The repositories that are named without patterns; a layout is one without a name."""
    return [""] if isinstance(entry.source, LayoutReference) else entry.named or ()


def _tag_of_both(first: TagChoice, second: TagChoice, is_one_source: bool) -> str | None:
    """``:TAG`` that both choose, empty for all that one of them chooses; None: there need not be any."""
    if first == second or (first.takes_all and second.takes_all):
        return ""
    if is_one_source and (first.takes_all or second.takes_all):
        return ""
    mine, theirs = (_literal_tags(each) for each in (first, second))
    both = [tag for tag in mine if second.takes_all or tag in theirs]
    both += [tag for tag in theirs if first.takes_all]
    return f":{both[0]}" if both else None


def _literal_tags(choice: TagChoice) -> list[str]:
    """Tags that are chosen wherever they are: named without patterns, and nothing else filters."""
    if choice.semver or choice.newest is not None or choice.needs_times:
        return []
    return [each for each in choice.patterns.include if not is_pattern(each) and choice.patterns.wants(each)]


# -- as the sources' lists show it ---------------------------------------------------------------------------

Names = Mapping[int, Sequence[str]]
"""The repositories of entries, by the entry's number."""

Writer = tuple[int, str]
"""An entry's number, and the repository of its source."""


def writers(entries: Sequence[Entry], names: Names) -> dict[str, list[Writer]]:
    """The repositories of targets that several entries write, and who does."""
    found: dict[str, list[Writer]] = {}
    for number, repositories in names.items():
        for target in entries[number].targets:
            for name in repositories:
                with suppress(InvalidInput):  # a name that is not valid there is no conflict
                    written = entries[number].target_reference(target, name).locator
                    found.setdefault(written, []).append((number, name))
    return {written: each for written, each in found.items() if len({number for number, _ in each}) > 1}


async def check_tags(
    entries: Sequence[Entry], written: Mapping[str, Sequence[Writer]], survey_of: Callable[[int], Survey]
) -> None:
    """Raise `InvalidInput` for a tag that two entries would write to one repository. # network

    Lists of what is chosen are asked for, of the repositories in `written` alone. One that cannot be listed
    is no conflict. Tags made of digests may be written by several: what they attach is put together.
    """
    surveys = {number: survey_of(number) for each in written.values() for number, _ in each}

    async def check(place: str) -> None:
        taken: dict[str, Writer] = {}
        for writer in written[place]:
            number, name = writer
            try:
                chosen = await surveys[number].chosen(name)
            except CopyError:
                continue
            for tag in chosen:
                if ":" in tag or is_attached_tag(tag):
                    continue
                first = taken.setdefault(tag, writer)
                if first[0] != number:
                    both = " and ".join(_shown(entries, each, tag) for each in (first, writer))
                    raise InvalidInput(
                        f"{both} are both copied to {place}:{tag}",
                        advice=Advice(
                            "correct-file", "choose other repositories, tags or targets in one mirror"
                        ),
                    )

    await run_each(written, check, LISTED_AT_ONCE)


def _shown(entries: Sequence[Entry], writer: Writer, tag: str) -> str:
    entry = entries[writer[0]]
    source = entry.source
    name = str(source) if isinstance(source, LayoutReference) else source.reference(writer[1]).locator
    return f"{name}:{tag} ({entry.place or entry.name})"
