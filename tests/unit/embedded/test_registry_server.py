"""The server beyond the specification: broken bodies, hostile content, layouts on disk, start and stop."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import json
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import aiohttp
import pytest
import trustme

from crossdock.embedded import bodies, repositories, uploads
from crossdock.embedded.repositories import Repositories
from crossdock.embedded.serve import serve
from crossdock.errors import InvalidOption, StoreError
from crossdock.imagebuilder import OCI_INDEX, OCI_MANIFEST, ImageBuilder, sample_index
from crossdock.store.blobfiles import TEMPORARY_PREFIX
from crossdock.store.folder import Folder

DATA = bytes(range(256)) * 4096  # 1 MiB


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def users_file(folder: Path, users: object) -> Path:
    """A users file that only its owner can read."""
    file = folder / "users.json"
    file.write_text(json.dumps(users))
    file.chmod(0o600)
    return file


class Served:
    """A server in this loop and a client for it."""

    def __init__(self, root: Path, port: int, client: aiohttp.ClientSession, scheme: str = "http") -> None:
        self.root = root
        self.port = port
        self.base = f"{scheme}://127.0.0.1:{port}"
        self.client = client

    async def call(
        self, method: str, path: str, data: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        if isinstance(data, bytes):
            data = io.BytesIO(data)
        kind = {"Content-Type": "application/octet-stream", **(headers or {})}
        async with self.client.request(method, self.base + path, data=data, headers=kind) as answer:
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}, await answer.read()

    async def push_blob(self, name: str, data: bytes) -> str:
        status, _, body = await self.call("POST", f"/v2/{name}/blobs/uploads/?digest={digest_of(data)}", data)
        if not data:
            return digest_of(data)
        assert status == 201, body
        return digest_of(data)

    async def push(
        self, name: str, builder: ImageBuilder, digest: str, media_type: str, tag: str = ""
    ) -> None:
        for each in builder.digests():
            await self.push_blob(name, builder.read(each))
        status, _, body = await self.call(
            "PUT", f"/v2/{name}/manifests/{tag or digest}", builder.read(digest), {"Content-Type": media_type}
        )
        assert status == 201, body


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    root = tmp_path / "root"
    async with running(root) as each:
        yield each


class running:
    """Serve `root` while the block runs."""

    def __init__(
        self,
        root: Path,
        context: ssl.SSLContext | None = None,
        trust: ssl.SSLContext | bool = True,
        users: Path | None = None,
        anonymous: Literal["read", "write"] | None = None,
    ):
        self.root, self.context, self.trust, self.users = root, context, trust, users
        self.anonymous = anonymous

    async def __aenter__(self) -> Served:
        self.stop = asyncio.Event()
        ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(
            serve(
                self.root,
                "127.0.0.1",
                0,
                on_ready=ready.set_result,
                ssl_context=self.context,
                users=self.users,
                anonymous=self.anonymous,
                stop=self.stop,
            )
        )
        await asyncio.wait([ready, self.task], return_when=asyncio.FIRST_COMPLETED)
        if self.task.done():
            await self.task
        self.client = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self.trust))
        return Served(self.root, await ready, self.client, "https" if self.context else "http")

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()
        self.stop.set()
        await self.task


async def send_raw(port: int, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    await writer.drain()
    return reader, writer


async def held(served: Served, location: str, at_least: int) -> int:
    """The offset of a session, once it is `at_least`."""
    async with asyncio.timeout(10):
        while True:
            _, headers, _ = await served.call("GET", location)
            offset = int(headers["range"].partition("-")[2]) + 1
            if offset >= at_least:
                return offset
            await asyncio.sleep(0.01)


# -- uploads that break ------------------------------------------------------------------------------


async def test_a_body_that_breaks_off_is_kept_to_the_byte_and_continues_from_there(served: Served) -> None:
    _, headers, _ = await served.call("POST", "/v2/a/blobs/uploads/")
    location = headers["location"]
    head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(DATA)}\r\n\r\n".encode()
    _, writer = await send_raw(served.port, head + DATA[:300_001])
    writer.close()
    await writer.wait_closed()
    offset = await held(served, location, 2)
    assert 2 <= offset <= 300_001
    rest = {"Content-Range": f"{offset}-{len(DATA) - 1}"}
    status, headers, _ = await served.call("PATCH", location, DATA[offset:], rest)
    assert (status, headers["range"]) == (202, f"0-{len(DATA) - 1}")
    status, _, _ = await served.call("PUT", f"{location}?digest={digest_of(DATA)}")
    assert status == 201
    assert (await served.call("GET", f"/v2/a/blobs/{digest_of(DATA)}"))[2] == DATA


async def test_a_client_that_comes_back_takes_over_from_its_own_dead_request(served: Served) -> None:
    _, headers, _ = await served.call("POST", "/v2/a/blobs/uploads/")
    location = headers["location"]
    head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(DATA)}\r\n\r\n".encode()
    reader, writer = await send_raw(served.port, head + DATA[:1000])  # and then silence
    status, _, _ = await served.call("PATCH", location, b"", {"Content-Range": "0-0"})
    assert status in (202, 400, 416)
    assert await reader.read() == b""
    writer.close()
    status, headers, _ = await served.call("GET", location)
    assert status == 204


async def test_a_repeated_closing_put_never_says_created_for_what_was_not_stored(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object, files: object, digest: object) -> None:
        raise StoreError("the disk is gone")

    monkeypatch.setattr(uploads.BlobWriter, "commit", fail)
    _, headers, _ = await served.call("POST", "/v2/a/blobs/uploads/")
    target = f"{headers['location']}?digest={digest_of(DATA)}"
    assert (await served.call("PUT", target, DATA))[0] == 500
    assert (await served.call("PUT", target, b""))[0] == 404
    assert (await served.call("HEAD", f"/v2/a/blobs/{digest_of(DATA)}"))[0] == 404


async def test_a_single_post_that_breaks_off_leaves_no_session(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = asyncio.Event()
    end = uploads.Uploads.end

    async def watched(table: uploads.Uploads, session: uploads.Session) -> None:
        await end(table, session)
        ended.set()

    monkeypatch.setattr(uploads.Uploads, "end", watched)
    target = f"/v2/a/blobs/uploads/?digest={digest_of(DATA)}"
    head = f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(DATA)}\r\n\r\n".encode()
    _, writer = await send_raw(served.port, head + DATA[:500_000])
    writer.close()
    await writer.wait_closed()
    async with asyncio.timeout(10):
        await ended.wait()
    assert not list(served.root.rglob(f"{TEMPORARY_PREFIX}*"))


async def test_content_that_cannot_be_written_can_still_be_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = ImageBuilder(tmp_path / "root" / "app", seed=9)
    root = layout.tag(sample_index(layout), "v1")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EROFS, os.strerror(errno.EROFS))

    async with running(tmp_path / "root") as served:
        monkeypatch.setattr(os, "mkdir", refuse)
        assert (await served.call("GET", "/v2/app/manifests/v1"))[2] == layout.read(root)
        status, _, body = await served.call("POST", f"/v2/a/blobs/uploads/?digest={digest_of(DATA)}", DATA)
        assert status == 500
        assert b"Read-only file system" in body


async def test_a_broken_closing_put_leaves_the_session(served: Served) -> None:
    _, headers, _ = await served.call("POST", "/v2/a/blobs/uploads/")
    location = headers["location"]
    target = f"{location}?digest={digest_of(DATA)}"
    head = f"PUT {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(DATA)}\r\n\r\n".encode()
    _, writer = await send_raw(served.port, head + DATA[:5000])
    writer.close()
    await writer.wait_closed()
    offset = await held(served, location, 2)
    rest = {"Content-Range": f"{offset}-{len(DATA) - 1}"}
    assert (await served.call("PUT", target, DATA[offset:], rest))[0] == 201


async def test_a_full_disk_is_507_and_the_session_is_gone(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, pieces: list[bytes]) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("crossdock.store.blobfiles.write_pieces", full)
    _, headers, _ = await served.call("POST", "/v2/a/blobs/uploads/")
    status, _, body = await served.call("PATCH", headers["location"], b"data")
    assert status == 507
    assert "No space left" in json.loads(body)["errors"][0]["message"]
    assert (await served.call("GET", headers["location"]))[0] == 404
    assert not list((served.root / ".uploads").iterdir())


async def test_the_number_of_sessions_is_bounded(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "SESSIONS", 4)  # half of them for one address
    for expected in (202, 202, 429):
        status, headers, _ = await served.call("POST", "/v2/a/blobs/uploads/")
        assert status == expected
        if status == 202:
            await served.call("PATCH", headers["location"], b"data")
    assert headers["retry-after"]


async def test_idle_sessions_are_dropped(
    served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(uploads, "IDLE", -1.0)
    monkeypatch.setattr(uploads, "SWEEP_EVERY", 0.0)
    gone, loop = asyncio.Event(), asyncio.get_running_loop()
    table = uploads.Uploads(Folder(tmp_path / "uploads"))
    session = table.start("a")
    sweeping = asyncio.create_task(table.sweep())
    monkeypatch.setattr(uploads.Session, "discard", lambda dropped: loop.call_soon_threadsafe(gone.set))
    async with asyncio.timeout(10):
        await gone.wait()
    assert session.id not in table._sessions
    sweeping.cancel()
    await asyncio.wait([sweeping])


async def test_a_sha512_digest_that_was_not_announced_is_verified_too(served: Served) -> None:
    digest = "sha512:" + hashlib.sha512(DATA).hexdigest()
    for given, expected in ((digest[:-1] + ("0" if digest[-1] != "0" else "1"), 400), (digest, 201)):
        _, headers, _ = await served.call("POST", "/v2/a/blobs/uploads/")
        status, _, _ = await served.call("PUT", f"{headers['location']}?digest={given}", DATA)
        assert status == expected
    assert (served.root / "a" / "blobs" / digest.replace(":", "/")).read_bytes() == DATA


@pytest.mark.parametrize(
    ("value", "status"), [("bytes 0-3/4", 400), ("0-2", 400), ("0-", 400), ("0-3", 202), ("4-7", 416)]
)
async def test_a_chunk_says_exactly_where_it_belongs(served: Served, value: str, status: int) -> None:
    _, headers, _ = await served.call("POST", "/v2/a/blobs/uploads/")
    assert (await served.call("PATCH", headers["location"], b"data", {"Content-Range": value}))[0] == status


async def test_many_uploads_at_once_into_one_repository_all_arrive(served: Served) -> None:
    blobs = [bytes([number]) * 50_000 for number in range(32)]
    await asyncio.gather(*(served.push_blob("a", blob) for blob in blobs))
    for blob in blobs:
        assert (await served.call("GET", f"/v2/a/blobs/{digest_of(blob)}"))[2] == blob
    memory = ImageBuilder(seed=1)
    image = memory.image([])
    await served.push("a", memory, image.digest, OCI_MANIFEST, "v0")
    put = [
        served.call("PUT", f"/v2/a/manifests/v{n}", memory.read(image), {"Content-Type": OCI_MANIFEST})
        for n in range(1, 20)
    ]
    assert {status for status, _, _ in await asyncio.gather(*put)} == {201}
    listed = json.loads((await served.call("GET", "/v2/a/tags/list"))[2])["tags"]
    assert len(listed) == 20


# -- downloads ---------------------------------------------------------------------------------------


async def test_a_download_that_is_given_up_frees_the_server(served: Served) -> None:
    data = os.urandom(1 << 20) * 24
    digest = await served.push_blob("a", data)
    reader, writer = await send_raw(
        served.port, f"GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    )
    assert await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()
    assert (await served.call("GET", f"/v2/a/blobs/{digest}"))[2] == data


async def test_a_slow_reader_gets_everything(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BRIEFLY_MS", 0)
    data = os.urandom(1 << 20) * 24
    digest = await served.push_blob("a", data)
    request = f"GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    reader, writer = await send_raw(served.port, request.encode())
    await reader.readuntil(b"\r\n\r\n")
    received = hashlib.sha256()
    while piece := await reader.read(1 << 16):
        received.update(piece)
        await asyncio.sleep(0)
    writer.close()
    assert f"sha256:{received.hexdigest()}" == digest


async def test_a_reader_that_takes_nothing_is_cut_off(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = asyncio.Event()
    send = bodies._send_by_kernel

    async def watched(out: int, descriptor: int, start: int, stop: int) -> None:
        try:
            await send(out, descriptor, start, stop)
        finally:
            ended.set()

    monkeypatch.setattr(bodies, "_send_by_kernel", watched)
    monkeypatch.setattr(bodies, "STALLED_AFTER", 0.05)
    data = bytes(32 << 20)
    digest = await served.push_blob("a", data)
    request = f"GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
    writer.write(request.encode())
    await ended.wait()
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await reader.readexactly(len(data))
    writer.close()


async def test_requests_follow_each_other_on_one_connection(served: Served) -> None:
    digest = await served.push_blob("a", DATA)
    request = f"GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\nRange: bytes=5-99999\r\n\r\n".encode()
    reader, writer = await send_raw(served.port, request * 3)
    for _ in range(3):
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"206 Partial Content" in head
        assert await reader.readexactly(99_995) == DATA[5:100_000]
    writer.close()


async def test_tls_serves_the_same(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    async with running(tmp_path / "root", context, trust) as served:
        digest = await served.push_blob("a", DATA * 3)
        assert (await served.call("GET", f"/v2/a/blobs/{digest}"))[2] == DATA * 3
        status, _, part = await served.call(
            "GET", f"/v2/a/blobs/{digest}", None, {"Range": "bytes=7-2000000"}
        )
        assert (status, part) == (206, (DATA * 3)[7:2_000_001])


# -- layouts on disk ---------------------------------------------------------------------------------


async def test_every_repository_is_a_layout_and_nothing_else_is_left(served: Served) -> None:
    memory = ImageBuilder(seed=1)
    root = sample_index(memory)
    children = json.loads(memory.read(root))["manifests"]
    for child in children:
        await served.push("team/app", memory, child["digest"], child["mediaType"])
    await served.push("team/app", memory, root.digest, OCI_INDEX, "v1")
    layout = served.root / "team" / "app"
    assert sorted(each.name for each in layout.iterdir()) == ["blobs", "index.json", "oci-layout"]
    entries = json.loads((layout / "index.json").read_text())["manifests"]
    assert [entry["digest"] for entry in entries] == [root.digest]
    assert sorted(each.name for each in served.root.iterdir()) == [".uploads", "team"]


async def test_the_name_of_a_repository_is_known_from_its_first_blob_on(served: Served) -> None:
    """As at distribution. Clients look for no blob where the name is unknown."""
    digest = await served.push_blob("team/app", b"pushed")
    assert (await served.call("POST", f"/v2/mounted/blobs/uploads/?mount={digest}&from=team/app"))[0] == 201
    for name, code in (
        ("team/app", "MANIFEST_UNKNOWN"),
        ("mounted", "MANIFEST_UNKNOWN"),
        ("team", "NAME_UNKNOWN"),  # a folder of repositories
        ("new", "NAME_UNKNOWN"),
    ):
        status, _, body = await served.call("GET", f"/v2/{name}/manifests/v1")
        assert (status, json.loads(body)["errors"][0]["code"]) == (404, code)


async def test_a_root_that_is_a_layout_is_a_repository_called_like_its_folder(tmp_path: Path) -> None:
    layout = ImageBuilder(tmp_path / "My Image", seed=2)
    root = layout.tag(sample_index(layout), "v1")
    async with running(tmp_path / "My Image") as served:
        assert json.loads((await served.call("GET", "/v2/_catalog"))[2]) == {"repositories": ["my-image"]}
        assert (await served.call("GET", "/v2/my-image/manifests/v1"))[2] == layout.read(root)
        memory = ImageBuilder(seed=3)
        image = memory.image([])
        await served.push("blobs", memory, image.digest, OCI_MANIFEST, "v1")
        await served.push("my-image", memory, image.digest, OCI_MANIFEST, "v2")
        names = json.loads((await served.call("GET", "/v2/_catalog"))[2])["repositories"]
    assert names == ["blobs", "my-image"]
    listed = [
        each["digest"] for each in json.loads((tmp_path / "My Image" / "index.json").read_text())["manifests"]
    ]
    assert listed == [root.digest, image.digest]


async def test_names_that_a_layout_uses_itself_do_no_harm(served: Served) -> None:
    memory = ImageBuilder(seed=4)
    image = memory.image([])
    names = ["a", "a/blobs", "a/blobs/sha256", "a/index.json", "a/oci-layout", "blobs", "blobs/blobs"]
    for name in names:
        await served.push(name, memory, image.digest, OCI_MANIFEST, "v1")
    for name in names:
        assert (await served.call("GET", f"/v2/{name}/manifests/v1"))[2] == memory.read(image)
    assert json.loads((await served.call("GET", "/v2/_catalog"))[2])["repositories"] == sorted(names)


async def test_a_layout_with_links_out_of_it_gives_nothing_away(served: Served, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    layout = ImageBuilder(served.root / "evil", seed=5)
    content = layout.blob(b"secret", "text/plain")
    layout.path(content).unlink()
    layout.path(content).symlink_to(secret)
    status, _, body = await served.call("GET", f"/v2/evil/blobs/{content.digest}")
    assert status >= 400
    assert b"secret\n" not in body
    assert body != b"secret"


async def test_a_damaged_layout_is_an_error_of_its_own_and_others_are_served(served: Served) -> None:
    digest = await served.push_blob("good", DATA)
    await served.push_blob("bad", DATA)
    (served.root / "bad" / "index.json").write_text("{")
    status, _, body = await served.call("GET", "/v2/bad/tags/list")
    assert (status, json.loads(body)["errors"][0]["code"]) == (500, "UNKNOWN")
    assert (await served.call("GET", f"/v2/good/blobs/{digest}"))[0] == 200


async def test_full_image_names_in_a_carried_layout_are_found_by_their_tag(served: Served) -> None:
    layout = ImageBuilder(served.root / "app", seed=6)
    image = layout.image([])
    layout.tag(image, "registry.example/team/app:v7")
    assert (await served.call("GET", "/v2/app/manifests/v7"))[2] == layout.read(image)
    assert json.loads((await served.call("GET", "/v2/app/tags/list"))[2])["tags"] == []


def test_only_a_bounded_number_of_repositories_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repositories, "KEPT", 2)
    known = Repositories(tmp_path)
    for name in ("a", "b", "c", "a"):
        known.at(name)
    assert list(known._kept) == ["c", "a"]


async def test_an_unexpected_error_is_500_without_a_traceback(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: object) -> list[str]:
        raise RuntimeError("defect")

    monkeypatch.setattr(Repositories, "names", fail)
    status, _, body = await served.call("GET", "/v2/_catalog")
    assert status == 500
    assert b"defect" not in body
    assert "Traceback" not in caplog.text


# -- start and stop ----------------------------------------------------------------------------------


async def test_a_start_removes_what_a_dead_server_left(tmp_path: Path) -> None:
    folder = tmp_path / "root" / ".uploads"
    folder.mkdir(parents=True)
    (folder / f"{TEMPORARY_PREFIX}1-dead").write_text("half")
    async with running(tmp_path / "root"):
        assert not list(folder.iterdir())
    assert not folder.exists()


async def test_a_stop_removes_unfinished_uploads(tmp_path: Path) -> None:
    async with running(tmp_path / "root") as served:
        _, headers, _ = await served.call("POST", "/v2/a/blobs/uploads/")
        await served.call("PATCH", headers["location"], DATA)
    assert not list((tmp_path / "root").rglob("*"))


async def test_a_port_that_is_taken_and_a_root_that_is_a_file_are_store_errors(
    served: Served, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match="cannot listen on"):
        await serve(
            tmp_path / "x", "127.0.0.1", served.port, on_ready=lambda port: None, stop=asyncio.Event()
        )
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot serve"):
        await serve(tmp_path / "file", "127.0.0.1", 0, on_ready=lambda port: None, stop=asyncio.Event())


def test_a_certificate_that_cannot_be_used_is_an_invalid_option(tmp_path: Path) -> None:
    from crossdock.embedded.serve import run

    for cert, key in ((None, "key.pem"), (str(tmp_path / "no.pem"), None)):
        with pytest.raises(InvalidOption):
            run(str(tmp_path), "127.0.0.1:0", cert=cert, key=key)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_run_serves_until_a_signal_and_ends_quietly(tmp_path: Path, number: signal.Signals) -> None:
    script = (
        "import sys; from crossdock.embedded.serve import run; "
        "run(sys.argv[1], '127.0.0.1:0', ready=lambda address: print(address, flush=True))"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(tmp_path / "root"), stdout=-1, stderr=-1
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        address = (await process.stdout.readline()).decode().strip()
        async with aiohttp.ClientSession() as client, client.get(f"http://{address}/v2/") as answer:
            assert answer.status == 200
        process.send_signal(number)
        out, err = await process.communicate()
    assert (process.returncode, out, err) == (0, b"", b"")
