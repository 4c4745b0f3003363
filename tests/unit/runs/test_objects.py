"""`Session.copy` with a `Source` and a `Target` of the caller, and types as callers see them."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from crossdock import CopyOptions, Digest, RunEvent, Session, copy_many, copy_sync
from crossdock.errors import CopyError, InvalidInput
from crossdock.events import BlobProgress, CopyFailed
from crossdock.imagebuilder import ImageBuilder, sample_index
from unit.transfer.memorystore import MemoryTarget


@pytest.fixture
def layout(tmp_path: Path) -> str:
    builder = ImageBuilder(tmp_path / "source", seed=5)
    builder.tag(sample_index(builder, layer_size=3000), "v1")
    return f"oci:{tmp_path / 'source'}:v1"


async def test_objects_are_copied_like_references(layout: str, tmp_path: Path) -> None:
    store, other = MemoryTarget("memory/a"), MemoryTarget("memory/b")
    async with Session() as session:
        first = await session.copy(layout, store)
        assert (first.target, list(store.tags)) == ("memory/a:v1", ["v1"])
        second = await session.copy(store, other, source_name="v1")
        assert (second.source, second.target) == ("memory/a:v1", "memory/b:v1")
        run = session.copy(store, f"oci:{tmp_path / 'back'}:v2", source_name=str(first.digest))
        assert (await run).digest == first.digest
        assert (await run).source == f"memory/a@{first.digest}"
        third = await session.copy(layout, other, target_name="named")
        assert (third.target, set(other.tags)) == ("memory/b:named", {"v1", "named"})
        assert third.changed
        assert not (await session.copy(layout, other, target_name="named")).changed
        totals = run.totals
        assert totals.bytes_found == totals.bytes_done + totals.bytes_skipped > 0
        assert totals.requests == 0


async def test_the_name_is_the_other_sides_tag_or_else_latest(layout: str, tmp_path: Path) -> None:
    store, other = MemoryTarget("memory/a"), MemoryTarget("memory/b")
    async with Session() as session:
        await session.copy(layout, store, target_name="latest")
        assert (await session.copy(store, other)).target == "memory/b:latest"
        with pytest.raises(CopyError, match="memory/a:v9"):
            await session.copy(store, f"oci:{tmp_path / 'target'}:v9")
        with pytest.raises(InvalidInput):
            session.copy(store, other, source_name="sha256:short")


async def test_a_list_takes_objects_and_refuses_two_writers(layout: str) -> None:
    store = MemoryTarget("memory/a")
    assert (await copy_many([(layout, store)])).count("copied") == 1
    with pytest.raises(InvalidInput, match="is written by"):
        await copy_many([(layout, store), (layout.replace("v1", "v2"), store), (layout, store)])


def test_the_synchronous_form_takes_objects(layout: str) -> None:
    store = MemoryTarget("memory/a")
    assert copy_sync(layout, store, target_name="x").target == "memory/a:x"


def test_options_events_and_errors_are_picklable() -> None:
    options = CopyOptions(platforms=("linux/amd64",), environ={"HOME": "/"})
    assert pickle.loads(pickle.dumps(options)) == options
    event = RunEvent(3, "a", "b", BlobProgress("sha256:" + "0" * 64, 5, 9))
    assert pickle.loads(pickle.dumps(event)) == event
    failed = CopyFailed("a", "b", CopyError("x", operation="copy", side="source", reference="r"))
    assert pickle.loads(pickle.dumps(failed)).error.side == "source"
    assert pickle.loads(pickle.dumps(Digest("sha256:" + "0" * 64))) == "sha256:" + "0" * 64


CALLER = """
import asyncio
from collections.abc import Awaitable

from typing import assert_type

from crossdock import (
    CopyOptions, CopyResult, Event, ManyResult, MirrorResult, Run, RunEvent, Session, Source, Target, copy,
    copy_many, copy_sync, inspect, list_tags, mirror,
)


async def heard(event: Event) -> None:
    print(event)


async def main(source: Source, target: Target) -> None:
    async with Session(CopyOptions()) as session:
        one = session.copy("alpine:3", target, target_name="v1", on_event=heard)
        assert_type(one, Run[CopyResult])
        assert_type(await one, CopyResult)
        assert_type(await session.copy(source, target), CopyResult)
        many = session.copy_many([("a", "b"), (source, target)], on_event=lambda index, event: None)
        assert_type(many, Run[ManyResult])
        async for event in many.events():
            assert_type(event, RunEvent)
            print(event.index, event.source, event.target, event.event)
        assert_type(await many, ManyResult)
        assert_type(many.result, ManyResult)
        mirrored = session.mirror("a.example", ["b.example"], tags=["v*"], untagged=True, at_once=4)
        assert_type(mirrored, Run[MirrorResult])
        seconds: float | None = mirrored.totals.seconds_left
        stalled: tuple[str, ...] = mirrored.totals.stalled
        mirrored.cancel()
        results = await asyncio.gather(session.copy("a", "b"), session.copy("a", "c"))
        assert_type(results, tuple[CopyResult, CopyResult])
        waiting: Awaitable[CopyResult] = session.copy("a", "d")
        print(await session.inspect("a"), await session.list_tags("a"), seconds, stalled, waiting)
    assert_type(await copy("a", "b"), CopyResult)
    assert_type(await copy_many([("a", "b")]), ManyResult)
    assert_type(await mirror("a.example", "b.example", repositories=["x"], fail_fast=True), MirrorResult)
    print(await inspect("a"), await list_tags("a"), copy_sync)
"""


def test_a_caller_is_clean_under_mypy_strict(tmp_path: Path) -> None:
    (tmp_path / "caller.py").write_text(textwrap.dedent(CALLER))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "caller.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
