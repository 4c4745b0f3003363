"""The page of ``crossdock registry`` in headless Chromium."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from crossdock.imagebuilder import Content, ImageBuilder
from support.chromium import chromium
from support.embedded import start_embedded
from support.images import push

pytestmark = pytest.mark.real


async def test_repositories_and_their_manifests_are_shown(
    real_index: tuple[ImageBuilder, Content], tmp_path: Path, closing: ExitStack
) -> None:
    registry = start_embedded(tmp_path, tmp_path / "root", closing)
    builder, content = real_index
    long = "library/a-very-long-name-of-a-repository/with-many-parts/that-goes-on-and-on"
    for name in ("team/app", long):
        push(registry.remote, name, builder, content, "v1")
    async with chromium(tmp_path) as browser:
        await browser.open(f"http://{registry.host}/")
        for width in (1280, 390):
            await browser.picture("registry", width)
        await browser.click("tbody a")
        await browser.until("document.querySelector('.tags')?.innerText.includes('v1')")
        assert await browser.run("document.querySelector('h2').innerText") == long
        for width in (1280, 390):
            await browser.picture("registry-manifests", width)
        own = (f"http://{registry.host}/", "data:", "about:")
        assert [each for each in browser.requested if not each.startswith(own)] == []
