"""Files for CI systems and the Containerfile, as linters see them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.cifiles import ROOT, azure_steps, gitlab_job
from support.pages import DOCS, blocks

PROGRAMS = Path(sys.executable).parent
PAGE = {block.title: block.text for block in blocks(DOCS / "how-to" / "ci.md") if block.title}


def lint(program: str, *words: str | Path) -> None:
    """Run a linter of this environment; fails with what it says."""
    found = [folder / program for folder in (PROGRAMS, *map(Path, sys.path)) if (folder / program).exists()]
    done = subprocess.run(
        [found[0], *words], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def check(schema: str, document: Any, folder: Path) -> None:
    """Check a document against a schema that check-jsonschema has."""
    (folder / "document.json").write_text(json.dumps(document))
    words = ("--builtin-schema", f"vendor.{schema}", "--regex-variant", "python")
    lint("check-jsonschema", *words, folder / "document.json")


def test_the_action(tmp_path: Path) -> None:
    check("github-actions", yaml.safe_load((ROOT / "action.yml").read_text("utf-8")), tmp_path)


def test_the_workflows(tmp_path: Path) -> None:
    (tmp_path / "images.yaml").write_text(PAGE["images.yaml"])
    lint(
        "actionlint", ".github/workflows/release.yaml", "deploy/github/mirror.yaml", tmp_path / "images.yaml"
    )


def test_the_pipelines_of_gitlab(tmp_path: Path) -> None:
    pipeline = yaml.safe_load(PAGE[".gitlab-ci.yml"])
    check("gitlab-ci", pipeline, tmp_path)
    name, job = gitlab_job(pipeline["include"][0]["inputs"])
    check("gitlab-ci", {name: job}, tmp_path)


@pytest.mark.parametrize("connection", ["", "my-service-connection"])
def test_the_pipelines_of_azure(connection: str, tmp_path: Path) -> None:
    pipeline = yaml.safe_load(PAGE["azure-pipelines.yml"])
    check("azure-pipelines", pipeline, tmp_path)
    steps = azure_steps({"args": "tags docker.io/library/alpine", "serviceConnection": connection})
    check("azure-pipelines", {"steps": steps}, tmp_path)


def test_the_containerfile() -> None:
    lint("hadolint", "deploy/Containerfile")
