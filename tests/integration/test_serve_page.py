"""The status page in headless Chromium, with scripts and without, while an import runs."""

from __future__ import annotations

import json
import re
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from crossdock.imagebuilder import ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Break, Fault
from support.docker_registry import DockerRegistry
from support.images import one_layer_image, push
from support.process import require, wait_until
from support.service import GROUP, SUBSCRIPTION, Service, registry_path, start_service

pytestmark = pytest.mark.real

LAYER = 4_000_000
FLAGS = (
    *(
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-sync",
    ),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--ignore-certificate-errors",
)


@pytest.fixture
def service(source_faults: FaultProxy, target: DockerRegistry, tmp_path: Path, closing: ExitStack) -> Service:
    entry = {"subscription": SUBSCRIPTION, "resource_group": GROUP}
    inventory = {
        "registries": [
            {"name": "myregistry", "login_server": target.host, **entry},
            {"name": "mysource", "login_server": source_faults.host, **entry},
        ]
    }
    started = start_service(tmp_path / "service", inventory)
    closing.callback(started.process.stop)
    return started


def browse(folder: Path, url: str, *, scripts: bool = True) -> str:
    """The page's DOM after some seconds of its scripts' time."""
    profile = folder / f"profile{len(list(folder.iterdir()))}"
    (profile / "Default").mkdir(parents=True)
    settings = {"profile": {"default_content_setting_values": {"javascript": 1 if scripts else 2}}}
    (profile / "Default" / "Preferences").write_text(json.dumps(settings))
    command = [
        require("chromium"),
        *FLAGS,
        f"--user-data-dir={profile}",
        "--virtual-time-budget=4000",
        "--dump-dom",
        url,
    ]
    done = subprocess.run(command, capture_output=True, timeout=90, check=True, env={"HOME": str(folder)})
    return done.stdout.decode()


def start_import(service: Service, source: FaultProxy, image: str) -> str:
    body = {"source": {"registryUri": source.host, "sourceImage": image}}
    status, headers, _ = service.ask("POST", registry_path("myregistry", "importImage"), body)
    assert status == 202
    return headers["location"]


def shown(service: Service, location: str) -> dict[str, Any]:
    """The import as our own paths have it."""
    own = location.partition("registries-")[2].partition("?")[0]
    status, _, document = service.ask("GET", f"/imports/{own}")
    assert status == 200
    assert isinstance(document, dict)
    return document


def test_a_running_import_is_shown_live_and_cancelled(
    service: Service,
    source_faults: FaultProxy,
    source: DockerRegistry,
    target: DockerRegistry,
    builder: ImageBuilder,
    repository: str,
    tmp_path: Path,
) -> None:
    push(source.remote, repository, builder, one_layer_image(builder, LAYER)[0], "v1")
    source_faults.add(Fault(lambda r: r.is_blob_get(), times=None, breaks=Break("stall", at=2_500_000)))
    location = start_import(service, source_faults, f"{repository}:v1")
    wait_until(lambda: shown(service, location)["progress"]["bytes"] > 1_000_000, "bytes that moved")
    page = browse(tmp_path, service.url)
    assert f"{source_faults.host}/{repository}:v1" in page
    assert '<p id="live" class="">live</p>' in page
    assert '<tr class="running"' in page
    assert "<progress aria-label" in page
    assert "of 3.8 MiB" in page
    status, _, document = service.ask("DELETE", shown(service, location)["url"])
    assert (status, document["state"]) == (200, "Canceled")
    status, headers, document = service.ask("GET", location)
    assert (status, document["error"]["code"]) == (409, "OperationCanceled")
    assert "retry-after" not in headers
    assert '<tr class="canceled"' in browse(tmp_path, service.url)
    assert target.remote.tags(repository) == []


def test_without_scripts_the_table_is_there_and_loads_itself_again(
    service: Service, source_faults: FaultProxy, repository: str, tmp_path: Path
) -> None:
    location = start_import(service, source_faults, f"{repository}:missing")
    wait_until(lambda: shown(service, location)["state"] == "Failed", "an import that fails")
    page = browse(tmp_path, service.url, scripts=False)
    assert '<p id="live"></p>' in page
    assert '<meta http-equiv="refresh" content="5">' in page
    assert '<tr class="failed"' in page
    assert "<summary>ManifestUnknown</summary>" in page


def test_the_page_may_load_nothing_but_its_own(service: Service) -> None:
    _, headers, _ = service.ask("GET", "/")
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    for path, kind in (("/page.css", "text/css"), ("/page.js", "text/javascript")):
        status, headers, content = service.ask("GET", path)
        assert status == 200
        assert headers["content-type"].startswith(kind)
        assert not re.search(rb"https?:|url\(|@import", content)
