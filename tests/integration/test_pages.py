"""The pages of docs/ for jobs: every command works in an empty folder, in order, as it is printed."""

from __future__ import annotations

import re
import runpy
import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from aiohttp.test_utils import TestClient, TestServer

from crossdock.cli.parser import parse
from support.pages import DOCS, World, blocks, start_world

PAGES = [DOCS / "start.md", *sorted(path for path in (DOCS / "how-to").glob("*.md") if path.stem != "index")]
RUN = [path for path in PAGES if any(block.language == "sh" for block in blocks(path))]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        yield start_world(tmp_path_factory.mktemp("world"), stack)


@pytest.mark.parametrize("page", RUN, ids=lambda path: path.stem)
def test_the_commands_of_a_page_work_in_an_empty_folder(page: Path, world: World, tmp_path: Path) -> None:
    for text, done in world.follow(page, tmp_path):
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        if page.stem != "replace-scripts":  # whose files hold what cannot be translated
            assert "warning:" not in done.stderr, f"{text}\n{done.stderr}"


async def test_the_web_application_copies(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [block] = [each for each in blocks(DOCS / "how-to" / "embed-web-app.md") if each.title == "app.py"]
    (tmp_path / "app.py").write_text(block.text)
    app = runpy.run_path(str(tmp_path / "app.py"))["application"]()
    async with TestClient(TestServer(app)) as client:
        names = {
            "source": f"{world.hosts['docker.io']}/library/alpine:3",
            "target": world.hosts["new.example"],
        }
        names["target"] += "/web/alpine:3"
        response = await client.post("/copies", json=names)
        assert (response.status, (await response.json())["digest"][:7]) == (200, "sha256:")
        response = await client.post("/copies", json={**names, "source": f"{names['source']}-not-there"})
        assert (response.status, (await response.json())["side"]) == (502, "source")


def test_pages_whose_commands_are_not_run_are_few() -> None:
    assert {path.stem for path in PAGES} - {path.stem for path in RUN} == {"embed-web-app"}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_yaml_of_a_page_is_yaml_and_commands_that_are_shown_parse(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks(page):
        if block.language == "yaml":
            assert yaml.safe_load(block.text)
        if block.language in ("yaml", "console"):
            for line in re.findall(r"(?<![\w./-])crossdock (?!\.|&&|login)[a-z].*", block.text):
                words = shlex.split(line.partition("  #")[0])
                if words[1] in ("copy", "mirror", "plan", "apply", "verify", "registry", "tags"):
                    assert parse(words[1:]).command == words[1]
