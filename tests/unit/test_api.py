"""The library between layouts: results of `copy`, and state that concurrent copies share."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from crossdock import Session
from crossdock.api import copy, copy_sync, inspect, list_tags
from crossdock.errors import CopyError, InvalidReference
from crossdock.imagebuilder import ImageBuilder, sample_index
from crossdock.options import CopyOptions, NetworkOptions
from crossdock.runs import workshop
from crossdock.transfer.budget import Budget


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    builder = ImageBuilder(tmp_path / "source", seed=5)
    builder.tag(sample_index(builder, layer_size=300_000), "v1")
    return tmp_path / "source"


async def test_a_copy_says_what_it_did_and_a_second_one_moves_nothing(layout: Path, tmp_path: Path) -> None:
    target = f"oci:{tmp_path / 'target'}:v1"
    first = await copy(f"oci:{layout}:v1", target)
    second = await copy(f"oci:{layout}:v1", target)
    assert first.digest == second.digest == first.source_digest
    assert not first.digest_changed
    assert first.bytes_moved == second.bytes_skipped > 0
    assert second.bytes_moved == second.bytes_requested == 0
    assert first.manifests == second.manifests
    assert await list_tags(target) == ["v1"]
    assert (await inspect(target)).digest == first.digest


async def test_an_untagged_layout_target_lists_what_was_copied(layout: Path, tmp_path: Path) -> None:
    result = await copy(f"oci:{layout}:v1", f"oci:{tmp_path / 'target'}")
    assert (await inspect(f"oci:{tmp_path / 'target'}")).digest == result.digest


async def test_copies_of_a_session_share_one_budget(
    layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Budget] = []

    class CountedBudget(Budget):
        def __init__(self, memory: int, *, debug: bool = False) -> None:
            super().__init__(memory, debug=debug)
            made.append(self)

    monkeypatch.setattr(workshop, "Budget", CountedBudget)
    async with Session(CopyOptions(memory=8 << 20)) as session:
        await asyncio.gather(
            *(session.copy(f"oci:{layout}:v1", f"oci:{tmp_path / str(number)}:v1") for number in range(4))
        )
        await session.copy(f"oci:{layout}:v1", f"oci:{tmp_path / 'later'}:v1")
    assert len(made) == 1


async def test_copies_with_other_limits_keep_to_their_own(layout: Path, tmp_path: Path) -> None:
    options = [CopyOptions(memory=8 << 20), CopyOptions(network=NetworkOptions(connections=1))]
    results = await asyncio.gather(
        *(
            copy(f"oci:{layout}:v1", f"oci:{tmp_path / str(number)}:v1", choice)
            for number, choice in enumerate(options)
        )
    )
    assert results[0].digest == results[1].digest


async def test_a_failed_copy_leaves_the_workshop_to_the_others(layout: Path, tmp_path: Path) -> None:
    good, bad = await asyncio.gather(
        copy(f"oci:{layout}:v1", f"oci:{tmp_path / 'target'}:v1"),
        copy(f"oci:{layout}:missing", f"oci:{tmp_path / 'target'}:v2"),
        return_exceptions=True,
    )
    assert isinstance(bad, CopyError)
    assert bad.side == "source"
    assert not isinstance(good, BaseException)


def test_a_reference_that_is_none_is_refused_before_anything_happens(tmp_path: Path) -> None:
    with pytest.raises(InvalidReference):
        copy_sync("no such scheme://x", f"oci:{tmp_path / 'target'}:v1")
    assert not (tmp_path / "target").exists()
