"""Docker Hub by the name that Azure's SDKs use, and imports of very many targets."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from crossdock.imagebuilder import ImageBuilder
from support.command import Crossdock
from support.embedded import Embedded, start_embedded
from support.images import one_layer_image, push
from support.push import Remote
from support.tenants import outcome, post_import, start_tenants

NAMES = ["docker.io", "registry.hub.docker.com", "registry-1.docker.io", "index.docker.io:443"]


@pytest.fixture
def hub(tmp_path: Path, closing: ExitStack) -> Embedded:
    (tmp_path / "hub").mkdir()
    started = start_embedded(tmp_path / "hub", tmp_path / "hub" / "root", closing)
    builder = ImageBuilder(tmp_path / "layout")
    push(Remote(started.host), "library/app", builder, one_layer_image(builder, 1000)[0], "v1")
    return started


@pytest.fixture
def target(tmp_path: Path, closing: ExitStack) -> Embedded:
    (tmp_path / "target").mkdir()
    return start_embedded(tmp_path / "target", tmp_path / "target" / "root", closing)


def test_every_name_of_docker_hub_is_where_hosts_says(
    tmp_path: Path, closing: ExitStack, hub: Embedded, target: Embedded, crossdock: Crossdock
) -> None:
    entries = {"myregistry": {"login_server": target.host}}
    service = start_tenants(tmp_path / "serve", closing, entries, {}, hosts={"docker.io": hub.host})
    for name in NAMES:
        asked = {"registryUri": name, "sourceImage": "library/app:v1"}
        assert outcome(service, post_import(service, "myregistry", asked)) == (200, ""), name
    inventory = tmp_path / "serve" / "inventory.yaml"
    for number, name in enumerate(NAMES):
        source = ("--source", f"{name}/library/app:v1", "-t", f"cli:{number}")
        done = crossdock("acr", "import", "--inventory", inventory, "-n", "myregistry", *source)
        assert done.code == 0, str(done)


def test_very_many_targets_are_refused_and_many_are_imported(
    tmp_path: Path, closing: ExitStack, hub: Embedded, target: Embedded
) -> None:
    entries = {"myregistry": {"login_server": target.host}, "hub": {"login_server": hub.host}}
    service = start_tenants(tmp_path / "serve", closing, entries, {})
    asked = {"registryUri": hub.host, "sourceImage": "library/app:v1"}
    tags = [f"t:{number:x}" for number in range(26_000)]
    assert outcome(service, post_import(service, "myregistry", asked, targetTags=tags[:20_000])) == (
        400,
        "InvalidParameters",
    )
    assert outcome(service, post_import(service, "myregistry", asked, targetTags=tags[:101]))[0] == 400
    posted = post_import(service, "myregistry", asked, targetTags=tags[:100])
    assert outcome(service, posted, wait_s=60) == (200, "")
    (listed,) = service.ask("GET", "/imports")[2]["value"]
    assert (len(listed["targetTags"]), listed["targetCount"]) == (10, 100)
    assert len(listed["result"]["targets"]) == 10
    whole = service.ask("GET", f"/imports/{listed['id']}")[2]
    assert (len(whole["targetTags"]), len(whole["result"]["targets"])) == (100, 100)
    page = service.ask("GET", "/")[2].decode()
    assert "and 95 more" in page
