"""`Session` between layouts: valid uses, and state that its runs share."""

from __future__ import annotations

import asyncio
import os
import pickle
from pathlib import Path

import pytest

from crossdock import CopyOptions, CopyResult, Session, copy_many_sync
from crossdock.errors import CopyError, InvalidInput, InvalidReference
from crossdock.events import CopyDone, Event
from crossdock.imagebuilder import ImageBuilder, sample_index
from crossdock.oci.reference import parse_location
from crossdock.runs import looking
from crossdock.session import COPIES_AT_ONCE


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    builder = ImageBuilder(tmp_path / "source", seed=5)
    builder.tag(sample_index(builder, layer_size=3000), "v1")
    return tmp_path / "source"


async def test_a_session_makes_copies_in_turn_and_at_once(layout: Path, tmp_path: Path) -> None:
    source = f"oci:{layout}:v1"
    async with Session() as session:
        first = await session.copy(source, parse_location(f"oci:{tmp_path / 'a'}:v1"))
        others = await asyncio.gather(*(session.copy(source, f"oci:{tmp_path / 'a'}:{n}") for n in range(40)))
        assert {each.digest for each in others} == {first.digest}
        assert set(await session.list_tags(f"oci:{tmp_path / 'a'}")) == {"v1", *map(str, range(40))}
        assert (await session.inspect(f"oci:{tmp_path / 'a'}:7")).digest == first.digest
        many = await session.copy_many([(source, f"oci:{tmp_path / 'b'}:v1")])
        assert many.count("copied") == 1
    assert len(asyncio.all_tasks()) == 1


async def test_work_may_be_added_by_a_listener_while_a_run_is_under_way(layout: Path, tmp_path: Path) -> None:
    added: list[CopyResult] = []
    async with Session() as session:

        async def listen(index: int, event: Event) -> None:
            if isinstance(event, CopyDone):
                added.append(await session.copy(f"oci:{layout}:v1", f"oci:{tmp_path / 'b'}:{index}"))

        pairs = [(f"oci:{layout}:v1", f"oci:{tmp_path / 'a'}:{n}") for n in range(3)]
        await session.copy_many(pairs, on_event=listen)
    assert len(added) == 3


async def test_every_copy_may_wait_for_another(layout: Path, tmp_path: Path) -> None:
    source = f"oci:{layout}:v1"
    async with Session() as session:

        async def copy(number: int) -> None:
            async def listen(event: Event) -> None:
                if isinstance(event, CopyDone):
                    await session.copy(source, f"oci:{tmp_path / 'b'}:{number}")

            await session.copy(source, f"oci:{tmp_path / 'a'}:{number}", on_event=listen)

        async with asyncio.timeout(60):
            await asyncio.gather(*(copy(number) for number in range(COPIES_AT_ONCE + 4)))


async def test_a_session_that_is_not_open_raises(layout: Path, tmp_path: Path) -> None:
    words = f"oci:{layout}:v1", f"oci:{tmp_path / 'a'}:v1"
    session = Session()
    with pytest.raises(RuntimeError, match="not open"):
        session.copy(*words)
    async with session:
        waiting = session.copy(*words)
        ended = session.copy(*words)
        result = await ended
    for attempt in (
        lambda: session.copy(*words),
        lambda: session.copy_many([words]),
        lambda: session.mirror("a.example", "b.example"),
    ):
        with pytest.raises(RuntimeError, match="closed"):
            attempt()
    with pytest.raises(RuntimeError, match="closed"):
        await session.inspect(words[0])
    with pytest.raises(RuntimeError, match="closed"):
        await session.list_tags(words[0])
    with pytest.raises(RuntimeError, match="closed"):
        await waiting
    assert await ended == result
    with pytest.raises(RuntimeError, match="once"):
        await session.__aenter__()


async def test_leaving_the_block_cancels_what_is_under_way(layout: Path, tmp_path: Path) -> None:
    async with Session() as session:
        run = session.copy(f"oci:{layout}:v1", f"oci:{tmp_path / 'a'}:v1")
        waiting = asyncio.ensure_future(run)
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert run.done
    assert not (tmp_path / "a" / "index.json").exists()
    assert len(asyncio.all_tasks()) == 1


async def test_a_look_is_cancelled_with_the_session(layout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stuck(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(looking, "inspect", stuck)
    async with Session() as session:
        waiting = asyncio.ensure_future(session.inspect(f"oci:{layout}:v1"))
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_forked_child_cannot_use_the_session(layout: Path, tmp_path: Path) -> None:
    words = f"oci:{layout}:v1", f"oci:{tmp_path / 'a'}:v1"
    async with Session() as session:
        run = session.copy(*words)
        child = os.fork()
        if not child:
            outcomes = 0
            for attempt in (lambda: session.copy(*words), lambda: run.__await__().send(None)):
                try:
                    attempt()
                except RuntimeError as error:
                    outcomes += "another process" in str(error)
            os._exit(outcomes)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status) == 2
        await run


def test_another_loop_cannot_use_the_session(layout: Path, tmp_path: Path) -> None:
    session = Session()

    async def enter() -> None:
        await session.__aenter__()

    async def use() -> None:
        with pytest.raises(RuntimeError, match="another event loop"):
            await session.copy(f"oci:{layout}:v1", f"oci:{tmp_path / 'a'}:v1")

    asyncio.run(enter())
    asyncio.run(use())


async def test_a_mistake_is_reported_at_once(layout: Path) -> None:
    async with Session() as session:
        with pytest.raises(InvalidInput, match="source: "):
            session.copy("no such scheme://x", "oci:t")
        with pytest.raises(InvalidInput, match="target: "):
            session.copy(f"oci:{layout}:v1", "UPPER/x y")
        with pytest.raises(InvalidInput, match="source_name is for an object"):
            session.copy(f"oci:{layout}:v1", "oci:t", source_name="v1")
        with pytest.raises(TypeError, match="the target must be a reference, a layout or a Target, not "):
            session.copy(f"oci:{layout}:v1", layout)  # type: ignore[call-overload, arg-type, unused-ignore]
        with pytest.raises(InvalidInput):
            session.copy_many([("x", "h/x"), ("y", "h/x:latest")])
    with pytest.raises(InvalidInput):
        Session(CopyOptions(platforms=("no/such/platform/at/all",)))


async def test_a_failed_copy_leaves_the_session_usable(layout: Path, tmp_path: Path) -> None:
    async with Session() as session:
        run = session.copy(f"oci:{layout}:missing", f"oci:{tmp_path / 'a'}:v1")
        with pytest.raises(CopyError) as raised:
            await run
        assert (run.result.digest, run.totals.images_failed) == ("", 1)
        await session.copy(f"oci:{layout}:v1", f"oci:{tmp_path / 'a'}:v1")
    back = pickle.loads(pickle.dumps(raised.value))
    assert (str(back), back.side) == (str(raised.value), "source")


def test_the_error_of_a_wrong_reference_names_operation_side_and_reference() -> None:
    with pytest.raises(InvalidReference) as caught:
        copy_many_sync([("a/b:1", "host.example/B:1")])
    error = caught.value
    assert (error.operation, error.side, error.reference) == ("parse", "target", "host.example/B:1")
    assert str(error).startswith("pair 1: target: invalid reference 'host.example/B:1': ")
