"""A small blob in one POST (end-4b): tried once at a host, and never worse than the usual way."""

from __future__ import annotations

import asyncio

import pytest

from crossdock.errors import CrossdockError, ServerBusy, TransportError, UploadInterrupted
from crossdock.registry.kinds import Kind
from crossdock.registry.memory import POST_TRIES, WHOLE_POST, HostMemory
from crossdock.registry.repository import RegistryRepository
from unit.registry.scripted_registry import Answer, Connect, ScriptedRegistry, Seen, content, describe

DATA = content(50_000)
BLOB = describe(DATA)
OPEN = "/v2/x/blobs/uploads/"
AT_ONCE = f"{OPEN}?digest=sha256%3A{BLOB.digest.encoded}"
PLACE = f"/v2/x/blobs/{BLOB.digest}"
PUT = f"/u/1?digest=sha256%3A{BLOB.digest.encoded}"
SESSION = Answer(202, {"Location": "/u/1"})
KEPT = Answer(201, {"Location": PLACE})
HERE = Answer(200, {"Content-Length": str(len(DATA))})


async def upload(repository: RegistryRepository, data: bytes = DATA) -> list[CrossdockError | None]:
    """Upload as the engine does; returns the interruptions."""
    session = await repository.start_upload(describe(data))
    causes = []
    while session.offset < len(data):
        try:
            await session.append(memoryview(data))
        except UploadInterrupted as interruption:
            causes.append(interruption.cause)
    await session.commit()
    return causes


async def test_a_host_that_takes_one_is_looked_at_once(server: ScriptedRegistry, connect: Connect) -> None:
    repository = connect(posts=None)
    server.expect("POST", AT_ONCE, KEPT)
    server.expect("HEAD", PLACE, HERE)
    server.expect("POST", AT_ONCE, KEPT)
    await upload(repository)
    await upload(repository)
    assert [len(seen.body) for seen in server.seen] == [len(DATA), 0, len(DATA)]


async def test_a_host_that_opens_a_session_is_used_so_and_not_retried(
    server: ScriptedRegistry, connect: Connect
) -> None:
    repository = connect(posts=None)
    server.expect("POST", AT_ONCE, SESSION)
    server.expect("PUT", PUT, Answer(201))
    server.expect("POST", OPEN, SESSION)
    server.expect("PUT", PUT, Answer(201))
    await upload(repository)
    await upload(repository)
    assert server.seen[1].body == DATA


@pytest.mark.parametrize("status", [400, 404, 405, 411, 413, 415, 501])
async def test_a_refusal_is_the_usual_way_from_then_on(
    server: ScriptedRegistry, connect: Connect, status: int
) -> None:
    repository = connect(posts=None)
    server.expect("POST", AT_ONCE, Answer(status))
    for _ in range(2):
        server.expect("POST", OPEN, SESSION)
        server.expect("PUT", PUT, Answer(201))
    await upload(repository)
    await upload(repository)


@pytest.mark.parametrize(
    ("answer", "cause"), [(None, TransportError), (Answer(500), ServerBusy), (Answer(403), None)]
)
async def test_inconclusive_answers_are_tried_a_few_times(
    server: ScriptedRegistry, connect: Connect, answer: Answer | None, cause: type[CrossdockError] | None
) -> None:
    """A failure that may pass goes up, so that it is counted; the bytes then go the usual way."""
    repository = connect(posts=None)
    for number in range(POST_TRIES + 2):
        if number < POST_TRIES:
            server.expect("POST", AT_ONCE, answer)
        server.expect("POST", OPEN, SESSION)
        server.expect("PUT", PUT, Answer(201))
    causes = [await upload(repository) for _ in range(POST_TRIES + 2)]
    assert [list(map(type, each)) for each in causes[POST_TRIES:]] == [[], []]
    for each in causes[:POST_TRIES]:
        assert [isinstance(one, cause or ()) for one in each] == [True] * (cause is not None)


@pytest.mark.parametrize(
    ("answer", "looks"),
    [
        (KEPT, Answer(404)),  # the place of a blob that is not there
        (Answer(201, {"Location": "/u/7"}), None),  # a session, opened with the wrong status
        (Answer(202, {"Location": PLACE}), None),
    ],
)
async def test_a_blob_that_was_not_kept_goes_the_usual_way(
    server: ScriptedRegistry, connect: Connect, answer: Answer, looks: Answer | None
) -> None:
    server.expect("POST", AT_ONCE, answer)
    if looks is not None:
        server.expect("HEAD", PLACE, looks)
    server.expect("POST", OPEN, SESSION)
    server.expect("PUT", PUT, Answer(201))
    await upload(connect(posts=None))


async def test_one_blob_tries_while_the_others_go_the_usual_way(
    server: ScriptedRegistry, connect: Connect
) -> None:
    """The others do not wait for the result, so the first images of a run are not slower."""
    others = asyncio.Event()
    tried: list[str] = []

    async def registry(seen: Seen) -> Answer:
        await seen.read()
        if seen.method == "POST" and "digest=" in seen.target:
            tried.append(seen.target)
            await others.wait()
            return Answer(202, {"Location": "/u/9"})
        if seen.method == "PUT" and sum(one.method == "PUT" for one in server.seen) == 4:
            others.set()
        return SESSION if seen.method == "POST" else Answer(201)

    server.handler = registry
    repository = connect(posts=None)
    await asyncio.gather(*(upload(repository, content(1000, seed)) for seed in range(5)))
    assert len(tried) == 1


async def test_a_blob_in_several_pieces_and_a_large_one_are_not_posted_whole(
    server: ScriptedRegistry, connect: Connect
) -> None:
    for _ in range(2):
        server.expect("POST", OPEN, SESSION)
    server.expected.insert(1, ("PUT", PUT, _taken))
    large = content(WHOLE_POST + 1)
    server.expect("PUT", f"/u/1?digest=sha256%3A{describe(large).digest.encoded}", Answer(201))
    repository = connect(posts=True)
    session = await repository.start_upload(BLOB)
    await session.append(memoryview(DATA)[:9])
    await session.append(memoryview(DATA)[9:])
    await session.commit()
    await upload(repository, large)


async def _taken(seen: Seen) -> Answer:
    await seen.read()
    return Answer(201)


@pytest.mark.parametrize("answer", [SESSION, KEPT])
async def test_a_post_that_is_cancelled_drops_its_session_and_never_a_blob(
    server: ScriptedRegistry, connect: Connect, answer: Answer
) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def slow(seen: Seen) -> Answer:
        await seen.read()
        reached.set()
        await go_on.wait()
        return answer

    server.expect("POST", AT_ONCE, slow)
    if answer is SESSION:
        server.expect("DELETE", "/u/1", Answer(204))
    session = await connect(posts=True).start_upload(BLOB)
    sending = asyncio.ensure_future(session.append(memoryview(DATA)))
    await reached.wait()
    sending.cancel()
    await asyncio.wait([sending])
    go_on.set()
    await session.cancel()


async def test_a_session_is_opened_while_the_bytes_arrive(server: ScriptedRegistry, connect: Connect) -> None:
    server.expect("POST", OPEN, SESSION)
    server.expect("PUT", PUT, Answer(201))
    session = await connect().start_upload(BLOB)
    session.prepare()
    while not server.seen:  # noqa: ASYNC110
        await asyncio.sleep(0)
    await session.append(memoryview(DATA))
    await session.commit()


async def test_a_session_that_was_opened_in_vain_is_dropped(
    server: ScriptedRegistry, connect: Connect
) -> None:
    server.expect("POST", OPEN, SESSION)
    server.expect("DELETE", "/u/1", Answer(204))
    session = await connect().start_upload(BLOB)
    session.prepare()
    await session.cancel()


async def test_a_session_that_could_not_be_opened_is_reported_by_the_first_bytes(
    server: ScriptedRegistry, connect: Connect
) -> None:
    server.expect("POST", OPEN, Answer(404))
    session = await connect().start_upload(BLOB)
    session.prepare()
    with pytest.raises(Exception, match="POST") as refused:
        await session.append(memoryview(DATA))
    assert "create the repository" in str(getattr(refused.value, "advice", ""))
    await session.cancel()


def test_a_host_that_is_not_known_is_tried_by_one_at_a_time() -> None:
    memory = HostMemory(Kind())
    assert memory.take_whole_post(1)
    assert not memory.may_post_whole(1)
    memory.posted_whole(None)
    assert memory.may_post_whole(WHOLE_POST)
    assert not memory.may_post_whole(WHOLE_POST + 1)
    assert memory.take_whole_post(1)
    memory.posted_whole(True)
    assert memory.takes_whole_posts
    assert memory.take_whole_post(1)
    assert memory.take_whole_post(1)
    memory.posted_whole(False)
    assert not memory.may_post_whole(1)
