"""`Run` between layouts: awaiting, iterating, listening, cancelling, totals."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from crossdock import CopyResult, ManyResult, Run, RunEvent, Session
from crossdock.events import (
    BlobDone,
    BlobPlanned,
    BlobProgress,
    CopyDone,
    CopyFailed,
    CopyStarted,
    Event,
    ignore,
)
from crossdock.imagebuilder import ImageBuilder, sample_index
from crossdock.runs.run import MOST_QUEUED, Feed, Watchers
from crossdock.runs.totals import Totals
from crossdock.tally import Tally

IMAGES = 20


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    builder = ImageBuilder(tmp_path / "source", seed=5)
    builder.tag(sample_index(builder, layer_size=3000), "v1")
    return tmp_path / "source"


@pytest.fixture
async def session() -> AsyncIterator[Session]:
    async with Session() as session:
        yield session
    assert len(asyncio.all_tasks()) == 1


@pytest.fixture
def pairs(layout: Path, tmp_path: Path) -> list[tuple[str, str]]:
    return [(f"oci:{layout}:v1", f"oci:{tmp_path / 'target'}:{number}") for number in range(IMAGES)]


def one(session: Session, pairs: list[tuple[str, str]], **words: object) -> Run[CopyResult]:
    return session.copy(*pairs[0], **words)  # type: ignore[arg-type]


# -- awaiting --------------------------------------------------------------------------------------------


async def test_a_run_starts_with_the_first_await(
    session: Session, pairs: list[tuple[str, str]], tmp_path: Path
) -> None:
    run = one(session, pairs)
    await asyncio.sleep(0.05)
    assert not (tmp_path / "target").exists()
    assert (run.done, repr(run), run.result.digest) == (False, "<Run not started>", "")
    result = await run
    assert (run.done, repr(run)) == (True, "<Run ended>")
    assert await run is result
    assert run.result is result
    assert pickle.loads(pickle.dumps(result)) == result


async def test_the_result_so_far_can_be_read_at_any_time(
    session: Session, pairs: list[tuple[str, str]]
) -> None:
    run = session.copy_many(pairs, at_once=1)
    seen = [
        run.result.count("copied") async for event in run.events() if isinstance(event.event, CopyStarted)
    ]
    assert seen == list(range(IMAGES))
    result = await run
    assert result.count("copied") == IMAGES
    assert run.result is result


# -- events ----------------------------------------------------------------------------------------------


async def test_events_are_told_in_order_with_their_copy(
    session: Session, pairs: list[tuple[str, str]]
) -> None:
    run = session.copy_many(pairs)
    by_copy: dict[int, list[RunEvent]] = {}
    async for event in run.events():
        by_copy.setdefault(event.index, []).append(event)
    await run
    assert sorted(by_copy) == list(range(IMAGES))
    for index, events in by_copy.items():
        assert {(each.source, each.target) for each in events} == {pairs[index]}
        assert isinstance(events[0].event, CopyStarted)
        assert isinstance(events[-1].event, CopyDone)
    assert pickle.loads(pickle.dumps(by_copy[0])) == by_copy[0]


async def test_a_slow_consumer_slows_the_run(session: Session, pairs: list[tuple[str, str]]) -> None:
    run = session.copy_many(pairs)
    events = run.events()
    await anext(events)
    await asyncio.sleep(0.3)
    assert run.totals.images_done < IMAGES / 2
    before = run.totals.images_done, run.totals.blobs_found
    await asyncio.sleep(0.2)
    assert (run.totals.images_done, run.totals.blobs_found) == before
    rest = [event async for event in events]
    assert sum(isinstance(each.event, CopyDone) for each in rest) == IMAGES
    await run


async def test_the_progress_of_one_blob_does_not_fill_the_queue() -> None:
    told: list[Event] = []
    waits = asyncio.Event()

    async def listen(index: int, event: Event) -> None:
        await waits.wait()
        told.append(event)

    watchers = Watchers(Totals(), listen)
    watchers.iterated = Feed(MOST_QUEUED)

    async def move(tally: Tally) -> None:
        for sent in range(1000):
            tally.emit(BlobProgress("sha256:1", sent, 1000))
        tally.emit(BlobDone("sha256:1", 1000, "moved"))
        waits.set()

    async with watchers:
        await watchers.follow(0, "a", "b", Tally(ignore), move)
    watchers.iterated.end()
    queued = []
    while (item := await watchers.iterated.get()) is not None:
        queued.append(item.event)
    assert len(queued) == MOST_QUEUED + 2
    assert len(told) == 2
    assert queued[-1] == told[-1] == BlobDone("sha256:1", 1000, "moved")


async def test_leaving_the_iteration_frees_the_run(session: Session, pairs: list[tuple[str, str]]) -> None:
    run = session.copy_many(pairs)
    async for _ in run.events():
        break
    assert (await run).count("copied") == IMAGES


async def test_leaving_the_iteration_frees_a_run_that_another_task_awaits(
    session: Session, pairs: list[tuple[str, str]]
) -> None:
    run = session.copy_many(pairs)
    async for _ in run.events():
        break
    result = await asyncio.wait_for(asyncio.ensure_future(_awaited(run)), 30)
    assert result.count("copied") == IMAGES


async def _awaited(run: Run[ManyResult]) -> ManyResult:
    return await run


async def test_awaiting_a_run_leaves_its_iteration_in_the_same_task(
    session: Session, pairs: list[tuple[str, str]]
) -> None:
    run = session.copy_many(pairs)
    events = run.events()
    async for _ in events:
        async with asyncio.timeout(20):
            await run
    assert run.result.count("copied") == IMAGES
    with pytest.raises(RuntimeError, match="once"):
        run.events()


async def test_a_run_may_be_awaited_beside_its_iteration(
    session: Session, pairs: list[tuple[str, str]]
) -> None:
    run = session.copy_many(pairs)

    async def read() -> int:
        return len([event async for event in run.events()])

    result, number = await asyncio.gather(run, read())
    assert result.count("copied") == IMAGES
    assert number > MOST_QUEUED * 2


async def test_iterating_a_run_that_has_ended_gives_nothing(
    session: Session, pairs: list[tuple[str, str]]
) -> None:
    run = one(session, pairs)
    await run
    assert [event async for event in run.events()] == []


async def test_an_iteration_of_a_failed_run_ends(session: Session, pairs: list[tuple[str, str]]) -> None:
    run = session.copy(pairs[0][0].replace("v1", "missing"), pairs[0][1])
    assert [event async for event in run.events()] == []
    with pytest.raises(Exception, match="missing"):
        await run


# -- listeners -------------------------------------------------------------------------------------------


class Odd(Exception):
    """The error that a listener raises."""


async def test_a_listener_that_raises_ends_its_copy_alone(
    session: Session, pairs: list[tuple[str, str]]
) -> None:
    failed: list[int] = []

    def listen(index: int, event: Event) -> None:
        if isinstance(event, BlobPlanned) and index == 3:
            raise Odd(index)
        if isinstance(event, CopyFailed):
            failed.append(index)

    run = session.copy_many(pairs, on_event=listen)
    result = await run
    assert failed == [3]
    assert isinstance(result.copies[3].error, Odd)
    assert (result.count("failed"), result.count("copied")) == (1, IMAGES - 1)
    assert (run.totals.images_failed, run.totals.images_done) == (1, IMAGES - 1)
    tags = await session.list_tags(pairs[0][1].rpartition(":")[0])
    assert sorted(map(int, tags)) == [index for index in range(IMAGES) if index != 3]


@pytest.mark.parametrize("kind", [CopyStarted, BlobPlanned, CopyDone])
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_listener_ends_a_single_copy_with_its_own_error(
    session: Session, pairs: list[tuple[str, str]], tmp_path: Path, kind: type[Event], is_async: bool
) -> None:
    def listen(event: Event) -> None:
        if isinstance(event, kind):
            raise Odd(kind)

    async def listen_slowly(event: Event) -> None:
        await asyncio.sleep(0)
        listen(event)

    run = one(session, pairs, on_event=listen_slowly if is_async else listen)
    with pytest.raises(Odd):
        await run
    current = asyncio.current_task()
    assert current is not None
    assert not current.cancelling()
    await asyncio.sleep(0)
    if kind is not CopyDone:
        assert not (tmp_path / "target" / "index.json").exists(), "the tag is the last thing written"


async def test_an_awaited_listener_holds_the_copy_back(
    session: Session, pairs: list[tuple[str, str]], tmp_path: Path
) -> None:
    go_on = asyncio.Event()

    async def listen(event: Event) -> None:
        await go_on.wait()

    run = asyncio.ensure_future(one(session, pairs, on_event=listen))
    await asyncio.sleep(0.2)
    assert not (tmp_path / "target" / "index.json").exists()
    go_on.set()
    await run


async def test_an_awaited_listener_that_is_cancelled_by_default_ends_the_copy(
    session: Session, pairs: list[tuple[str, str]]
) -> None:
    async def listen(event: Event) -> None:
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match="listener was cancelled"):
        await one(session, pairs, on_event=listen)


# -- cancelling ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["run", "task", "before"])
async def test_a_run_that_is_cancelled_says_so(
    session: Session, pairs: list[tuple[str, str]], how: str
) -> None:
    run: Run[ManyResult] = session.copy_many(pairs, at_once=1)
    if how == "before":
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert run.result.count("not begun") == IMAGES
        return
    task = asyncio.ensure_future(run)
    while run.totals.images_done < 2:  # noqa: ASYNC110 - the figures tell of no changes
        await asyncio.sleep(0)
    (run if how == "run" else task).cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    result, totals = run.result, run.totals
    assert result.count("copied") == totals.images_done >= 2
    assert result.count("cancelled") == 1
    assert totals.images_failed == 0
    assert totals.seconds_left == 0
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run


async def test_a_cancel_ends_a_run_that_waits_for_its_consumer(
    session: Session, pairs: list[tuple[str, str]]
) -> None:
    run = session.copy_many(pairs)
    events = run.events()
    await anext(events)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.ensure_future(run)
    assert len([event async for event in events]) < 3000


# -- totals ----------------------------------------------------------------------------------------------


async def test_the_totals_add_up(session: Session, pairs: list[tuple[str, str]]) -> None:
    mirrored = session.mirror("a.example", "b.example")
    assert mirrored.totals.seconds_left is None
    run = session.copy_many(pairs)
    totals = run.totals
    assert (totals.images_found, totals.images_done, totals.seconds_left) == (IMAGES, 0, None)
    result = await run
    sums = result.totals()
    assert (totals.images_found, totals.images_done, totals.images_failed) == (IMAGES, IMAGES, 0)
    assert totals.bytes_found == totals.bytes_done + totals.bytes_skipped + totals.bytes_mounted > 0
    assert (totals.bytes_done, totals.bytes_skipped) == (sums["bytes_moved"], sums["bytes_skipped"])
    assert totals.seconds_left == 0
    assert totals.seconds == run.totals.seconds > 0
    assert set(totals.as_dict()) >= {"images_found", "bytes_per_second", "limited_by", "stalled"}
