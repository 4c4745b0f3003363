"""The service contacts only hosts that are permitted, names the rule of a refusal, and writes the audit
log."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from support.process import wait_until
from support.service import GROUP, SUBSCRIPTION, Service, registry_path, start_service

SECRET = "s3cr3t-p4ss"
IMPORT = registry_path("myregistry", "importImage")


class Inside:
    """A server that records requests. It returns 404, or redirects everything to `leads_to`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.leads_to = ""
        inside = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                inside.asked.append(self.path)
                self.send_response(307 if inside.leads_to else 404)
                if inside.leads_to:
                    self.send_header("Location", f"{inside.leads_to}{self.path}")
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_HEAD = do_GET

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def inside() -> Iterator[Inside]:
    server = Inside()
    yield server
    server.stop()


@pytest.fixture
def named() -> Iterator[Inside]:
    server = Inside()
    yield server
    server.stop()


def serve(folder: Path, closing: ExitStack, named: Inside, settings: dict[str, Any]) -> Service:
    entry = {"subscription": SUBSCRIPTION, "resource_group": GROUP}
    inventory = {
        "registries": [
            {"name": "myregistry", "login_server": "127.0.0.1:1", **entry},
            {"name": "mysource", "login_server": named.host, **entry},
        ]
    }
    folder.mkdir()
    (folder / "settings.yaml").write_text(json.dumps(settings))
    started = start_service(folder, inventory, "--config", folder / "settings.yaml")
    closing.callback(started.process.stop)
    return started


def audited(service: Service) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["logger"] == "crossdock.audit"]


def body(registry: str, **more: Any) -> dict[str, Any]:
    return {"source": {"registryUri": registry, "sourceImage": "app:v1", **more}, "targetTags": ["app:v1"]}


SOURCES = [
    ("127.0.0.1:{port}", "loopback-address"),
    ("127.1:{port}", "loopback-address"),
    ("2130706433:{port}", "loopback-address"),
    ("[::1]:{port}", "loopback-address"),
    ("[::ffff:127.0.0.1]:{port}", "loopback-address"),
    ("localhost:{port}", "loopback-address"),
    ("169.254.169.254", "metadata-address"),
    ("metadata.google.internal", "metadata-address"),
    ("10.0.0.1:5000", "private-address"),
    ("[fd00::1]", "private-address"),
    ("0.0.0.0:{port}", "unspecified-address"),
]


def test_internal_sources_are_refused_by_rule_without_a_request(
    tmp_path: Path, closing: ExitStack, named: Inside, inside: Inside
) -> None:
    service = serve(tmp_path / "service", closing, named, {"sources": {"allow": ["*"]}})
    for text, rule in SOURCES:
        source = text.format(port=inside.server.server_address[1])
        status, headers, answer = service.ask("POST", IMPORT, body(source))
        assert status in (400, 403), source
        assert rule in answer["error"]["message"] or "is no" in answer["error"]["message"], (source, answer)
        assert "retry-after" not in headers
    assert inside.asked == []
    lines = audited(service)
    assert [line["result"] for line in lines] == ["refused"] * len(SOURCES)
    assert all(line["who"] == "anonymous" and line["client"] == "127.0.0.1" for line in lines)


def test_unlisted_sources_are_refused_before_any_request(
    tmp_path: Path, closing: ExitStack, named: Inside
) -> None:
    service = serve(tmp_path / "service", closing, named, {})
    who = {"credentials": {"username": "bob", "password": SECRET}}
    status, _, answer = service.ask("POST", IMPORT, body("quay.io", **who))
    assert (status, answer["error"]["code"]) == (403, "SourceNotAllowed")
    assert "source-not-allowed" in answer["error"]["message"]
    (line,) = audited(service)
    assert (line["from"], line["to"], line["with_credentials"]) == ("quay.io app:v1", ["app:v1"], True)
    assert SECRET not in service.log.read_text()


def test_a_source_that_the_operator_named_leads_nowhere_else(
    tmp_path: Path, closing: ExitStack, named: Inside, inside: Inside
) -> None:
    service = serve(tmp_path / "service", closing, named, {})
    named.leads_to = f"http://{inside.host}"
    status, headers, _ = service.ask("POST", IMPORT, body(named.host))
    assert status == 202
    wait_until(lambda: service.ask("GET", headers["location"])[0] != 202, "the import's end")
    status, _, answer = service.ask("GET", headers["location"])
    assert (status, answer["error"]["code"]) == (400, "AddressNotAllowed")
    assert "(loopback-address)" in answer["error"]["message"]
    assert named.asked
    assert inside.asked == []
    assert audited(service)[0]["result"] == "accepted"


def test_requests_over_the_rate_are_refused_and_polls_are_not(
    tmp_path: Path, closing: ExitStack, named: Inside
) -> None:
    service = serve(tmp_path / "service", closing, named, {"limits": {"requests_per_minute": 3}})
    path = registry_path("myregistry")
    answers = [service.ask("GET", path) for _ in range(4)]
    assert [status for status, *_ in answers] == [200, 200, 200, 429]
    assert answers[-1][2]["error"]["code"] == "TooManyRequests"
    assert "retry-after" not in answers[-1][1]
    poll = path.replace(f"/resourceGroups/{GROUP}", "").replace(
        "registries", "locations/x/operationResults/y"
    )
    assert {service.ask("GET", poll)[0] for _ in range(5)} == {404}
