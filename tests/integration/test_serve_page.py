"""The status page in headless Chromium, by the link of ``--dev``, while an import runs."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from crossdock.imagebuilder import ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Break, Fault
from support.chromium import chromium
from support.docker_registry import DockerRegistry
from support.images import one_layer_image, push
from support.process import wait_until
from support.service import GROUP, SUBSCRIPTION, Service, registry_path, start_dev_service

pytestmark = pytest.mark.real

LAYER = 4_000_000
TOKEN = {"Authorization": "Bearer of-the-test"}
SETTINGS = {
    "identity": {"tokens": [{"name": "test", "sha256": hashlib.sha256(b"of-the-test").hexdigest()}]},
    "principals": [
        {"id": "test", "roles": [{"actions": ["importImage", "read", "pull"], "registries": ["*"]}]}
    ],
}


@pytest.fixture
def service(source_faults: FaultProxy, target: DockerRegistry, tmp_path: Path, closing: ExitStack) -> Service:
    entry = {"subscription": SUBSCRIPTION, "resource_group": GROUP}
    inventory = {
        "registries": [
            {"name": "myregistry", "login_server": target.host, **entry},
            {"name": "mysource", "login_server": source_faults.host, **entry},
        ]
    }
    started = start_dev_service(tmp_path / "service", inventory, {}, SETTINGS)
    closing.callback(started.process.stop)
    return started


def start_import(service: Service, source: FaultProxy, image: str) -> str:
    """Start an import; its own path."""
    body = {"source": {"registryUri": source.host, "sourceImage": image}}
    status, headers, _ = service.ask("POST", registry_path("myregistry", "importImage"), body, TOKEN)
    assert status == 202
    return "/imports/" + headers["location"].partition("registries-")[2].partition("?")[0]


def shown(service: Service, path: str) -> dict[str, Any]:
    status, _, document = service.ask("GET", path, headers=TOKEN)
    assert status == 200
    assert isinstance(document, dict)
    return document


async def test_imports_are_shown_live_and_cancelled_by_a_button(
    service: Service,
    source_faults: FaultProxy,
    source: DockerRegistry,
    target: DockerRegistry,
    builder: ImageBuilder,
    repository: str,
    tmp_path: Path,
) -> None:
    push(source.remote, repository, builder, one_layer_image(builder, LAYER)[0], "v1")
    # The first range arrives and no later one ever does, however often it is requested.
    later = Fault(
        lambda r: r.is_blob_get() and bool(r.range) and not r.range.startswith("bytes=0-"),
        times=None,
        breaks=Break("stall", at=0),
    )
    source_faults.add(later)
    failed = start_import(service, source_faults, f"{repository}:missing")
    wait_until(lambda: shown(service, failed)["state"] == "Failed", "an import that fails")
    path = start_import(service, source_faults, f"{repository}:v1")
    wait_until(lambda: shown(service, path)["progress"]["bytes"] > 1_000_000, "bytes that moved")
    link = json.loads((service.log.parent / "info.json").read_text())["page"]
    assert f"status page, on this machine: {link}\n" in service.log.read_text()
    async with chromium(tmp_path) as browser:
        await browser.open(link)
        assert await browser.run("location.href") == f"{service.url}/"  # without the key
        await browser.until("document.getElementById('live').textContent.endsWith(', live')")
        page = await browser.until("document.querySelector('tr.running')?.outerHTML")
        assert f"{source_faults.host}/{repository}:v1" in page
        assert "of 3.8 MiB" in page
        for name in ("accepted", "waited", "started"):
            assert f"<dt>{name}</dt>" in page
        assert "ManifestUnknown" in await browser.run("document.querySelector('tr.failed').innerText")
        await browser.picture("service", 1280)
        await browser.picture("service", 390)
        await browser.run("document.querySelector('[name=q]').value = ':missing'")
        await browser.run("document.getElementById('filter').dispatchEvent(new Event('input'))")
        await browser.until("location.search === '?q=%3Amissing' && !document.querySelector('tr.running')")
        await browser.open(service.url)
        await browser.click("tr.running summary")
        await browser.until("!!document.querySelector('tr.running .cancel[open]')")
        await browser.click("tr.running .cancel button")
        await browser.until("document.querySelector('tr.canceled') && location.search.startsWith('?import=')")
        await browser.picture("service-import", 390)
        await browser.ask("Emulation.setScriptExecutionDisabled", value=True)
        await browser.open(service.url)
        assert 'http-equiv="refresh"' in await browser.run("document.head.innerHTML")
        assert "ManifestUnknown" in await browser.run("document.querySelector('tr.failed').innerText")
        assert {each.partition("/?")[0] for each in browser.requested if "://" in each} >= {service.url}
        assert [
            each for each in browser.requested if not each.startswith((service.url, "data:", "about:"))
        ] == []
    assert shown(service, path)["state"] == "Canceled"
    assert target.remote.tags(repository) == []


def test_the_page_may_load_nothing_but_its_own(service: Service) -> None:
    status, headers, _ = service.ask("GET", "/", headers=TOKEN)
    assert status == 200
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    for path, kind in (("/page.css", "text/css"), ("/page.js", "text/javascript")):
        status, headers, content = service.ask("GET", path)
        assert status == 200
        assert headers["content-type"].startswith(kind)
        assert not re.search(rb"https?:|url\(|@import", content)
