"""The pipelines of docs/how-to/ci.md with action.yml and the templates of deploy/: what they run works."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.cifiles import Step, azure_scripts, azure_steps, github_steps, gitlab_job, run_steps
from support.pages import DOCS, PASSWORD, World, blocks, start_world

PAGE = {block.title: block.text for block in blocks(DOCS / "how-to" / "ci.md") if block.title}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        yield start_world(tmp_path_factory.mktemp("world"), stack)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The checkout of a runner, with the list of images."""
    (tmp_path / "images.txt").write_text(PAGE["images.txt"])
    return tmp_path


def copied(folder: Path) -> list[str]:
    """The targets that now have their image, as the report says; the names of the page share one registry."""
    report = json.loads((folder / "report.json").read_text())
    assert report["error"] is None
    return [each["target"] for each in report["copies"] if each["tag"] in ("new", "unchanged")]


def test_github(world: World, folder: Path) -> None:
    steps = yaml.safe_load(PAGE["images.yaml"])["jobs"]["copy"]["steps"]
    [step] = [each for each in steps if each["uses"].startswith("crossdock/crossdock@")]
    contexts = {"github.actor": "bot", "secrets.GITHUB_TOKEN": PASSWORD}
    made = github_steps({**step["with"], "extras": "aws,google"}, contexts)
    assert run_steps(made, world.environment(folder), folder) == ["THE-ACTION[aws,google]"]
    assert copied(folder) == ["ghcr.io/acme/library/alpine:3", "ghcr.io/acme/library/nginx:1.27"]


def test_an_argument_of_the_action_is_no_command(world: World, folder: Path) -> None:
    args = "copy docker.io/library/alpine:3\n  'oci:a $(touch made); b:3' --state none"
    steps = github_steps({"args": args, "requirement": "none"}, {})
    assert run_steps(steps, world.environment(folder), folder) == []
    assert (folder / "a $(touch made); b" / "oci-layout").exists()
    assert not (folder / "made").exists()


def test_gitlab(world: World, folder: Path) -> None:
    pipeline = yaml.safe_load(PAGE[".gitlab-ci.yml"])
    [include] = pipeline["include"]
    assert include["local"] == "crossdock.yml"
    name, job = gitlab_job(include["inputs"])
    assert name == "copy images"
    of_gitlab = {
        "CI_REGISTRY": "registry.example",
        "CI_REGISTRY_IMAGE": "registry.example/acme",
        "CI_REGISTRY_USER": "bot",
        "CI_REGISTRY_PASSWORD": PASSWORD,
    }
    variables = {key: of_gitlab[value.removeprefix("$")] for key, value in pipeline["variables"].items()}
    environment = {**world.environment(folder), **of_gitlab, **variables}
    run_steps([Step("\n".join(job["script"]))], environment, folder)
    assert copied(folder) == [
        "registry.example/acme/library/alpine:3",
        "registry.example/acme/library/nginx:1.27",
    ]
    assert job["artifacts"]["paths"] == ["report.json"]


def azure_template() -> dict[str, Any]:
    """The step of the page that uses the template."""
    steps = yaml.safe_load(PAGE["azure-pipelines.yml"])["steps"]
    [step] = [each for each in steps if each.get("template") == "crossdock.yml"]
    found: dict[str, Any] = step["parameters"]
    return found


def test_azure_pipelines_with_a_service_connection(world: World, folder: Path) -> None:
    steps = azure_scripts(azure_steps(azure_template()))
    assert run_steps(steps, world.environment(folder), folder) == ["crossdock"]
    assert copied(folder)[0] == "myregistry.azurecr.io/library/alpine:3"


def test_azure_pipelines_with_variables(world: World, folder: Path) -> None:
    given = azure_template() | {
        "serviceConnection": "",
        "env": {"CROSSDOCK_TARGET_USERNAME": "bot", "CROSSDOCK_TARGET_PASSWORD": PASSWORD},
        "requirement": "crossdock[azure]",
    }
    steps = azure_scripts(azure_steps(given))
    assert run_steps(steps, world.environment(folder), folder) == ["crossdock[azure]"]
    assert copied(folder)[0] == "myregistry.azurecr.io/library/alpine:3"
