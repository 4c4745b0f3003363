"""A migration, and a copy, between two real zots: plan, apply, verify, referrers by the API, several tags."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from crossdock.imagebuilder import Content, ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from support.command import VERIFICATION, Crossdock
from support.images import one_layer_image, push
from support.zot import Zot, start_zot

pytestmark = pytest.mark.real

SOMETHING_TO_DO = 12
QUIET = ("--output", "json", "--progress", "none")


@pytest.fixture
def zots(tmp_path: Path, closing: ExitStack) -> tuple[Zot, Zot]:
    both = start_zot(tmp_path / "old"), start_zot(tmp_path / "new")
    for each in both:
        closing.callback(each.stop)
    return both


def referrers(zot: Zot, repository: str, subject: Content) -> set[str]:
    """What the API lists."""
    reply = zot.remote.request("GET", f"/v2/{repository}/referrers/{subject.digest}")
    return {each["digest"] for each in reply.json()["manifests"]}


def fill(zot: Zot, builder: ImageBuilder) -> tuple[list[Content], Content]:
    """Three images with three tags each, and a referrer of the first."""
    images = [one_layer_image(builder, 3000 + number)[0] for number in range(3)]
    for number, image in enumerate(images):
        for tag in range(3):
            push(zot.remote, "team/app", builder, image, f"v{number}.{tag}")
    signature = builder.artifact("application/vnd.example", [builder.random_layer(300)], subject=images[0])
    push(zot.remote, "team/app", builder, signature)
    return images, signature


def test_a_migration(
    zots: tuple[Zot, Zot],
    crossdock: Crossdock,
    builder: ImageBuilder,
    fault_proxy: Callable[..., FaultProxy],
    tmp_path: Path,
) -> None:
    old, new = zots
    images, signature = fill(old, builder)
    reading, writing = fault_proxy(old.host), fault_proxy(new.host)
    file = tmp_path / "m.yaml"
    mirror = {"source": f"{reading.host}/team", "targets": [f"{writing.host}/moved"]}
    file.write_text(json.dumps({"version": 1, "mirrors": [mirror]}))

    planned = crossdock("plan", file, "--exit-code", "--output", "json")
    assert planned.code == SOMETHING_TO_DO
    assert (planned.result["totals"]["tags_new"], planned.result["totals"]["images"]) == (9, 3)
    assert crossdock("verify", file).code == VERIFICATION

    reading.seen.clear()
    applied: dict[str, Any] = crossdock.ok("apply", file, *QUIET).result
    assert (applied["totals"]["copied"], applied["totals"]["images"], applied["not_copied"]) == (9, 3, [])
    gets = [each for each in reading.seen if each.method == "GET" and "/manifests/" in each.path]
    assert len(gets) == len(images) + 1, "each manifest once, the referrer's too"
    asked = [each for each in reading.seen if "/referrers/" in each.path]
    assert len(asked) <= len(images) + 1
    puts = [each for each in writing.seen if each.method == "PUT" and "/manifests/" in each.path]
    assert len(puts) == len(images) + 2, (
        "all tags in one; what has a referrer goes ahead by digest, and the referrer"
    )
    assert referrers(new, "moved/app", images[0]) == {signature.digest}
    assert sorted(new.remote.tags("moved/app")) == sorted(old.remote.tags("team/app"))
    crossdock.ok("verify", file)
    assert crossdock.ok("plan", file, "--exit-code").code == 0

    for proxy in (reading, writing):
        proxy.seen.clear()
    assert crossdock.ok("apply", file, *QUIET).result["totals"]["unchanged"] == 9
    for proxy in (reading, writing):
        heads = [each for each in proxy.seen if each.method == "HEAD" and "/manifests/v" in each.path]
        assert len(heads) == 9


def test_a_copy_brings_the_referrers(
    zots: tuple[Zot, Zot], crossdock: Crossdock, builder: ImageBuilder
) -> None:
    old, new = zots
    images, signature = fill(old, builder)
    crossdock.ok("copy", f"{old.host}/team/app:v0.0", f"{new.host}/one/app:v1", *QUIET)
    assert new.remote.manifest("one/app", "v1").headers["docker-content-digest"] == images[0].digest
    assert referrers(new, "one/app", images[0]) == {signature.digest}
