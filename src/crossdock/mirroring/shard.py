"""One of N equal parts of a run, for schedulers that start N copies of a command.

A repository is in one shard, whatever process asks: with all its tags, and for all entries that read it, so
that layers which its images share are moved once. Shards know nothing of each other, so limits are divided.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace

from msgspec import Struct
from msgspec.structs import replace as with_fields

from crossdock.mirroring.entry import Deletes, Entry
from crossdock.mirroring.names import Namespace
from crossdock.options import CopyOptions, HostLimits


class Weight(Struct, frozen=True):
    """The cost of a repository: `size` bytes to be moved, and a few requests for each of its tags."""

    size: int = 0
    tags: int = 0


class Shard(Struct, frozen=True):
    """The shard `index` of `count`, from 0."""

    index: int
    count: int
    repositories: frozenset[str] | None = None
    """By `repository_name`. None: a hash of the name decides."""

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The shard written as ``I/N``. Raises ValueError."""
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal()):
            raise ValueError(f"{text!r} is not of the form I/N")
        return cls.of(int(index), int(count))

    @classmethod
    def of(cls, index: int, count: int) -> Shard:
        """The shard `index` of `count`. Raises ValueError when there is no such shard."""
        if count < 1:
            raise ValueError("there must be 1 or more shards")
        if not 0 <= index < count:
            raise ValueError(f"there is no shard {index}: the {count} shards are 0 to {count - 1}")
        return cls(index, count)

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def balanced(self, weights: Mapping[str, Weight]) -> Shard:
        """The shard of these repositories alone, divided so that shards have about the same bytes to move.

        The largest goes first, each to the shard with the least. Those with nothing to move are divided by
        their tags.
        """
        parts: list[set[str]] = [set() for _ in range(self.count)]
        tags = [0] * self.count

        def divide(names: list[str], weight_of: Callable[[str], int], loads: list[int]) -> None:
            for name in sorted(names, key=lambda each: (-weight_of(each), each)):
                least = min(range(self.count), key=loads.__getitem__)
                parts[least].add(name)
                loads[least] += weight_of(name)

        divide([each for each in weights if weights[each].size], lambda each: weights[each].size, [*tags])
        for number, part in enumerate(parts):
            tags[number] = sum(weights[each].tags for each in part)
        divide([each for each in weights if not weights[each].size], lambda each: weights[each].tags, tags)
        return with_fields(self, repositories=frozenset(parts[self.index]))

    def has(self, entry: Entry, name: str) -> bool:
        """Whether the entry's repository `name`, below the source's prefix, is in this shard."""
        full = repository_name(entry, name)
        if self.repositories is not None:
            return full in self.repositories
        # Not Python's hash(), which differs from process to process.
        number = int.from_bytes(hashlib.sha256(full.encode()).digest()[:8], "big")
        return number % self.count == self.index

    def share(self, options: CopyOptions) -> CopyOptions:
        """The options with this shard's part of the rates and of the connections to hosts (1 at least)."""

        def part(value: float | None) -> float | None:
            return value / self.count if value is not None else None

        def host(limits: HostLimits) -> HostLimits:
            most = limits.connections
            return HostLimits(
                requests_per_second=part(limits.requests_per_second),
                bytes_per_second=part(limits.bytes_per_second),
                connections=max(1, most // self.count) if most is not None else None,
            )

        return replace(
            options,
            limit_rate=part(options.limit_rate),
            limit_requests=part(options.limit_requests),
            limit_hosts={name: host(limits) for name, limits in options.limit_hosts.items()},
        )

    def share_of_deletes(self, deletes: Deletes) -> Deletes:
        """The caps for this shard, with which all shards together stay below those of the whole.

        A percentage of each part's tags is at most that percentage of all.
        """
        more = self.index < deletes.max_tags % self.count
        return with_fields(deletes, max_tags=deletes.max_tags // self.count + more)


def repository_name(entry: Entry, name: str) -> str:
    """The whole name of the entry's repository `name`: at the source, or for a layout at the first target."""
    place = entry.source if isinstance(entry.source, Namespace) else entry.targets[0]
    return "/".join(filter(None, (place.prefix, name)))
