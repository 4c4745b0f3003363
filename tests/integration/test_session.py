"""`Session` and `Run` against real registries: connections, figures, limits, stalls, the log."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable

import pytest

import crossdock
from crossdock import CopyOptions, NetworkOptions, Run, Session
from crossdock.events import BlobProgress
from crossdock.imagebuilder import ImageBuilder
from crossdock.runs import totals as totals_module
from crossdock.runs.totals import Limit
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Break, Fault, retry_after
from support.docker_registry import DockerRegistry
from support.images import one_layer_image, push

pytestmark = pytest.mark.real

LAYER = 3_000_000
OPTIONS = CopyOptions(network=NetworkOptions(timeout=20), environ={})


@pytest.fixture
async def session() -> AsyncIterator[Session]:
    async with Session(OPTIONS) as session:
        yield session
    assert len(asyncio.all_tasks()) == 1


@pytest.fixture
def image(source: DockerRegistry, source_faults: FaultProxy, repository: str, builder: ImageBuilder) -> str:
    """An image of one large layer, named through the proxy before the source."""
    push(source.remote, repository, builder, one_layer_image(builder, LAYER)[0], "v1")
    return f"{source_faults.host}/{repository}:v1"


@pytest.fixture
def images(
    source: DockerRegistry, source_faults: FaultProxy, repository: str, builder: ImageBuilder
) -> list[str]:
    """Twenty small images."""
    for number in range(20):
        content = builder.image([builder.random_layer(500)])
        push(source.remote, repository, builder, content, f"v{number}")
    return [f"{source_faults.host}/{repository}:v{number}" for number in range(20)]


@pytest.fixture
def there(target_faults: FaultProxy, repository: str) -> str:
    """A repository at the target, through its proxy."""
    return f"{target_faults.host}/{repository}"


async def watch(run: Run[crossdock.CopyResult], seen: Callable[[], bool], timeout_s: float = 20) -> None:
    """Run until `seen`."""
    task = asyncio.ensure_future(run)
    async with asyncio.timeout(timeout_s):
        while not seen() and not task.done():  # noqa: ASYNC110 - the figures tell of no changes
            await asyncio.sleep(0.05)


# -- connections -----------------------------------------------------------------------------------------


async def test_copies_of_a_session_open_no_more_connections_than_a_list(
    images: list[str], there: str, source_faults: FaultProxy, target_faults: FaultProxy
) -> None:
    images *= 5

    def opened() -> int:
        count = source_faults._connections + target_faults._connections
        return count - before

    before = 0
    before = opened()
    await crossdock.copy_many(
        [(each, f"{there}/list:{number}") for number, each in enumerate(images)], OPTIONS
    )
    of_list = opened()
    before += of_list
    async with Session(OPTIONS) as session:
        for number, each in enumerate(images):
            await session.copy(each, f"{there}/turn:{number}")
    in_turn = opened()
    before += in_turn
    async with Session(OPTIONS) as session:
        await asyncio.gather(
            *(session.copy(each, f"{there}/gathered:{number}") for number, each in enumerate(images))
        )
    assert in_turn <= 12
    assert opened() <= of_list * 1.25  # which of the requests meet depends on the machine


# -- figures ---------------------------------------------------------------------------------------------


async def test_every_request_is_counted(
    session: Session, image: str, there: str, source_faults: FaultProxy, target_faults: FaultProxy
) -> None:
    run = session.copy(image, f"{there}:v1")
    await run
    sent = len(source_faults.seen) + len(target_faults.seen)
    assert run.totals.requests == sent
    again = session.copy(image, f"{there}:v1")
    await again
    assert again.totals.requests == len(source_faults.seen) + len(target_faults.seen) - sent
    many = session.copy_many([(image, f"{there}:v{number}") for number in range(5)])
    before = len(source_faults.seen) + len(target_faults.seen)
    await many
    assert many.totals.requests == len(source_faults.seen) + len(target_faults.seen) - before


async def test_the_bytes_of_moved_skipped_and_mounted_blobs_add_up(
    session: Session, image: str, there: str
) -> None:
    runs = [
        session.copy(image, f"{there}:v1"),
        session.copy(image, f"{there}:v1"),
        session.copy(image, f"{there}-2:v1"),
    ]
    changed = [(await run).changed for run in runs]
    assert changed == [True, False, True]
    for run in runs:
        totals = run.totals
        assert totals.bytes_found == totals.bytes_done + totals.bytes_skipped + totals.bytes_mounted > LAYER
    moved, skipped, mounted = (run.totals for run in runs)
    assert moved.bytes_done == skipped.bytes_skipped == mounted.bytes_mounted
    assert moved.bytes_per_second > 0


async def test_an_unchanged_image_of_a_mirror_is_done(
    session: Session, images: list[str], repository: str, target_faults: FaultProxy
) -> None:
    place, _, name = images[0].rpartition(":")[0].partition("/it/")
    words = f"{place}/it", f"{target_faults.host}/mirror"
    for copied in (20, 0):
        run = session.mirror(*words, repositories=[name])
        result = await run
        assert (result.copied, result.unchanged) == (copied, 20 - copied)
        totals = run.totals
        assert (totals.images_found, totals.images_done, totals.images_failed) == (20, 20, 0)
        assert totals.bytes_found == totals.bytes_done + totals.bytes_skipped + totals.bytes_mounted
        assert totals.requests > 20


async def test_a_retry_is_counted_and_a_failure_as_well(
    session: Session, image: str, there: str, source_faults: FaultProxy
) -> None:
    source_faults.add(Fault("HEAD */manifests/v1", breaks=Break("reset", "head")))
    run = session.copy_many([(image, f"{there}:v1"), (f"{image}-none", f"{there}:v2")])
    result = await run
    assert (result.count("copied"), result.count("failed")) == (1, 1)
    assert run.totals.retries == 1
    assert (run.totals.images_done, run.totals.images_failed) == (1, 1)


async def test_a_signature_made_since_the_last_copy_is_found(
    session: Session, image: str, there: str, source: DockerRegistry, repository: str, builder: ImageBuilder
) -> None:
    first = await session.copy(image, f"{there}:v1")
    signature = first.digest.replace(":", "-") + ".sig"
    push(source.remote, repository, builder, one_layer_image(builder, 1000)[0], signature)
    again = await session.copy(image, f"{there}:v1")
    assert (first.referrers, again.referrers) == (0, 1)
    assert signature in await session.list_tags(there)


async def test_a_listener_that_raises_leaves_no_upload(
    session: Session,
    image: str,
    there: str,
    target: DockerRegistry,
    target_faults: FaultProxy,
    repository: str,
) -> None:
    def listen(event: crossdock.Event) -> None:
        if isinstance(event, BlobProgress):
            raise OSError("odd")

    with pytest.raises(OSError, match="odd"):
        await session.copy(image, f"{there}:v1", on_event=listen)
    uploads = target.storage / "repositories" / repository / "_uploads"
    left = await asyncio.to_thread(lambda: list(uploads.glob("*/startedat")))
    target_faults.settle()
    # One whose address had not arrived cannot be dropped, by whatever the copy was ended. One that is dropped
    # while distribution 2 commits its blob may leave its folder.
    dropped = [seen.path for seen in target_faults.seen if seen.method == "DELETE"]
    forgotten = [each for each in left if not any(each.parent.name in path for path in dropped)]
    assert len(forgotten) <= target_faults.count(
        lambda seen: seen.is_upload_start() and seen.ended != "whole"
    )
    assert (await session.copy(image, f"{there}:v1")).changed


# -- limits and stalls -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "limit"), [("source", "source"), ("target", "target"), ("wait", "rate limit")]
)
async def test_a_run_says_what_limits_it(
    session: Session,
    image: str,
    there: str,
    source_faults: FaultProxy,
    target_faults: FaultProxy,
    side: str,
    limit: Limit,
) -> None:
    if side == "source":
        source_faults.add(Fault("GET */blobs/*", times=None, rate=700_000))
    elif side == "target":
        target_faults.add(Fault("PUT|PATCH */blobs/*", times=None, rate=700_000))
    else:
        source_faults.add(Fault("GET */manifests/*", answer=retry_after(2)))
    run = session.copy(image, f"{there}:v1")
    assert run.totals.limited_by is None
    await watch(run, lambda: run.totals.limited_by == limit)
    assert run.totals.limited_by == limit
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run


@pytest.mark.parametrize(("side", "at"), [("source", 1000), ("source", 2_500_000), ("target", 0)])
async def test_a_reference_that_moves_nothing_is_stalled(
    session: Session,
    image: str,
    there: str,
    source_faults: FaultProxy,
    target_faults: FaultProxy,
    side: str,
    at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(totals_module, "STALLED_S", 1.0)
    if side == "source":
        source_faults.add(Fault("GET */blobs/*", times=None, breaks=Break("stall", at=at)))
    else:
        target_faults.add(Fault("POST */blobs/*", times=None, breaks=Break("stall", "request")))
    run = session.copy(image, f"{there}:v1")
    assert run.totals.stalled == ()
    seen: list[tuple[str, ...]] = []

    def goes_on() -> bool:
        """Whether it has been stalled for so many looks that the other side would be listed, too."""
        seen.extend([run.totals.stalled] if run.totals.stalled else [])
        return len(seen) == 50

    await watch(run, goes_on)
    assert set(seen) == {(image if side == "source" else f"{there}:v1",)}
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert run.totals.stalled == ()


# -- the rest of the contract ----------------------------------------------------------------------------


async def test_the_log_has_requests_at_debug_and_no_secrets(
    image: str, there: str, source_faults: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    source_faults.add(Fault("GET */manifests/*", answer=retry_after(0, 503)))
    options = CopyOptions(
        environ={}, source=crossdock.RegistryOptions(credentials=crossdock.Credentials("user", "hidden-word"))
    )
    with caplog.at_level(logging.DEBUG, "crossdock"):
        await crossdock.copy(image, f"{there}:v1", options)
    levels = {each.levelno for each in caplog.records if each.name.startswith("crossdock")}
    assert levels >= {logging.DEBUG, logging.WARNING}
    requests = [each.getMessage() for each in caplog.records if each.levelno == logging.DEBUG]
    assert sum("/manifests/v1" in each for each in requests) >= 3
    assert "hidden-word" not in caplog.text
    assert "Authorization" not in caplog.text
    assert "_state=" not in caplog.text.replace("_state=…", "")


def test_the_synchronous_form_works_in_threads(image: str, there: str) -> None:
    results: list[crossdock.CopyResult] = []

    def copy(number: int) -> None:
        results.append(crossdock.copy_sync(image, f"{there}:v{number}", OPTIONS))

    threads = [threading.Thread(target=copy, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 4
    assert len({each.digest for each in results}) == 1
