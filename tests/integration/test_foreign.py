"""What skopeo sync copies, a migration file made of its file copies as well."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crossdock.imagebuilder import ImageBuilder
from support.command import Crossdock
from support.docker_registry import DockerRegistry
from support.images import push
from support.skopeo import skopeo

pytestmark = pytest.mark.real

SYNC = """
{host}:
  tls-verify: false
  images:
    {prefix}/all: []
    {prefix}/deep/some: ["1.0", "2.0"]
  images-by-tag-regex:
    {prefix}/matched: ^1\\.[0-9]+-(a|b)$
"""


def test_a_file_of_skopeo_sync_copies_what_skopeo_copies(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    tags = ("1.0", "2.0", "1.1-a", "1.2-b", "1.2-c", "x1.1-a", "latest")
    for name in ("all", "deep/some", "matched"):
        for tag in tags:
            image = builder.image([builder.random_layer(200)])
            push(source.remote, f"{repository}/{name}", builder, image, tag)
    file = tmp_path / "sync.yml"
    file.write_text(SYNC.format(host=source.host, prefix=repository))
    there = f"{target.host}/{repository}"
    flags = ("--all", "--preserve-digests", "--dest-tls-verify=false")
    skopeo("sync", *flags, "--src", "yaml", "--dest", "docker", file, f"{there}/theirs")
    made = crossdock.ok("plan", "--from", "skopeo", file, "--to", f"{there}/ours")
    (tmp_path / "ours.yaml").write_text(made.stdout)
    crossdock.ok("apply", tmp_path / "ours.yaml", "--progress", "none")

    def found(below: str) -> dict[str, dict[str, str]]:
        return {
            name: {
                tag: target.remote.manifest(f"{repository}/{below}/{name}", tag).headers[
                    "docker-content-digest"
                ]
                for tag in target.remote.tags(f"{repository}/{below}/{name}")
            }
            for name in ("all", "some", "matched")
        }

    assert found("ours") == found("theirs")
    assert {name: len(each) for name, each in found("ours").items()} == {"all": 7, "some": 2, "matched": 2}
    verified = crossdock.ok("verify", tmp_path / "ours.yaml", "--output", "json")
    assert json.loads(verified.stdout)["compared"]["tags"] == 11
