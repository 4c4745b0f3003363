"""Lists of manifests by a registry's own API, which is detected once, optional, and not retried in vain."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from crossdock.content import ManifestRow
from crossdock.errors import Denied
from crossdock.oci.digest import Digest
from crossdock.registry.listings.bulk import Bulk
from crossdock.registry.repository import RegistryRepository
from unit.registry.listings.served import OTHER, PLAIN, Served, document
from unit.registry.scripted_registry import Answer, Connect

ONE, TWO = Digest.of(b"one"), Digest.of(b"two")
INDEX = "application/vnd.oci.image.index.v1+json"
PUSHED, PULLED = 1_700_000_000.0, 1_700_000_100.0


def error(status: int, code: str) -> Answer:
    return Answer(status, {}, json.dumps({"errors": [{"code": code, "message": "…"}]}).encode())


def azure(*entries: object) -> Answer:
    return document({"registry": "r", "imageName": "x", "manifests": list(entries)})


AZURE_ENTRY = {
    "digest": ONE,
    "imageSize": 7,
    "createdTime": "2023-11-14T22:00:00.0000000Z",
    "lastUpdateTime": "2023-11-14T22:13:20.1234567Z",
    "mediaType": INDEX,
    "tags": ["v1", "latest"],
}
HARBOR_ENTRY = {
    "digest": ONE,
    "manifest_media_type": INDEX,
    "media_type": "application/vnd.oci.image.config.v1+json",
    "size": 7,
    "push_time": "2023-11-14T22:13:20.000Z",
    "pull_time": "0001-01-01T00:00:00.000Z",
    "tags": [{"id": 1, "name": "v1"}, {"id": 2, "name": "latest"}],
}
QUAY_ENTRY = {"name": "v1", "manifest_digest": ONE, "size": 7, "start_ts": 1_700_000_000, "reversion": False}
GOOGLE_ENTRY = {
    "imageSizeBytes": "7",
    "layerId": "",
    "mediaType": INDEX,
    "tag": ["v1", "latest"],
    "timeCreatedMs": "0",
    "timeUploadedMs": "1700000000000",
}


async def rows(repository: RegistryRepository, **wanted: Any) -> list[ManifestRow] | None:
    return await repository.list_manifests(**wanted)


async def test_azures_rows(served: Served, connect: Connect) -> None:
    served.answers["/acr/v1/x/_manifests"] = azure(AZURE_ENTRY, {"digest": TWO})
    assert await rows(connect("source")) == [
        ManifestRow(ONE, ("v1", "latest"), INDEX, 7, 1_700_000_000.123456),
        ManifestRow(TWO),
    ]
    assert served.asked == ["/acr/v1/x/_manifests?n=1000"]


async def test_harbors_rows(served: Served, connect: Connect) -> None:
    """The name below the project is encoded twice; 0001 stands for never."""
    path = "/api/v2.0/projects/team/repositories/a%252Fb/artifacts"
    untagged = {"digest": TWO, "tags": None, "pull_time": "2023-11-14T22:15:00.000Z"}
    served.answers[path] = document([HARBOR_ENTRY, untagged], **{"X-Total-Count": "2"})
    assert await rows(connect("source", "team/a/b")) == [
        ManifestRow(ONE, ("v1", "latest"), INDEX, 7, PUSHED),
        ManifestRow(TWO, pulled=PULLED),
    ]
    assert f"{path}?with_tag=true&with_accessory=true&page_size=100&page=1" in served.asked


async def test_quays_rows(served: Served, connect: Connect) -> None:
    """A manifest with two tags is two entries; the later push counts."""
    other = {**QUAY_ENTRY, "name": "latest", "start_ts": 1_699_999_999}
    path = "/api/v1/repository/team/x/tag/"
    served.answers[path] = document({"tags": [QUAY_ENTRY, other], "page": 1, "has_additional": False})
    assert await rows(connect("source", "team/x")) == [ManifestRow(ONE, ("v1", "latest"), "", 7, PUSHED)]
    assert f"{path}?onlyActiveTags=true&limit=100&page=1" in served.asked


async def test_googles_rows(served: Served, connect: Connect) -> None:
    """gcr.io gives milliseconds as text, Artifact Registry as a number."""
    manifests = {ONE: GOOGLE_ENTRY, TWO: {"tag": [], "timeUploadedMs": 1_700_000_000_000}}
    described = {"child": ["below"], "manifest": manifests, "name": "x", "tags": ["latest", "v1"]}
    served.answers["/v2/x/tags/list"] = document(described)
    assert await rows(connect("source")) == [
        ManifestRow(ONE, ("v1", "latest"), INDEX, 7, PUSHED),
        ManifestRow(TWO, pushed=PUSHED),
    ]


async def test_a_place_that_was_found_is_asked_first_for_the_next(served: Served, connect: Connect) -> None:
    harbor = "/api/v2.0/projects/team/repositories"
    served.answers |= {f"{harbor}/{name}/artifacts": document([HARBOR_ENTRY]) for name in ("a", "b", "c")}
    first = connect("source", "team/a")
    found = await asyncio.gather(
        *(rows(RegistryRepository(first.client, f"{first.client.host}/team/{name}")) for name in "abc")
    )
    assert all(found)
    assert sum("/acr/v1/" in target for target in served.asked) == 1
    assert sum(harbor in target for target in served.asked) == 3


async def test_a_name_outside_of_projects_says_nothing_about_harbor(served: Served, connect: Connect) -> None:
    served.answers["/api/v2.0/projects/team/repositories/x/artifacts"] = document([HARBOR_ENTRY])
    first = connect("source", "alone")
    assert await rows(first) is None
    assert await rows(RegistryRepository(first.client, f"{first.client.host}/team/x"))


@pytest.mark.parametrize(
    ("host", "known", "is_named", "left"),
    [
        ("r.example", None, False, ("azure", "harbor", "quay", "google")),
        ("r.example", "quay", True, ("quay",)),
        ("r.example", "quay", False, ("quay", "azure", "harbor", "google")),
        ("r.example", "none", True, ()),
        ("r.example", "none", False, ("azure", "harbor", "quay", "google")),
        ("mcr.microsoft.com", None, False, ()),
        ("MCR.microsoft.com:443", "azure", False, ()),
    ],
)
def test_the_kind_and_the_host_say_which_apis_are_asked(
    host: str, known: str | None, is_named: bool, left: tuple[str, ...]
) -> None:
    assert Bulk(host, known, is_sure=is_named).left == left


@pytest.mark.parametrize(
    "rest", [OTHER, PLAIN, Answer(405), Answer(200, {}, b"<html>an interface</html>"), Answer(400)]
)
async def test_missing_content_is_not_requested_again(served: Served, connect: Connect, rest: Answer) -> None:
    served.rest = rest
    repository = connect("source", "team/x")
    assert await rows(repository) is None
    asked = list(served.asked)
    assert {target.partition("?")[0] for target in asked} == {
        "/acr/v1/team/x/_manifests",
        "/api/v2.0/projects/team/repositories/x/artifacts",
        "/api/v1/repository/team/x/tag/",
        "/v2/team/x/tags/list",
    }
    assert [await rows(repository) for _ in range(3)] == [None] * 3
    assert served.asked == asked


@pytest.mark.parametrize("status", [401, 403, 500, 503])
async def test_an_unwilling_host_is_given_up_in_the_end(
    served: Served, connect: Connect, status: int
) -> None:
    served.rest = Answer(status)
    repository = connect("source", "team/x")
    for _ in range(5):
        assert await rows(repository) is None
    asked = len(served.asked)
    assert await rows(repository) is None
    assert len(served.asked) == asked


async def test_missing_repositories_do_not_hide_the_api(served: Served, connect: Connect) -> None:
    """The first ones of a target are often not there yet."""
    served.answers["/acr/v1/x/_manifests"] = azure(AZURE_ENTRY)
    served.answers |= {f"/acr/v1/no{at}/_manifests": error(404, "NAME_UNKNOWN") for at in range(9)}
    first = connect("target")
    for at in range(9):
        assert await rows(RegistryRepository(first.client, f"{first.client.host}/no{at}")) is None
    assert await rows(first)


async def test_a_refusal_leaves_the_list_of_tags(served: Served, connect: Connect) -> None:
    """Once known, some refusals in a row end it; a repository that is not there does not."""
    served.answers["/acr/v1/x/_manifests"] = azure(AZURE_ENTRY)
    served.answers["/acr/v1/gone/_manifests"] = error(404, "NAME_UNKNOWN")
    served.answers["/acr/v1/closed/_manifests"] = Answer(403)
    known = connect("source")
    gone, closed = (
        RegistryRepository(known.client, f"{known.client.host}/{name}") for name in ("gone", "closed")
    )
    assert await rows(known)
    for _ in range(9):
        assert await rows(gone) is None
    assert await rows(known)
    for _ in range(9):
        assert await rows(closed) is None
    assert sum("closed" in target for target in served.asked) == 5
    assert await rows(known) is None


async def test_pages(served: Served, connect: Connect) -> None:
    digests = [Digest.of(b"%d" % at) for at in range(250)]

    def harbor(asked: dict[str, str]) -> Answer:
        at = (int(asked["page"]) - 1) * 100
        page = [{"digest": digest, "tags": None} for digest in digests[at : at + 100]]
        return document(page, **{"X-Total-Count": "250"})

    served.answers["/api/v2.0/projects/team/repositories/x/artifacts"] = harbor
    assert await rows(connect("source", "team/x")) == [ManifestRow(digest) for digest in digests]


async def test_a_list_that_changes_meanwhile_is_none(served: Served, connect: Connect) -> None:
    digests = [Digest.of(b"%d" % at) for at in range(150)]
    totals = iter((150, 149))

    def harbor(asked: dict[str, str]) -> Answer:
        at = (int(asked["page"]) - 1) * 100
        page = [{"digest": digest, "tags": None} for digest in digests[at : at + 100]]
        return document(page, **{"X-Total-Count": str(next(totals))})

    served.answers["/api/v2.0/projects/team/repositories/x/artifacts"] = harbor
    assert await rows(connect("source", "team/x")) is None


async def test_a_tag_of_two_manifests_is_none(served: Served, connect: Connect) -> None:
    """It moved between two pages."""
    served.answers["/acr/v1/x/_manifests"] = azure(AZURE_ENTRY, {**AZURE_ENTRY, "digest": TWO})
    assert await rows(connect("source")) is None


async def test_quay_pages_with_few_manifests(served: Served, connect: Connect) -> None:
    """Every tag of the second page is of a manifest of the first one."""

    def quay(asked: dict[str, str]) -> Answer:
        page = int(asked["page"])
        tags = [{**QUAY_ENTRY, "name": f"t{page}-{at}"} for at in range(100)]
        return document({"tags": tags, "page": page, "has_additional": page < 3})

    served.answers["/api/v1/repository/team/x/tag/"] = quay
    found = await rows(connect("source", "team/x"))
    assert found is not None
    assert [len(row.tags) for row in found] == [300]


async def test_quay_shows_nothing_without_a_tag(served: Served, connect: Connect) -> None:
    served.answers["/api/v1/repository/team/x/tag/"] = document(
        {"tags": [QUAY_ENTRY], "has_additional": False}
    )
    repository = connect("source", "team/x")
    assert await rows(repository)
    assert await rows(repository, untagged=True) is None


async def test_odd_entries_are_left_out_and_said(served: Served, connect: Connect) -> None:
    served.answers["/acr/v1/x/_manifests"] = azure(AZURE_ENTRY, None, {"digest": "sha256:short"}, 7)
    said: list[str] = []
    found = await connect("source").list_manifests(said.append)
    assert found is not None
    assert [row.digest for row in found] == [ONE]
    assert said == ["list of manifests of x: 3 invalid entries were left out: null, dict, 7"]


async def test_the_engine_knows_what_is_attached_from_the_list(served: Served, connect: Connect) -> None:
    """`find_attached` requests no list of tags then."""
    signature = f"sha256-{ONE.encoded}.sig"
    served.answers["/acr/v1/x/_manifests"] = azure(AZURE_ENTRY, {"digest": TWO, "tags": [signature]})
    repository = connect("source")
    await rows(repository)
    assert repository.memory.digest_tags["x"][1] == frozenset({signature})


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_failure_is_an_error_where_nothing_else_will_do(
    served: Served, connect: Connect, is_known: bool
) -> None:
    """Otherwise it would look as if the registry had no such list."""
    served.answers["/acr/v1/x/_manifests"] = azure(AZURE_ENTRY)
    served.answers["/acr/v1/closed/_manifests"] = Answer(403)
    repository = connect("source")
    if is_known:
        assert await rows(repository)
    closed = RegistryRepository(repository.client, f"{repository.client.host}/closed")
    with pytest.raises(Denied):
        await rows(closed, needed=True)
    gone = RegistryRepository(repository.client, f"{repository.client.host}/gone")
    assert await rows(gone, needed=True) is None


async def test_harbor_hides_what_refers_to_an_accessory(served: Served, connect: Connect) -> None:
    """So a repository with accessories is not listed whole, for who has to know all."""
    accessory = {"digest": TWO, "creation_time": "2023-11-14T22:13:20Z", "type": "signature.cosign"}
    harbor = "/api/v2.0/projects/team/repositories"
    served.answers[f"{harbor}/x/artifacts"] = document([{**HARBOR_ENTRY, "accessories": [accessory]}])
    served.answers[f"{harbor}/y/artifacts"] = document([HARBOR_ENTRY])
    signed, plain = connect("source", "team/x"), connect("source", "team/y")
    row = ManifestRow(ONE, ("v1", "latest"), INDEX, 7, PUSHED)
    assert await rows(plain, untagged=True) == [row]
    for _ in range(2):  # before and after it is known which API there is
        assert await rows(signed, untagged=True) is None
        assert await rows(signed) == [row, ManifestRow(TWO, pushed=PUSHED)]
        assert await rows(signed, untagged=True, needed=True) == [row, ManifestRow(TWO, pushed=PUSHED)]


async def test_a_page_that_is_refused_is_asked_for_once(served: Served, connect: Connect) -> None:
    """Azure documents no largest page; az requests 100."""

    def page(asked: dict[str, str]) -> Answer:
        return azure(AZURE_ENTRY) if int(asked["n"]) <= 100 else error(400, "PAGINATION_NUMBER_INVALID")

    served.answers["/acr/v1/x/_manifests"] = page
    repository = connect("source")
    assert await rows(repository)
    assert await rows(repository)
    assert [target.partition("?")[2] for target in served.asked] == ["n=1000", "n=100", "n=100"]
