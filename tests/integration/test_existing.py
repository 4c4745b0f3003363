"""Tags of the target that mean something else: moved, left as they are, or a reason to fail."""

from __future__ import annotations

import pytest

import crossdock
from crossdock import CopyError, CopyOptions, ManyResult
from crossdock.errors import TagExists, root_cause
from crossdock.imagebuilder import ImageBuilder
from crossdock.options import Existing
from support.docker_registry import DockerRegistry
from support.images import one_layer_image, push

pytestmark = pytest.mark.real

KEEPING: tuple[Existing, ...] = ("report", "refuse")


@pytest.fixture
def pair(
    source: DockerRegistry, target: DockerRegistry, repository: str, builder: ImageBuilder
) -> tuple[str, str]:
    """Two repositories whose ``same`` is one image and whose ``other`` are two; ``new`` is at the source."""
    images = [one_layer_image(builder, 20_000 + number)[0] for number in range(2)]
    for remote, other in ((source.remote, images[0]), (target.remote, images[1])):
        push(remote, repository, builder, images[0], "same")
        push(remote, repository, builder, other, "other")
    push(source.remote, repository, builder, images[1], "new")
    return f"{source.host}/{repository}", f"{target.host}/{repository}"


def there(target: DockerRegistry, repository: str) -> dict[str, str]:
    remote = target.remote
    return {
        tag: remote.manifest(repository, tag).headers["docker-content-digest"]
        for tag in remote.tags(repository)
    }


@pytest.mark.parametrize("existing", KEEPING)
async def test_a_tag_that_means_something_else_stays(
    existing: Existing, pair: tuple[str, str], source: DockerRegistry, target: DockerRegistry, repository: str
) -> None:
    before = there(target, repository)
    begin = source.mark()
    with pytest.raises(CopyError) as raised:
        await crossdock.copy(f"{pair[0]}:other", f"{pair[1]}:other", options=CopyOptions(existing=existing))
    assert isinstance(root_cause(raised.value), TagExists)
    assert there(target, repository) == before
    assert {each.method for each in source.accesses(begin) if "/manifests/" in each.path} == {"HEAD"}
    options = CopyOptions(existing=existing)
    for tag in ("same", "new"):
        await crossdock.copy(f"{pair[0]}:{tag}", f"{pair[1]}:{tag}", options=options)
    assert there(target, repository).keys() == {"same", "other", "new"}


async def test_a_tag_is_moved_by_default(
    pair: tuple[str, str], source: DockerRegistry, target: DockerRegistry, repository: str
) -> None:
    await crossdock.copy(f"{pair[0]}:other", f"{pair[1]}:other")
    assert there(target, repository)["other"] == there(source, repository)["other"]


@pytest.mark.parametrize(("existing", "failed"), [("report", 0), ("refuse", 1)])
async def test_of_many_the_others_are_copied(
    existing: Existing, failed: int, pair: tuple[str, str], target: DockerRegistry, repository: str
) -> None:
    before = there(target, repository)
    options = CopyOptions(existing=existing)
    pairs = [(f"{pair[0]}:{tag}", f"{pair[1]}:{tag}") for tag in ("same", "other", "new")]
    many: ManyResult = await crossdock.copy_many(pairs, options=options)
    assert [each.status for each in many.copies] == [
        "unchanged",
        "failed" if failed else "reported",
        "copied",
    ]
    assert (many.failure is not None) == bool(failed)
    found = there(target, repository)
    assert (found["other"], set(found)) == (before["other"], {"same", "other", "new"})


@pytest.mark.parametrize(("existing", "failed"), [("report", 0), ("refuse", 1)])
async def test_of_a_mirror_the_others_are_copied(
    existing: Existing, failed: int, pair: tuple[str, str], target: DockerRegistry, repository: str
) -> None:
    before = there(target, repository)
    places = [each.rpartition("/")[0] for each in pair]
    name = repository.rpartition("/")[2]
    options = CopyOptions(existing=existing)
    result = await crossdock.mirror(places[0], places[1], repositories=[name], options=options)
    assert (result.copied, result.unchanged, result.reported, result.failed) == (1, 1, 1 - failed, failed)
    assert there(target, repository)["other"] == before["other"]


async def test_the_index_filtered_by_platforms_is_compared(
    source: DockerRegistry, target: DockerRegistry, repository: str, builder: ImageBuilder
) -> None:
    index = builder.index(
        [builder.image([builder.random_layer(500)], name) for name in ("linux/amd64", "linux/arm64")]
    )
    push(source.remote, repository, builder, index, "v1")
    places = f"{source.host}/{repository}:v1", f"{target.host}/{repository}:v1"
    one = CopyOptions(platforms=("linux/amd64",), existing="refuse")
    await crossdock.copy(*places, options=one)
    await crossdock.copy(*places, options=one)  # the same again is there
    with pytest.raises(CopyError) as raised:
        await crossdock.copy(*places, options=CopyOptions(platforms=("linux/arm64",), existing="refuse"))
    assert isinstance(root_cause(raised.value), TagExists)
