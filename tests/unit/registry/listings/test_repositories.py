"""The repositories of registries that do not show their catalog."""

from __future__ import annotations

import pytest

from crossdock.errors import Denied, NotFound
from crossdock.oci.digest import Digest
from crossdock.registry.catalog import list_repositories
from crossdock.registry.repository import RegistryRepository
from unit.registry.listings.served import OTHER, PLAIN, Served, document
from unit.registry.scripted_registry import Answer, Connect

ONE = Digest.of(b"one")


async def test_harbors_projects(served: Served, connect: Connect) -> None:
    """The catalog is for administrators alone."""
    names = [f"team/app-{at:03}" for at in range(150)]

    def page(asked: dict[str, str]) -> Answer:
        at = (int(asked["page"]) - 1) * 100
        return document([{"name": name} for name in names[at : at + 100]], **{"X-Total-Count": "150"})

    served.rest = Answer(403)
    served.answers["/api/v2.0/projects/team/repositories"] = page
    served.answers["/api/v2.0/repositories"] = document([{"name": "team/app"}, {"name": "Not/valid"}])
    client = connect("source").client
    said: list[str] = []
    assert await list_repositories(client, prefix="team/app") == names
    assert await list_repositories(client, on_warning=said.append) == ["team/app"]
    assert said == ["list of repositories: 1 invalid entry was left out: 'Not/valid'"]


async def test_quays_namespaces(served: Served, connect: Connect) -> None:
    def page(asked: dict[str, str]) -> Answer:
        assert (asked["namespace"], asked["public"]) == ("team", "true")
        if "next_page" in asked:
            return document({"repositories": [{"namespace": "team", "name": "c"}]})
        found = [{"namespace": "team", "name": name} for name in ("a", "b")]
        return document({"repositories": found, "next_page": "to&ken"})

    served.answers["/api/v1/repository"] = page
    client = connect("source").client
    assert await list_repositories(client, prefix="team") == ["team/a", "team/b", "team/c"]


async def test_googles_names_are_walked_and_their_manifests_kept(served: Served, connect: Connect) -> None:
    """A name may be a repository and have others below it. No list is requested twice."""

    def listed(*children: str, tag: str = "") -> Answer:
        described = {ONE: {"tag": [tag]}} if tag else {}
        return document({"child": list(children), "manifest": described, "tags": [tag] if tag else []})

    served.answers |= {
        "/v2/project/tags/list": listed("a", "b"),
        "/v2/project/a/tags/list": listed(tag="v1"),
        "/v2/project/b/tags/list": listed("c", tag="v2"),
        "/v2/project/b/c/tags/list": listed(tag="v3"),
    }
    client = connect("source").client
    names = await list_repositories(client, prefix="project")
    assert names == ["project/a", "project/b", "project/b/c"]
    asked = list(served.asked)
    rows = [await RegistryRepository(client, f"{client.host}/{name}").list_manifests() for name in names]
    assert [row.tags for found in rows for row in found or ()] == [("v1",), ("v2",), ("v3",)]
    assert served.asked == asked


@pytest.mark.parametrize(("answer", "error"), [(Answer(403), Denied), (OTHER, NotFound), (PLAIN, NotFound)])
async def test_the_refusal_of_the_catalog_is_reported(
    served: Served, connect: Connect, answer: Answer, error: type[Exception]
) -> None:
    served.rest = answer
    with pytest.raises(error, match="/v2/_catalog"):
        await list_repositories(connect("source").client, prefix="team")
