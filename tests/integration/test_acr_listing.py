"""Lists of real registries; skopeo and crane confirm the digests."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from crossdock.acr.metadata import list_manifests, list_repositories, list_tag_names
from crossdock.imagebuilder import ImageBuilder, sample_index
from crossdock.oci.attachedtag import fallback_tag
from crossdock.oci.digest import Digest
from crossdock.oci.reference import Reference
from crossdock.options import CopyOptions
from support.docker_registry import DockerRegistry
from support.embedded import start_embedded
from support.images import push
from support.process import RIVALS, find_distribution
from support.push import Remote
from support.skopeo import raw_digest

pytestmark = pytest.mark.real

OPTIONS = CopyOptions(environ={})


@pytest.fixture(params=["docker-registry", "distribution 3", "crossdock"])
def remote(
    request: pytest.FixtureRequest,
    new_registry: Callable[..., DockerRegistry],
    tmp_path: Path,
    closing: ExitStack,
) -> Remote:
    """Registries without ``/acr/v1``, and ours."""
    if request.param == "crossdock":
        return start_embedded(tmp_path, tmp_path / "root", closing).remote
    return new_registry(program=find_distribution() if "3" in request.param else None).remote


def test_all_that_tags_lead_to_is_listed_and_others_name_the_same_digests(remote: Remote) -> None:
    builder = ImageBuilder(seed=6)
    index = sample_index(builder)
    graph = push(remote, "team/app", builder, index, "v1")
    note = builder.artifact("application/vnd.example.sbom", subject=index)
    push(remote, "team/app", builder, note)
    lists = builder.index([note])
    tag = fallback_tag(Digest(graph.root))  # what a client writes for a registry without the API
    push(remote, "team/app", builder, lists, tag)
    reference = Reference.parse(f"{remote.host}/team/app", default_tag=None)

    entries = {each["digest"]: each for each in asyncio.run(list_manifests(reference, OPTIONS))}
    assert entries.keys() == {*graph.manifests, note.digest, lists.digest}
    assert {tuple(each["tags"]): digest for digest, each in entries.items() if "tags" in each} == {
        ("v1",): graph.root,
        (tag,): lists.digest,
    }
    assert entries[graph.root]["imageSize"] == sum(
        entries[child["digest"]]["imageSize"] for child in entries[graph.root]["references"]
    )
    assert asyncio.run(list_tag_names(reference, OPTIONS)) == sorted(["v1", tag])
    assert asyncio.run(list_repositories(remote.host, OPTIONS)) == ["team/app"]
    assert raw_digest(f"docker://{remote.host}/team/app:v1") == graph.root
    crane = shutil.which("crane", path=str(RIVALS))
    if crane:
        done = subprocess.run(
            [crane, "digest", "--insecure", f"{remote.host}/team/app:v1"], capture_output=True, check=True
        )
        assert done.stdout.decode().strip() == graph.root
