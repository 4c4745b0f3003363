"""Shards: each repository in one of them, the same in every process, and limits divided."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from crossdock.mirroring.entry import Deletes, Entry
from crossdock.mirroring.names import Namespace
from crossdock.mirroring.shard import Shard, Weight, repository_name
from crossdock.oci.reference import LayoutReference
from crossdock.options import CopyOptions, HostLimits

ENTRY = Entry(name="a", source=Namespace("old.example", "team"), targets=(Namespace("new.example", "to"),))
NAMES = [f"group/r{number}" for number in range(200)]


@pytest.mark.parametrize("count", [1, 2, 3, 16])
def test_each_repository_is_in_one_shard(count: int) -> None:
    shards = [Shard.of(index, count) for index in range(count)]
    assert all(sum(shard.has(ENTRY, name) for shard in shards) == 1 for name in NAMES)
    sizes = [sum(shard.has(ENTRY, name) for name in NAMES) for shard in shards]
    assert min(sizes) > len(NAMES) / count / 4


def test_another_process_finds_the_same_shard() -> None:
    code = (
        "from test_shard import ENTRY, NAMES, Shard\n"
        "print([name for name in NAMES if Shard.of(1, 4).has(ENTRY, name)])"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parent,
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert found == {f"{[name for name in NAMES if Shard.of(1, 4).has(ENTRY, name)]}\n"}


def test_the_shard_of_a_name_never_changes() -> None:
    """A run of shards that went on with another release would leave repositories out."""
    assert [name for name in NAMES[:12] if Shard.of(0, 3).has(ENTRY, name)] == [
        "group/r1",
        "group/r2",
        "group/r4",
        "group/r9",
        "group/r11",
    ]


def test_entries_that_read_one_repository_are_in_one_shard() -> None:
    other = Entry(name="b", source=Namespace("old.example"), targets=(Namespace("eu.example"),))
    for name in NAMES:
        for index in range(3):
            shard = Shard.of(index, 3)
            assert shard.has(ENTRY, name) == shard.has(other, f"team/{name}")


def test_a_layout_is_known_by_its_target() -> None:
    layout = Entry(
        name="l", source=LayoutReference("/any/place"), targets=(Namespace("new.example", "to/app"),)
    )
    assert repository_name(layout, "") == "to/app"


def parts(weights: dict[str, Weight], count: int) -> list[set[str]]:
    return [set(Shard.of(index, count).balanced(weights).repositories or ()) for index in range(count)]


def test_the_largest_repositories_are_divided_first() -> None:
    sizes = {"a": 10, "b": 50, "c": 20, "d": 30, "e": 10}
    weights = {name: Weight(size, 100 - size) for name, size in sizes.items()}
    assert parts(weights, 2) == [{"b", "a"}, {"d", "c", "e"}]
    assert parts(dict(reversed(weights.items())), 2) == parts(weights, 2)


def test_repositories_with_nothing_to_move_are_divided_by_tags() -> None:
    weights = {"big": Weight(1000, 30), **{name: Weight(0, 10) for name in "abcde"}}
    assert parts(weights, 2) == [{"big", "d"}, {"a", "b", "c", "e"}]


def test_a_shard_by_bytes_has_the_repositories_of_the_plan_alone() -> None:
    shard = Shard.of(0, 1).balanced({"team/a": Weight(1, 1)})
    assert shard.has(ENTRY, "a")
    assert not shard.has(ENTRY, "b")


def test_limits_are_divided() -> None:
    options = CopyOptions(
        limit_rate=100.0,
        limit_requests=10.0,
        limit_hosts={
            "docker.io": HostLimits(requests_per_second=5.0, bytes_per_second=40.0, connections=10),
            "other.example": HostLimits(connections=2),
        },
    )
    assert Shard.of(1, 4).share(options) == replace(
        options,
        limit_rate=25.0,
        limit_requests=2.5,
        limit_hosts={
            "docker.io": HostLimits(requests_per_second=1.25, bytes_per_second=10.0, connections=2),
            "other.example": HostLimits(connections=1),
        },
    )
    assert Shard.of(1, 4).share(CopyOptions()) == CopyOptions()


@pytest.mark.parametrize("most", [0, 1, 10, 100])
def test_the_caps_on_deletes_of_all_shards_are_that_of_the_whole(most: int) -> None:
    shares = [Shard.of(index, 3).share_of_deletes(Deletes(max_tags=most)).max_tags for index in range(3)]
    assert sum(shares) == most
    assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize("text", ["", "1", "a/b", "1/", "/2", "-1/2", "2/2", "0/0", "1.0/2"])
def test_invalid_shards(text: str) -> None:
    with pytest.raises(ValueError, match=r"shard|form"):
        Shard.parse(text)
