"""Rights without users, valid names, limits on guessed passwords, and shares of uploads."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from crossdock.cli.command import run as run_command
from crossdock.embedded import serve as server
from crossdock.embedded import uploads
from crossdock.embedded.acr import access
from crossdock.embedded.acr.accounts import AccountsFile
from crossdock.embedded.responses import json_response
from crossdock.errors import (
    Advice,
    InvalidOption,
)
from crossdock.imagebuilder import OCI_INDEX, ImageBuilder, sample_index
from crossdock.oci.digest import Digest
from unit.embedded.test_registry_server import DATA, Served, digest_of, running, users_file

USERS = {
    "users": [{"name": "ann", "password": "ann's"}, {"name": "bob", "password": "bob's"}],
    "anonymous": ["repository:public/*:pull"],
}


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


ANN, BOB = basic("ann", "ann's"), basic("bob", "bob's")


@pytest.fixture
def users(tmp_path: Path) -> Path:
    return users_file(tmp_path, USERS)


@pytest.fixture
async def guarded(tmp_path: Path, users: Path) -> AsyncIterator[Served]:
    async with running(tmp_path / "root", users=users) as served:
        yield served


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with running(tmp_path / "root") as each:
        yield each


# -- open to whom --------------------------------------------------------------------------------------


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.com:0"])
def test_off_loopback_rights_must_be_given(tmp_path: Path, listen: str) -> None:
    with pytest.raises(InvalidOption, match="could read, push and delete") as caught:
        server.run(str(tmp_path), listen, ready=lambda address: pytest.fail("it listens"))
    assert caught.value.advice == Advice("give-users")


def test_the_command_says_what_to_give(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["registry", "--root", str(tmp_path), "--listen", "0.0.0.0:0"]) == 2
    assert "--users FILE" in capsys.readouterr().err
    assert run_command(["registry", "--root", str(tmp_path), "--anonymous", "everything"]) == 2
    assert "the values are read, write" in capsys.readouterr().err


def test_users_and_anonymous_are_not_given_together(tmp_path: Path, users: Path) -> None:
    with pytest.raises(InvalidOption, match="without a users file"):
        server.run(str(tmp_path), "127.0.0.1:0", users=users, anonymous="read")


@pytest.mark.parametrize(
    ("listen", "anonymous"), [("127.0.0.1:1", None), ("0.0.0.0:1", "read"), ("[::]:1", "write")]
)
def test_given_answers_are_not_asked_for_again(listen: str, anonymous: server.Anonymous | None) -> None:
    server._check(listen.rpartition(":")[0], listen, None, None, anonymous)


def test_passwords_in_clear_are_a_warning(users: Path, caplog: pytest.LogCaptureFixture) -> None:
    for listen, cert, warnings in (("0.0.0.0", None, 1), ("0.0.0.0", "cert.pem", 0), ("127.0.0.1", None, 0)):
        caplog.clear()
        server._check(listen, f"{listen}:5000", cert, users, None)
        assert caplog.text.count("sent in clear") == warnings


async def test_who_may_read_alone_pulls_and_changes_nothing(tmp_path: Path) -> None:
    layout = ImageBuilder(tmp_path / "root" / "app", seed=9)
    root = layout.tag(sample_index(layout), "v1")
    before = sorted(path for path in (tmp_path / "root").rglob("*"))
    async with running(tmp_path / "root", anonymous="read") as served:
        assert (await served.call("GET", "/v2/app/manifests/v1"))[2] == layout.read(root)
        assert (await served.call("HEAD", f"/v2/app/blobs/{layout.digests()[0]}"))[0] == 200
        assert (await served.call("GET", "/v2/_catalog"))[0] == 200
        for method, path in (
            ("POST", f"/v2/app/blobs/uploads/?digest={digest_of(b'x')}"),
            ("PUT", "/v2/app/manifests/v2"),
            ("DELETE", "/v2/app/manifests/v1"),
            ("DELETE", f"/v2/app/blobs/{layout.digests()[0]}"),
            ("PATCH", "/acr/v1/app"),
            ("DELETE", "/acr/v1/app"),
        ):
            status, _, body = await served.call(method, path, b"x")
            assert (status, json.loads(body)["errors"][0]["code"]) == (403, "DENIED"), path
    assert sorted(path for path in (tmp_path / "root").rglob("*")) == before


# -- browsers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example:{port}", 421),
        ("127.0.0.1.evil.example:{port}", 421),
        ("localhost.evil.example:{port}", 421),
        ("192.0.2.1:{port}", 421),
        ("127.0.0.1:{port}", 200),
        ("localhost:{port}", 200),
        ("LOCALHOST:{port}", 200),
        ("[::1]:{port}", 200),
        ("k3d-registry.localhost:{port}", 200),
        ("registry.example", 200),  # by a proxy, or the `hosts` of an inventory
        ("registry.example:443", 200),
        ("evil.example:x", 400),
    ],
)
async def test_a_foreign_name_with_this_port_is_a_rebound_one(served: Served, host: str, status: int) -> None:
    headers = {"Host": host.format(port=served.port)}
    assert (await served.call("GET", "/v2/", headers=headers))[0] == status
    assert (await served.call("DELETE", "/v2/a/manifests/v1", headers=headers))[0] in (status, 404)


async def test_other_names_are_accepted_once_rights_are_given(tmp_path: Path, users: Path) -> None:
    async with running(tmp_path / "root", anonymous="write") as served:
        headers = {"Host": f"lab.example:{served.port}"}
        assert (await served.call("GET", "/v2/", headers=headers))[0] == 200
    async with running(tmp_path / "root", users=users) as served:
        headers = {"Host": f"lab.example:{served.port}", **ANN}
        assert (await served.call("GET", "/v2/", headers=headers))[0] == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://evil.example:{port}"]
)
async def test_pages_of_other_sites_change_nothing(served: Served, guarded: Served, origin: str) -> None:
    for each, more in ((served, {}), (guarded, ANN)):
        headers = {"Origin": origin.format(port=each.port), **more}
        assert (await each.call("POST", "/v2/a/blobs/uploads/", headers=headers))[0] == 403
        assert (await each.call("GET", "/v2/", headers=headers))[0] == 200
        own = {"Origin": f"http://127.0.0.1:{each.port}", **more}
        assert (await each.call("POST", "/v2/a/blobs/uploads/", headers=own))[0] == 202


async def test_content_is_never_taken_for_a_page(served: Served) -> None:
    page = b"<script>alert(1)</script>"
    digest = await served.push_blob("a", page)
    child = {"mediaType": "text/html", "digest": digest, "size": len(page)}
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child]}).encode()
    assert (await served.call("PUT", "/v2/a/manifests/v1", index, {"Content-Type": OCI_INDEX}))[0] == 201
    for path in (
        f"/v2/a/manifests/{digest}",
        f"/v2/a/blobs/{digest}",
        "/v2/a/manifests/v1",
        "/v2/none/tags/list",
    ):
        _, headers, _ = await served.call("GET", path)
        assert headers["x-content-type-options"] == "nosniff"
        assert not headers["content-type"].startswith("text/")
    (served.root / "a" / "index.json").write_text(
        json.dumps(
            {
                "schemaVersion": 2,
                "manifests": [child | {"annotations": {"org.opencontainers.image.ref.name": "v2"}}],
            }
        )
    )
    _, headers, body = await served.call("GET", "/v2/a/manifests/v2")
    assert (headers["content-type"], body) == ("application/octet-stream", page)


@pytest.mark.parametrize(
    ("field", "status"),
    [
        (b"Content-Type: \x80\xff", 415),
        (b"Content-Type: application/\xed\xa0\x80", 415),
        (b"Content-Type: \xc3\xa9/json", 415),
        (b"Content-Type: application/json\xff", 415),
        (b"Content-Encoding: \xff", 400),
    ],
)
async def test_a_header_that_is_not_utf_8_is_an_error_of_the_client(
    served: Served, caplog: pytest.LogCaptureFixture, field: bytes, status: int
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    head = b"PUT /v2/a/manifests/v2 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n%s\r\n" % field
    writer.write(head + b"Content-Length: 2\r\n\r\n{}")
    answer, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert int(answer.split()[1]) == status
    assert json.loads(body)["errors"][0]["code"] == "MANIFEST_INVALID"
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("\udc80\udcff", "??"),
        ({"\ud800": ["a\udfffb", 1, None, True]}, {"?": ["a?b", 1, None, True]}),
        ({"of": ("\udc80", Digest.of(b""))}, {"of": ["?", str(Digest.of(b""))]}),
        ("é \U0001f600", "é \U0001f600"),
    ],
)
def test_json_holds_no_lone_surrogate(value: object, read: object) -> None:
    body = json_response(value).body
    assert isinstance(body, bytes)
    assert json.loads(body) == read


# -- names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["b%00", "b%0d%0aX: y", "b%22,realm=%22http://evil.example", "..", "B", "b%20c", "%ff"]
)
async def test_a_name_that_is_none_is_400_wherever_it_stands(
    served: Served, guarded: Served, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    digest = digest_of(b"x")
    for each in (served, guarded):
        for method, path in (
            ("POST", f"/v2/a/blobs/uploads/?mount={digest}&from={name}"),
            ("POST", f"/v2/a/blobs/uploads/?from={name}"),
            ("GET", f"/v2/{name}/tags/list"),
            ("GET", f"/acr/v1/a{name}/_tags"),
        ):
            status, headers, body = await each.call(method, path)
            assert status in (400, 404), (path, body)
            assert "www-authenticate" not in headers
    assert "Traceback" not in caplog.text
    assert "internal error" not in caplog.text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/a/manifests/v%00"),
        ("GET", "/v2/a/manifests/sha256:%00"),
        ("GET", "/v2/a/blobs/sha256:%0d%0a"),
        ("GET", "/v2/a/blobs/uploads/%00"),
        ("POST", "/v2/a/blobs/uploads/?digest=%00"),
        ("POST", "/v2/a/blobs/uploads/?mount=%00&from=b"),
        ("POST", "/v2/a/blobs/uploads/?digest-algorithm=%00"),
        ("GET", "/v2/a/tags/list?n=%00"),
        ("GET", "/v2/a/tags/list?n=1&last=%00%0d%0a"),
        ("GET", "/v2/a/referrers/%00"),
        ("GET", "/v2/a/referrers/sha256:" + "0" * 64 + "?artifactType=%0d%0a"),
        ("GET", "/acr/v1/a/_tags/%00"),
        ("DELETE", "/acr/v1/a/_tags/%00"),
        ("GET", "/acr/v1/a/_tags?last=%0d%0a&n=1"),
        ("GET", "/acr/v1/a/_manifests?orderby=%00"),
        ("PATCH", "/acr/v1/a/_tags/%0d%0a"),
    ],
)
async def test_odd_characters_elsewhere_cause_no_defect(
    served: Served, caplog: pytest.LogCaptureFixture, method: str, path: str
) -> None:
    layout = ImageBuilder(served.root / "a", seed=1)
    layout.tag(layout.image([]), "v1")
    status, _, _ = await served.call(method, path, b"{}" if method == "PATCH" else None)
    assert status in (200, 202, 400, 404)
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


# -- what errors say -----------------------------------------------------------------------------------


async def test_errors_name_no_path_of_the_machine(served: Served, tmp_path: Path) -> None:
    await served.push_blob("a", DATA)
    outside = tmp_path / "secret"
    outside.write_bytes(b"secret")
    digest = digest_of(b"secret")
    (served.root / "a" / "blobs" / "sha256" / digest[7:]).symlink_to(outside)
    (served.root / "evil").symlink_to(tmp_path / "elsewhere")
    (served.root / "bad").mkdir()
    (served.root / "bad" / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (served.root / "bad" / "index.json").write_text("{")
    for method, path in (
        ("GET", f"/v2/a/blobs/{digest}"),
        ("HEAD", f"/v2/a/blobs/{digest}"),
        ("GET", "/v2/evil/x/tags/list"),
        ("POST", f"/v2/evil/x/blobs/uploads/?digest={digest_of(DATA)}"),
        ("GET", "/v2/bad/tags/list"),
        ("GET", "/v2/bad/manifests/v1"),
    ):
        status, _, body = await served.call(method, path, DATA if method == "POST" else None)
        assert status in (403, 404, 500), path
        assert str(tmp_path).encode() not in body
        assert b"secret" not in body
    assert not (tmp_path / "elsewhere").exists()


async def test_a_linked_repository_is_neither_read_nor_written(served: Served, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    layout = ImageBuilder(elsewhere / "x", seed=1)
    layout.tag(layout.image([]), "v1")
    (served.root / "evil").symlink_to(elsewhere)
    before = sorted(elsewhere.rglob("*"))
    assert (await served.call("GET", "/v2/evil/x/manifests/v1"))[0] == 404
    for path in ("evil/x", "evil/new"):
        status, _, _ = await served.call("POST", f"/v2/{path}/blobs/uploads/?digest={digest_of(DATA)}", DATA)
        assert status == 403
    assert (await served.call("GET", "/v2/_catalog"))[2] == b'{"repositories":[]}'
    assert sorted(elsewhere.rglob("*")) == before


async def test_an_index_over_its_limit_is_507_and_all_tags_stay(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = ImageBuilder(seed=1)
    image = layout.image([])
    await served.push("a", layout, image.digest, image.media_type, "v1")
    monkeypatch.setattr(
        "crossdock.store.indexfile.INDEX_LIMIT", (served.root / "a" / "index.json").stat().st_size
    )
    other = layout.image([], annotations={"n": "2"})
    status, _, body = await served.call(
        "PUT", "/v2/a/manifests/v2", layout.read(other), {"Content-Type": other.media_type}
    )
    assert (status, b"/index.json" in body) == (507, False)
    assert (await served.call("GET", "/v2/a/manifests/v1"))[0] == 200
    assert (await served.call("DELETE", "/v2/a/manifests/v1"))[0] == 202


# -- passwords -----------------------------------------------------------------------------------------


@pytest.fixture
def few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few that no further one is due before a test has ended."""
    monkeypatch.setattr(access, "TRIES_OF_USER", 2)
    monkeypatch.setattr(access, "TRIES_OF_ADDRESS", 4)


@pytest.mark.usefixtures("few_tries")
async def test_guesses_are_bounded_for_each_user(tmp_path: Path, users: Path) -> None:
    async with running(tmp_path / "root", users=users) as guarded:
        wrong = [
            await guarded.call("GET", "/v2/", headers=basic("ann", f"guess {n}"))
            for n in range(access.TRIES_OF_USER)
        ]
        assert {status for status, _, _ in wrong} == {401}
        for headers in (basic("ann", "guess"), ANN):
            status, got, _ = await guarded.call("GET", "/v2/", headers=headers)
            assert status == 429
            assert int(got["retry-after"]) > 0
        assert (await guarded.call("GET", "/v2/", headers=BOB))[0] == 200
        service = f"127.0.0.1:{guarded.port}"
        form = f"grant_type=password&service={service}&username=ann&password=guess&scope=x".encode()
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        assert (await guarded.call("POST", "/oauth2/token", form, kind))[0] == 429
        query = f"/oauth2/token?service={service}"
        assert (await guarded.call("GET", query, headers=basic("ann", "guess")))[0] == 429


@pytest.mark.usefixtures("few_tries")
async def test_guesses_are_bounded_for_each_address(tmp_path: Path, users: Path) -> None:
    async with running(tmp_path / "root", users=users) as guarded:
        for n in range(access.TRIES_OF_ADDRESS):
            assert (await guarded.call("GET", "/v2/", headers=basic(f"user{n}", "guess")))[0] == 401
        assert (await guarded.call("GET", "/v2/", headers=BOB))[0] == 429


async def test_right_and_missing_passwords_do_not_count_as_guesses(guarded: Served) -> None:
    for _ in range(access.TRIES_OF_ADDRESS + 1):
        assert (await guarded.call("GET", "/v2/", headers=ANN))[0] == 200
    for _ in range(access.TRIES_OF_USER + 1):
        assert (await guarded.call("GET", "/v2/"))[0] == 401
    assert (await guarded.call("GET", "/v2/", headers=ANN))[0] == 200


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True), (0o660, True)])
def test_a_users_file_that_others_can_read_is_a_warning(
    users: Path, caplog: pytest.LogCaptureFixture, mode: int, warned: bool
) -> None:
    users.chmod(mode)
    AccountsFile(users)
    assert (f"has the mode {mode:o}" in caplog.text) is warned


# -- uploads -------------------------------------------------------------------------------------------


async def test_one_users_empty_sessions_block_nobody(
    guarded: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "SESSIONS", 8)  # two of them for one user
    locations = []
    for _ in range(10):
        status, headers, _ = await guarded.call("POST", "/v2/a/blobs/uploads/", headers=ANN)
        assert status == 202
        locations.append(headers["location"])
    statuses = [(await guarded.call("GET", each, headers=ANN))[0] for each in locations]
    assert statuses == [404] * 8 + [204] * 2
    for who in (ANN, BOB):
        path = f"/v2/a/blobs/uploads/?digest={digest_of(DATA)}"
        assert (await guarded.call("POST", path, DATA, who))[0] == 201


async def test_a_session_with_content_is_kept(guarded: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "SESSIONS", 8)
    _, first, _ = await guarded.call("POST", "/v2/a/blobs/uploads/", headers=ANN)
    assert (await guarded.call("PATCH", first["location"], b"data", ANN))[0] == 202
    for _ in range(5):
        assert (await guarded.call("POST", "/v2/a/blobs/uploads/", headers=ANN))[0] == 202
    _, second, _ = await guarded.call("POST", "/v2/a/blobs/uploads/", headers=ANN)
    assert (await guarded.call("PATCH", second["location"], b"data", ANN))[0] == 202
    status, headers, _ = await guarded.call("POST", "/v2/a/blobs/uploads/", headers=ANN)
    assert (status, bool(headers["retry-after"])) == (429, True)
    assert (await guarded.call("POST", "/v2/a/blobs/uploads/", headers=BOB))[0] == 202
    done = await guarded.call("PUT", f"{first['location']}?digest={digest_of(b'data')}", headers=ANN)
    assert done[0] == 201
