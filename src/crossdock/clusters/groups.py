"""Jobs, made of repositories or of lines of a list: those that share a repository stay together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct, field

from crossdock.mirroring.entry import Entry
from crossdock.oci.reference import Reference

JOBS_PER_SLOT = 8  # few enough that repositories of a job share connections, many enough to end together


class Item(Struct, frozen=True):
    """Something that one worker does. No two workers may work on one of its `places` at once."""

    key: Any
    places: frozenset[Any]
    registries: frozenset[str] = frozenset()
    size: int = 0
    """Bytes to be moved, as far as they are known."""


class Job(Struct, eq=False):
    """Work for one worker at a time: the keys of some items."""

    keys: list[Any]
    registries: frozenset[str]
    settled: dict[tuple[int, str], Any] = field(default_factory=dict)
    """By target and repository: the names that are done, which the next worker leaves out."""
    indices: dict[int, int] = field(default_factory=dict)
    """For a run that numbers its copies: the index here of each copy under way at the worker."""


def items_of(
    number: int, entry: Entry, names: Iterable[str], sizes: Mapping[str, int] | None = None
) -> Iterator[Item]:
    """Repositories of the entry with this number, by number and name. `sizes` are the bytes of some."""
    for name in names:
        targets = [entry.target_reference(each, name) for each in entry.targets]
        source = entry.source_reference(name)
        ends = [source, *targets] if isinstance(source, Reference) else targets
        yield Item(
            (number, name),
            frozenset(each.place for each in ends),
            frozenset(each.registry for each in ends),
            (sizes or {}).get(name, 0),
        )


def jobs_of(items: Iterable[Item], slots: int) -> list[Job]:
    """The jobs in which so many workers do the items, the largest first."""
    return [
        Job([each.key for each in part], frozenset().union(*(each.registries for each in part)))
        for part in balanced(grouped(items), slots)
    ]


def grouped(items: Iterable[Item]) -> list[list[Item]]:
    """The items in groups: those that share a place are in one group."""
    group_of: dict[Any, list[Item]] = {}
    groups: dict[int, list[Item]] = {}
    for item in items:
        group = [item]
        groups[id(group)] = group
        for place in item.places:
            other = group_of.get(place)
            if other is not None and other is not group:
                large, small = (other, group) if len(other) > len(group) else (group, other)
                large += small
                del groups[id(small)]
                for each in small:
                    group_of.update(dict.fromkeys(each.places & group_of.keys(), large))
                group = large
            group_of[place] = group
    return list(groups.values())


def balanced(groups: list[list[Item]], slots: int) -> list[list[Item]]:
    """The groups in jobs of about the same bytes, the largest first, for so many workers at once."""
    if not groups:
        return []
    parts: list[list[Item]] = [[] for _ in range(min(slots * JOBS_PER_SLOT, len(groups)))]
    loads = [(0, 0)] * len(parts)
    for group in sorted(groups, key=_load, reverse=True):
        least = min(range(len(parts)), key=loads.__getitem__)
        parts[least] += group
        size, number = _load(group)
        loads[least] = loads[least][0] + size, loads[least][1] + number
    return sorted(parts, key=_load, reverse=True)


def _load(items: list[Item]) -> tuple[int, int]:
    return sum(each.size for each in items), len(items)
