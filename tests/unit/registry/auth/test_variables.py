"""Which registries see the credentials that the environment has for one side."""

from __future__ import annotations

from typing import Any

import pytest

from crossdock.errors import CredentialsError
from crossdock.oci.reference import Reference
from crossdock.options import SIDE_VARIABLES, CopyOptions, Credentials, RegistryOptions
from crossdock.registry.auth.credentials import AZURE_HELPERS, CredentialStore
from crossdock.registry.auth.variables import ForRegistry, side_credentials
from crossdock.runs.places import Places

USER = {"CROSSDOCK_SOURCE_USERNAME": "ann", "CROSSDOCK_SOURCE_PASSWORD": "s3cret"}
TOKEN = {"CROSSDOCK_SOURCE_ACCESS_TOKEN": "s3cret.entra"}
NAMED = {"CROSSDOCK_SOURCE_REGISTRY": "Registry.example:443"}


def held(environ: dict[str, str], registry: str, *, is_sole: bool = True) -> ForRegistry:
    return side_credentials(environ, "source", registry, is_sole=is_sole, azure_helpers=AZURE_HELPERS)


@pytest.mark.parametrize(
    ("environ", "registry", "is_sole", "is_sent"),
    [
        (USER, "registry.example", True, True),
        (USER, "registry.example", False, False),
        (USER | NAMED, "registry.example", False, True),
        (USER | NAMED, "registry.example", True, True),
        (USER | NAMED, "evil.example", True, False),
        (USER | NAMED, "registry.example:8443", True, False),
        (TOKEN, "mine.azurecr.io", True, True),
        (TOKEN, "mine.azurecr.cn:443", True, True),
        (TOKEN, "mine.azurecr.io", False, False),
        (TOKEN, "127.0.0.1:5000", True, True),
        (TOKEN, "localhost:5000", True, True),
        (TOKEN, "[::1]:5000", True, True),
        (TOKEN, "evil.example", True, False),
        (TOKEN, "azurecr.io.evil.example", True, False),
        (TOKEN, "10.0.0.5:5000", True, False),
        (TOKEN | NAMED, "registry.example", True, True),
        (TOKEN | NAMED, "mine.azurecr.io", True, False),
    ],
)
def test_credentials_are_sent_where_they_are_meant(
    environ: dict[str, str], registry: str, is_sole: bool, is_sent: bool
) -> None:
    found = held(environ, registry, is_sole=is_sole)
    assert (found.credentials is not None) == is_sent
    assert bool(found.trouble) != is_sent
    assert "s3cret" not in found.trouble + str(found.remedy)
    if not is_sent:
        assert f"CROSSDOCK_SOURCE_REGISTRY={registry}" in str(found.remedy)


def test_a_password_beside_an_access_token_is_still_sent() -> None:
    found = held(USER | TOKEN, "registry.example")
    assert found.credentials == Credentials("ann", "s3cret")


@pytest.mark.parametrize("helper", AZURE_HELPERS)
def test_a_helper_for_access_tokens_is_run_for_azure_only(helper: str) -> None:
    environ = {"CROSSDOCK_SOURCE_CREDENTIAL_HELPER": helper}
    assert held(environ, "mine.azurecr.io").helper == helper
    assert held(environ, "evil.example").helper == ""
    assert held(environ | NAMED, "registry.example").helper == helper


def test_a_docker_helper_is_run_for_every_registry_since_it_gets_the_host() -> None:
    environ = {"CROSSDOCK_SOURCE_CREDENTIAL_HELPER": "ecr-login"}
    assert held(environ, "one.example", is_sole=False).helper == "ecr-login"
    assert held(environ | NAMED, "one.example", is_sole=False).helper == ""


def test_the_other_sides_variables_are_not_meant() -> None:
    assert (
        held({"CROSSDOCK_TARGET_USERNAME": "ann", "CROSSDOCK_TARGET_PASSWORD": "x"}, "a.example")
        == ForRegistry()
    )


def test_half_a_pair_is_a_mistake() -> None:
    with pytest.raises(CredentialsError, match="CROSSDOCK_SOURCE_PASSWORD is not"):
        held({"CROSSDOCK_SOURCE_USERNAME": "ann"}, "a.example")


def test_all_variables_are_known_to_who_drops_them() -> None:
    assert set(USER | TOKEN | NAMED) < SIDE_VARIABLES
    assert len(SIDE_VARIABLES) == 12


async def found_by(places: Places, registry: str) -> Credentials | None:
    client = places.client(Reference(registry, "app"), "source")
    return await client.auth._store.find("app")


async def test_two_registries_of_a_run_are_several_and_two_spellings_are_one(tmp_path: Any) -> None:
    options = CopyOptions(environ={**USER, "HOME": str(tmp_path)})
    async with Places(options) as places:
        assert await found_by(places, "one.example") == Credentials("ann", "s3cret")
        assert await found_by(places, "ONE.example:443") == Credentials("ann", "s3cret")
    async with Places(options) as places:
        places.prepare(Reference("one.example", "app"), "source")
        places.prepare(Reference("evil.example", "app"), "source")
        places.prepare(Reference("target.example", "app"), "target")
        assert await found_by(places, "one.example") is None
        assert await found_by(places, "evil.example") is None


async def test_options_that_say_so_let_nothing_else_count(tmp_path: Any) -> None:
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text('{"auths": {"a.example": {"auth": "YTpi"}}}')
    environ = {**USER, "HOME": str(tmp_path)}
    store = CredentialStore("a.example", given=None, environ=environ, side="source", own_only=True)
    assert await store.find("app") is None
    given = Credentials("bob", "x")
    store = CredentialStore("a.example", given=given, environ=environ, side="source", own_only=True)
    assert await store.find("app") == given
    assert RegistryOptions(own_only=True).over(RegistryOptions()).own_only
    assert RegistryOptions().over(RegistryOptions(own_only=True)).own_only
