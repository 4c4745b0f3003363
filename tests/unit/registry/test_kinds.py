"""The table of kinds: every row is complete, and registries are recognised by what they are known to say."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest
from jsonschema import Draft202012Validator

from crossdock.errors import InvalidOption
from crossdock.registry.kinds import UNKNOWN, Kinds, schema, table
from support.kindspage import PAGE, with_table

NAMES = {
    *("ecr", "ecr-public", "ghcr", "gar", "gcr", "quay", "gitlab", "artifactory", "nexus", "harbor"),
    *("docker-hub", "acr", "zot", "distribution", "crossdock", "unknown"),
}
VERSION = ("docker-distribution-api-version", "registry/2.0")


def bearer(realm: str, service: str) -> tuple[str, str]:
    return ("www-authenticate", f'Bearer realm="{realm}",service="{service}",scope="repository:a:pull"')


def test_the_table_fits_its_schema() -> None:
    document = json.loads((files("crossdock.registry") / "kinds.json").read_bytes())
    Draft202012Validator.check_schema(schema())
    Draft202012Validator(schema()).validate(document)
    assert set(document["kinds"]) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_row_makes_a_kind(name: str) -> None:
    kind = Kinds().named(name)
    assert (kind.name, bool(kind.title)) == (name, True)
    row = table()[name]
    assert not row.values or bool({"hosts", "answers"} & row.values.keys())


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("1.dkr.ecr.eu-west-1.amazonaws.com", "ecr"),
        ("public.ecr.aws", "ecr-public"),
        ("ghcr.io", "ghcr"),
        ("europe-docker.pkg.dev", "gar"),
        ("eu.gcr.io", "gcr"),
        ("quay.io", "quay"),
        ("registry.gitlab.com", "gitlab"),
        ("corp.jfrog.io", "artifactory"),
        ("registry-1.docker.io", "docker-hub"),
        ("Name.azurecr.io:443", "acr"),
        ("[::1]:5000", ""),
        ("registry.example:5000", ""),
    ],
)
def test_a_host_tells_the_kind(host: str, name: str) -> None:
    assert Kinds().of_host(host) == name


@pytest.mark.parametrize(
    ("name", "headers", "body"),
    [
        ("ecr", [("www-authenticate", 'Basic realm="https://1.example/",service="ecr.amazonaws.com"')], None),
        ("ghcr", [bearer("https://ghcr.io/token", "ghcr.io")], None),
        ("gar", [bearer("https://eu-docker.pkg.dev/v2/token", "eu-docker.pkg.dev")], None),
        ("quay", [bearer("https://quay.corp.example/v2/auth", "quay.corp.example")], None),
        ("gitlab", [bearer("https://git.example/jwt/auth", "container_registry")], None),
        ("gitlab", [("gitlab-container-registry-version", "4.9.0")], None),
        ("artifactory", [("x-jfrog-version", "Artifactory/7.98.7 79800700")], None),
        ("nexus", [("server", "Nexus/3.75.1-01 (COMMUNITY)")], None),
        ("harbor", [bearer("https://h.example/service/token", "harbor-registry")], None),
        ("docker-hub", [bearer("https://auth.docker.io/token", "registry.docker.io")], None),
        ("acr", [bearer("https://x.azurecr.io/oauth2/token", "x.azurecr.io")], None),
        ("crossdock", [("server", "crossdock/0.1.0"), bearer("http://h/oauth2/token", "h")], None),
        ("distribution", [VERSION, ("content-type", "application/json; charset=utf-8")], b"{}"),
        ("zot", [VERSION, ("content-type", "application/json")], b""),
        ("", [VERSION, ("content-type", "application/json")], None),
        ("", [VERSION], b""),
        ("", [bearer("https://h.example/token", "h.example")], b"{}"),
    ],
)
def test_what_a_registry_answers_tells_the_kind(
    name: str, headers: list[tuple[str, str]], body: bytes | None
) -> None:
    assert Kinds().recognised(headers, body) == name


def test_kinds_of_an_inventory_go_before_those_of_the_table() -> None:
    kinds = Kinds(
        {
            "corp": {"like": "harbor", "hosts": ["*.corp.example"], "answers": [{"server": "corp/*"}]},
            "acr": {"upload.max_put": "40MB", "limits.blob": "1GiB"},
        }
    )
    corp, acr = kinds.named("corp"), kinds.named("acr")
    assert (kinds.of_host("r.corp.example"), kinds.recognised([("server", "Corp/2")])) == ("corp", "corp")
    assert (corp.lists, corp.referrers, corp.hosts) == ("harbor", "api", ("*.corp.example",))
    assert (acr.upload.max_put, acr.limits.blob, acr.lists) == (40_000_000, 1 << 30, "azure")
    assert kinds.of_host("x.azurecr.io") == "acr"


@pytest.mark.parametrize(
    "values",
    [
        {"mounts": "sometimes"},
        {"upload.chunks": "no"},
        {"upload.min_chunk": "6MiB", "upload.max_chunk": "5MiB"},
    ],
)
def test_values_that_cannot_be_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(InvalidOption, match=f"kind {UNKNOWN}: "):
        Kinds().named(UNKNOWN, values)


def test_the_page_has_the_table() -> None:
    page = PAGE.read_text()
    assert page == with_table(page), "PYTHONPATH=tests python -m support.kindspage"
