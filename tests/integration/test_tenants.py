"""Tenants of the import service cannot reach each other's data, nor the service's own."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from crossdock.imagebuilder import ImageBuilder
from support.command import Crossdock
from support.embedded import Embedded, start_embedded
from support.images import one_layer_image, push
from support.push import Remote, sha256
from support.tenants import as_principal, outcome, post_import, start_tenants

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
EVERYTHING = [(["importImage", "read", "pull"], ["*"])]
Answer = Callable[["Hostile", str, str, dict[str, str]], tuple[int, dict[str, str], bytes]]


class Hostile:
    """A registry with the responses of `answer`. Waiting for `ends` lasts until the test ends."""

    def __init__(self, answer: Answer) -> None:
        self.ends = threading.Event()
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.asked.append((self.command, self.path, headers))
                status, more, data = answer(outer, self.command, self.path, headers)
                try:
                    self.send_response(status)
                    for name, value in more.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(data)
                except OSError:
                    self.close_connection = True

            do_HEAD = do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: Any) -> None:
                """Clients go away."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        self.ends.set()
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def hostile() -> Iterator[Callable[[Answer], Hostile]]:
    with ExitStack() as closing:

        def start(answer: Answer) -> Hostile:
            server = Hostile(answer)
            closing.callback(server.stop)
            return server

        yield start


def registry(folder: Path, name: str, closing: ExitStack, *, stocked: bool = False) -> Embedded:
    (folder / name).mkdir()
    started = start_embedded(folder / name, folder / name / "root", closing)
    if stocked:
        builder = ImageBuilder(folder / name / "layout")
        push(Remote(started.host), "app", builder, one_layer_image(builder, 1000)[0], "v1")
    return started


def document_of(path: str, documents: dict[str, bytes], media_type: str) -> tuple[int, dict[str, str], bytes]:
    """The manifest that a path names, by tag or digest."""
    wanted = path.rsplit("/", 1)[1].replace("%3A", ":")
    data = documents.get(wanted)
    if data is None:
        return 404, {}, b"{}"
    return 200, {"Content-Type": media_type, "Docker-Content-Digest": sha256(data)}, data


def many_layers(count: int, size: Callable[[int], int]) -> bytes:
    layers = [
        {"mediaType": "application/octet-stream", "digest": f"sha256:{number:064x}", "size": size(number)}
        for number in range(1, count + 1)
    ]
    config = {"mediaType": "application/octet-stream", "digest": sha256(b"{}"), "size": 2}
    return json.dumps(
        {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
    ).encode()


@pytest.mark.parametrize("size", [10, 100 << 20], ids=["small", "large"])
def test_an_import_whose_source_hangs_keeps_no_other_waiting(
    tmp_path: Path, closing: ExitStack, hostile: Callable[[Answer], Hostile], size: int
) -> None:
    """Not even one to the same target, whose places it holds."""
    image = many_layers(1000, lambda _: size)

    def answer(
        server: Hostile, method: str, path: str, _: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        if "/manifests/" in path:
            return document_of(path, {"v1": image, sha256(image): image}, MANIFEST)
        if "/blobs/" in path:
            server.ends.wait()
        return 200, {}, b"{}"

    evil = [hostile(answer), hostile(answer)]
    good, target = registry(tmp_path, "good", closing, stocked=True), registry(tmp_path, "target", closing)
    entries = {"mine": target.host, "good": good.host, "evil0": evil[0].host, "evil1": evil[1].host}
    service = start_tenants(
        tmp_path / "serve",
        closing,
        {name: {"login_server": host} for name, host in entries.items()},
        {"mallory": EVERYTHING, "bob": EVERYTHING},
    )
    theirs = [
        post_import(service, "mine", {"registryUri": evil[n % 2].host}, who="mallory", targetTags=[f"x{n}:v"])
        for n in range(8)
    ]
    assert [each[0] for each in theirs] == [202] * 8
    posted = post_import(service, "mine", {"registryUri": good.host}, who="bob")
    assert outcome(service, posted, "bob", wait_s=90) == (200, "")
    states = {service.ask("GET", each[1]["location"], headers=as_principal("mallory"))[0] for each in theirs}
    assert states == {202}


def test_the_service_answers_while_hostile_manifests_are_imported(
    tmp_path: Path, closing: ExitStack, hostile: Callable[[Answer], Hostile]
) -> None:
    """As many values as are allowed, and far more than that, in manifests of 4 MiB."""
    documents: dict[str, bytes] = {}
    entries = []
    for number in range(6):
        count = 20_000 if number % 2 else 6_000
        nested = ",".join(["[" * 28 + "]" * 28] * count)
        head = f'{{"schemaVersion":2,"mediaType":"{INDEX}","n":{number},"manifests":[],"x":['
        data = f"{head}{nested}]}}".encode()
        documents[sha256(data)] = data
        entries.append({"mediaType": INDEX, "digest": sha256(data), "size": len(data)})
    for number in range(20):
        chosen = entries[1::2] if number % 2 else entries[::2]
        index = json.dumps(
            {"schemaVersion": 2, "mediaType": INDEX, "manifests": chosen, "n": number}
        ).encode()
        documents[f"v{number}"] = documents[sha256(index)] = index

    def answer(_: Hostile, method: str, path: str, __: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        if "/manifests/" in path:
            return document_of(path, documents, INDEX)
        return (200, {}, b"{}") if path == "/v2/" else (404, {}, b"{}")

    evil, target = hostile(answer), registry(tmp_path, "target", closing)
    service = start_tenants(
        tmp_path / "serve",
        closing,
        {"mine": {"login_server": target.host}, "evil": {"login_server": evil.host}},
        {},
        limits={"imports": 4, "imports_per_registry": 4},
    )
    posted = [
        post_import(
            service, "mine", {"registryUri": evil.host, "sourceImage": f"x:v{n}"}, targetTags=[f"x:v{n}"]
        )
        for n in range(8)
    ]
    codes = set()
    for each in posted:
        while service.ask("GET", each[1]["location"])[0] == 202:
            assert service.ask("GET", "/healthz")[0] == 200
        codes.add(outcome(service, each))
    assert (400, "LimitExceeded") in codes


def greedy(server: Hostile, method: str, path: str, _: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    """It demands a password, and gives nothing for it."""
    return 401, {"WWW-Authenticate": 'Basic realm="x"'}, b"{}"


def shown(server: Hostile) -> list[str]:
    return [headers["authorization"] for _, _, headers in server.asked if "authorization" in headers]


def test_a_source_that_a_caller_names_sees_nothing_of_the_services_own(
    tmp_path: Path,
    closing: ExitStack,
    hostile: Callable[[Answer], Hostile],
) -> None:
    evil, target = hostile(greedy), registry(tmp_path, "target", closing)
    (tmp_path / "docker").mkdir()
    login = {"auth": base64.b64encode(b"svc:s3cret-file").decode()}
    (tmp_path / "docker" / "config.json").write_text(json.dumps({"auths": {evil.host: login}}))
    environment = {
        "DOCKER_CONFIG": str(tmp_path / "docker"),
        "CROSSDOCK_SOURCE_USERNAME": "svc",
        "CROSSDOCK_SOURCE_PASSWORD": "s3cret-variable",
        "CROSSDOCK_TARGET_ACCESS_TOKEN": "s3cret-entra",
    }
    service = start_tenants(
        tmp_path / "serve",
        closing,
        {"mine": {"login_server": target.host}},
        {"alice": [(["importImage", "read"], ["mine"])]},
        environment=environment,
        sources={"allow": [evil.host], "private_addresses": ["127.0.0.1/32"]},
    )
    posted = post_import(service, "mine", {"registryUri": evil.host}, who="alice")
    assert outcome(service, posted, "alice") == (400, "RegistryUnauthorized")
    assert shown(evil) == []
    log = service.log.read_text()
    assert "CROSSDOCK_SOURCE_USERNAME, CROSSDOCK_TARGET_ACCESS_TOKEN: ignored" in log
    assert "DOCKER_CONFIG: used only for registries of the inventory" in log
    assert "s3cret" not in log

    own = {"registryUri": evil.host, "credentials": {"username": "alice", "password": "her-own"}}
    assert outcome(service, post_import(service, "mine", own, who="alice"), "alice")[0] == 400
    assert set(shown(evil)) == {"Basic " + base64.b64encode(b"alice:her-own").decode()}


@pytest.mark.parametrize("named", [False, True])
def test_variables_of_a_side_are_not_sent_to_several_registries_of_a_list(
    tmp_path: Path,
    closing: ExitStack,
    hostile: Callable[[Answer], Hostile],
    crossdock: Crossdock,
    named: bool,
) -> None:
    evil, target = hostile(greedy), registry(tmp_path, "target", closing)
    users = {"users": [{"name": "ann", "password": "s3cret-ann"}]}
    (tmp_path / "locked").mkdir()
    locked = start_embedded(tmp_path / "locked", tmp_path / "locked" / "root", closing, users=users)
    builder = ImageBuilder(tmp_path / "layout")
    push(Remote(locked.host, basic="ann:s3cret-ann"), "app", builder, one_layer_image(builder, 1000)[0], "v1")
    pairs = tmp_path / "pairs"
    pairs.write_text(f"{locked.host}/app:v1 {target.host}/a:v1\n{evil.host}/app:v1 {target.host}/b:v1\n")
    environ = {"CROSSDOCK_SOURCE_USERNAME": "ann", "CROSSDOCK_SOURCE_PASSWORD": "s3cret-ann"}
    if named:
        environ["CROSSDOCK_SOURCE_REGISTRY"] = locked.host
    crossdock("copy", "--from-file", pairs, env=environ)
    assert shown(evil) == []
    assert (Remote(target.host).manifest("a", "v1").status == 200) == named

    alone = crossdock("copy", f"{locked.host}/app:v1", f"{target.host}/alone:v1", env=environ)
    assert alone.code == 0, str(alone)
