"""Upload sessions that outlive a process: entries of the log, and the requests that resume a session."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from crossdock.errors import ServerBusy, UploadInterrupted
from crossdock.registry.repository import RegistryRepository
from crossdock.registry.uploads.upload import RegistryUpload
from unit.registry.scripted_registry import Answer, Connect, ScriptedRegistry, Seen, content, describe

MiB = 1 << 20
CHUNK = 4 * MiB
DATA = content(10 * MiB)
BLOB = describe(DATA)
POST = "/v2/x/blobs/uploads/"
DIGEST = f"digest=sha256%3A{BLOB.digest.encoded}"
OPENED = Answer(202, {"Location": "/u/1?s=0", "Range": "0-0"})


@dataclass
class Saved:
    location: str = "/u/9?s=old"
    acknowledged: int = CHUNK
    chunk_size: int = CHUNK
    trust_range: bool = True


class Log:
    """Records its entries, each with the number of requests that the registry had seen."""

    def __init__(self, server: ScriptedRegistry) -> None:
        self.server = server
        self.lines: list[tuple[str, int, str, int]] = []

    def opened(self, location: str, chunk_size: int, *, trust_range: bool) -> None:
        assert (chunk_size, trust_range) == (CHUNK, True)
        self.lines.append(("opened", 0, self._path(location), len(self.server.seen)))

    def acknowledged(self, offset: int, location: str, chunk_size: int, *, trust_range: bool) -> None:
        assert (chunk_size, trust_range) == (CHUNK, True)
        self.lines.append(("acknowledged", offset, self._path(location), len(self.server.seen)))

    def _path(self, location: str) -> str:
        return location.removeprefix(self.server.url)


@pytest.fixture
def log(server: ScriptedRegistry) -> Log:
    return Log(server)


async def begin(repository: RegistryRepository, log: Log, saved: Saved | None = None) -> RegistryUpload:
    if saved is not None and not saved.location.startswith("http"):
        saved.location = log.server.url + saved.location
    assert repository.may_resume()
    return await repository.resumable_upload(BLOB, CHUNK, log, saved)


async def feed(session: RegistryUpload, start: int = 0) -> None:
    view = memoryview(DATA)
    assert session.offset == start
    while session.offset < len(DATA):
        await session.append(view[session.offset : session.offset + 3 * MiB])
    await session.commit()


async def test_the_log_has_each_chunk_before_the_next_request(
    server: ScriptedRegistry, connect: Connect, log: Log
) -> None:
    server.expect("POST", POST, OPENED)
    server.expect("PATCH", "/u/1?s=0", Answer(202, {"Location": "/u/1?s=4"}))
    server.expect("PATCH", "/u/1?s=4", Answer(202, {"Location": "/u/1?s=8"}))
    server.expect("PATCH", "/u/1?s=8", Answer(202, {"Location": "/u/1?s=10"}))
    server.expect("PUT", f"/u/1?s=10&{DIGEST}", Answer(201))
    session = await begin(connect(), log)
    assert await session.resume() == (0, "")
    assert session.boundary == MiB
    await feed(session)
    assert log.lines == [
        ("opened", 0, "/u/1?s=0", 1),
        ("acknowledged", 4 * MiB, "/u/1?s=4", 2),
        ("acknowledged", 8 * MiB, "/u/1?s=8", 3),
        ("acknowledged", 10 * MiB, "/u/1?s=10", 4),
    ]
    assert [seen.headers.get("content-range") for seen in server.seen[1:4]] == [
        f"0-{4 * MiB - 1}",
        f"{4 * MiB}-{8 * MiB - 1}",
        f"{8 * MiB}-{10 * MiB - 1}",
    ]


async def test_a_saved_session_continues_where_the_registry_says(
    server: ScriptedRegistry, connect: Connect, log: Log
) -> None:
    held = {"Location": "/u/9?s=now", "Range": f"0-{5 * MiB - 1}"}
    server.expect("GET", "/u/9?s=old", Answer(204, held))
    server.expect("PATCH", "/u/9?s=now", Answer(202))
    server.expect("PATCH", "/u/9?s=now", Answer(202))
    server.expect("PUT", f"/u/9?s=now&{DIGEST}", Answer(201))
    session = await begin(connect(), log, Saved())
    assert await session.resume() == (5 * MiB, "")
    assert log.lines == [("acknowledged", 5 * MiB, "/u/9?s=now", 1)]
    await feed(session, 5 * MiB)
    assert b"".join(seen.body for seen in server.seen) == DATA[5 * MiB :]
    assert server.seen[1].headers["content-range"] == f"{5 * MiB}-{8 * MiB - 1}", "back to where chunks end"


async def test_a_saved_session_with_every_byte_is_closed(
    server: ScriptedRegistry, connect: Connect, log: Log
) -> None:
    server.expect("GET", "/u/9?s=old", Answer(204, {"Range": f"0-{len(DATA) - 1}"}))
    server.expect("PUT", f"/u/9?s=old&{DIGEST}", Answer(201))
    session = await begin(connect(), log, Saved())
    assert await session.resume() == (len(DATA), "")
    await feed(session, len(DATA))


async def test_bytes_that_are_not_there_any_more_are_told(
    server: ScriptedRegistry, connect: Connect, log: Log
) -> None:
    server.expect("GET", "/u/9?s=old", Answer(204, {"Range": f"0-{MiB - 1}"}))
    session = await begin(connect(), log, Saved())
    offset, word = await session.resume()
    assert offset == MiB
    assert str(3 * MiB) in word
    await session.suspend()


async def test_a_session_that_is_gone_is_told_and_replaced(
    server: ScriptedRegistry, connect: Connect, log: Log
) -> None:
    server.expect("GET", "/u/9?s=old", Answer(404))
    server.expect("POST", POST, OPENED)
    server.expect("DELETE", "/u/9?s=old", Answer(404))
    for _ in range(3):
        server.expect("PATCH", "/u/1?s=0", Answer(202))
    server.expect("PUT", f"/u/1?s=0&{DIGEST}", Answer(201))
    session = await begin(connect(), log, Saved())
    offset, word = await session.resume()
    assert (offset, log.lines) == (0, [])
    assert word.startswith("the upload starts again at byte 0, in a new session: the target no longer knows")
    await feed(session)
    assert log.lines[0] == ("opened", 0, "/u/1?s=0", 2)


async def test_a_doubtful_session_is_deleted_when_the_log_knows_the_new_one(
    server: ScriptedRegistry, connect: Connect, log: Log
) -> None:
    known: list[int] = []

    async def dropped(seen: Seen) -> Answer:
        known.append(len(log.lines))
        return Answer(204)

    server.expect("GET", "/u/9?s=old", Answer(204))  # it does not say how much it holds
    server.expect("POST", POST, OPENED)
    server.expect("DELETE", "/u/9?s=old", dropped)
    for _ in range(3):
        server.expect("PATCH", "/u/1?s=0", Answer(202))
    server.expect("PUT", f"/u/1?s=0&{DIGEST}", Answer(201))
    session = await begin(connect(), log, Saved())
    assert (await session.resume())[0] == 0
    await feed(session)
    assert known == [1]


async def test_a_session_lost_on_the_way_stays_in_the_log_until_another_is_open(
    server: ScriptedRegistry, connect: Connect, log: Log
) -> None:
    busy = Answer(503, {"Retry-After": "0"})
    server.expect("GET", "/u/9?s=old", Answer(204))
    for _ in range(3):
        server.expect("POST", POST, busy)
    session = await begin(connect(), log, Saved())
    await session.resume()
    with pytest.raises(Exception, match="503") as caught:
        await session.append(memoryview(DATA)[:MiB])
    assert isinstance(caught.value.__cause__, ServerBusy)
    await session.suspend()
    assert log.lines == []  # the journal's row is as it was, and nothing was deleted


async def test_a_session_opened_by_a_mount_is_dropped_when_a_saved_one_continues(
    server: ScriptedRegistry, connect: Connect, log: Log
) -> None:
    server.expect("POST", f"{POST}?mount=sha256%3A{BLOB.digest.encoded}&from=y", OPENED)
    server.expect("GET", "/u/9?s=old", Answer(204, {"Range": f"0-{CHUNK - 1}"}))
    server.expect("DELETE", "/u/1?s=0", Answer(204))
    repository = connect()
    assert not await repository.mount(BLOB, "y")
    session = await begin(repository, log, Saved())
    assert (await session.resume())[0] == CHUNK
    await session.suspend()


async def test_to_leave_deletes_nothing_and_ends_the_request(
    server: ScriptedRegistry, connect: Connect, log: Log
) -> None:
    reading = asyncio.Event()

    async def first(seen: Seen) -> None:
        reading.set()
        await seen.read()

    server.expect("POST", POST, OPENED)
    server.expect("PATCH", "/u/1?s=0", first)
    session = await begin(connect(), log)
    assert session.is_between_requests
    await session.append(memoryview(DATA)[:MiB])
    assert not session.is_between_requests
    await reading.wait()
    await session.suspend()
    assert [seen.method for seen in server.seen] == ["POST", "PATCH"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks are given up after 50 ms without bytes."""
    monkeypatch.setattr("crossdock.registry.uploads.upload.PATIENCE", 0.005)


class CutChunk:
    """Takes the first MiB of a chunk, and sees the connection end."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def __call__(self, seen: Seen) -> None:
        try:
            await seen.read(MiB)
            with pytest.raises(asyncio.IncompleteReadError):
                await seen.read()
        finally:
            self.ended.set()


async def test_a_chunk_that_waits_for_bytes_is_given_up_and_gone_on_with(
    server: ScriptedRegistry, connect: Connect, log: Log, impatient: None
) -> None:
    cut = CutChunk()
    server.expect("POST", POST, OPENED)
    server.expect("PATCH", "/u/1?s=0", cut)
    server.expect("GET", "/u/1?s=0", Answer(204, {"Location": "/u/1?s=1", "Range": f"0-{MiB - 1}"}))
    for number, stop in ((1, CHUNK), (2, 2 * CHUNK), (3, len(DATA))):
        place = {"Location": f"/u/1?s={number + 1}", "Range": f"0-{stop - 1}"}
        server.expect("PATCH", f"/u/1?s={number}", Answer(202, place))
    server.expect("PUT", f"/u/1?s=4&{DIGEST}", Answer(201))
    repository = connect()
    session = await begin(repository, log)
    await session.append(memoryview(DATA)[:MiB])
    await cut.ended.wait()
    assert session.is_between_requests
    assert [seen.method for seen in server.seen] == ["POST", "PATCH"], "nothing is asked without bytes"
    await feed(session, MiB)
    assert ("acknowledged", MiB, "/u/1?s=1", 3) in log.lines
    assert b"".join(seen.body for seen in server.seen if seen.method == "PATCH") == DATA


async def test_where_a_cut_chunk_ended_the_session_no_other_one_is_given_up(
    server: ScriptedRegistry, connect: Connect, log: Log, impatient: None
) -> None:
    cut = CutChunk()
    server.expect("POST", POST, OPENED)
    server.expect("PATCH", "/u/1?s=0", cut)
    server.expect("GET", "/u/1?s=0", Answer(404))
    server.expect("POST", POST, Answer(202, {"Location": "/u/2"}))
    server.expect("DELETE", "/u/1?s=0", Answer(404))
    for _ in range(3):
        server.expect("PATCH", "/u/2", Answer(202))
    server.expect("PUT", f"/u/2?{DIGEST}", Answer(201))
    session = await begin(connect(), log)
    await session.append(memoryview(DATA)[:MiB])
    await cut.ended.wait()
    with pytest.raises(UploadInterrupted, match="from byte 0") as interrupted:
        await session.append(memoryview(DATA)[MiB : 2 * MiB])
    assert "the source kept it waiting" in str(interrupted.value.cause)
    await session.append(memoryview(DATA)[:MiB])
    for _ in range(20):  # time-outs
        await asyncio.sleep(0.005)
    await feed(session, MiB)


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/u/9", "http://u:p@127.0.0.1/u/9", "http://[/u/9"])
async def test_a_location_that_must_not_be_used_is_not_asked(
    location: str, server: ScriptedRegistry, connect: Connect, log: Log
) -> None:
    session = await begin(connect(), log)
    session._saved = Saved(location=location)
    offset, word = await session.resume()
    assert offset == 0
    assert "starts again" in word
    assert server.seen == []
