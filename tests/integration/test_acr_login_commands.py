"""``crossdock acr login``, ``show`` and ``list``, and commands that work after only ``az login``."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from crossdock.imagebuilder import ImageBuilder
from crossdock_testing.azure.registry import NULL_USER
from support.command import AUTH, USAGE, Crossdock
from support.docker_registry import DockerRegistry, htpasswd_file
from support.embedded import Embedded, start_embedded

SECRET = "s3cret-of-the-login"
ENTRA = "s3cret-entra"
USERS = {
    "users": [
        {"name": "ann", "password": SECRET},
        {"name": "entra", "access_tokens": [ENTRA]},
        {"name": "nobody", "access_tokens": ["s3cret-useless"], "scopes": ["repository:other:pull"]},
    ],
    "anonymous": ["repository:public/*:pull"],
}


class Az:
    """A fake az that records its calls; ``.environment`` has it on PATH."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.log = folder / "log"
        self.environment = {"PATH": f"{folder}:{os.defpath}"}

    def gives(self, token: str) -> None:
        self._write(f"echo '{json.dumps({'accessToken': token, 'tokenType': 'Bearer'})}'")

    def fails(self) -> None:
        self._write("echo \"Please run 'az login' to setup account.\" >&2; exit 1")

    @property
    def asked(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0

    def _write(self, line: str) -> None:
        (self.folder / "az").write_text(f"#!/bin/sh\necho asked >> {self.log}\n{line}\n")
        (self.folder / "az").chmod(0o755)


@pytest.fixture
def az(tmp_path: Path) -> Az:
    return Az(tmp_path / "bin")


@pytest.fixture
def served(tmp_path: Path, closing: ExitStack) -> Embedded:
    """A registry with users, which holds ``team/app:1`` and ``public/app:1``."""
    for name in ("team/app", "public/app"):
        builder = ImageBuilder(tmp_path / "root" / name)
        builder.tag(builder.image([builder.random_layer(100)]), "1")
    return start_embedded(tmp_path, tmp_path / "root", closing, users=USERS)


@pytest.fixture
def known(served: Embedded, tmp_path: Path) -> dict[str, str]:
    """myregistry.azurecr.io is served there; otherregistry is an entry of the inventory, and not Azure's."""
    path = tmp_path / "inventory.yaml"
    path.write_text(
        f"registries:\n  - {{name: otherregistry, login_server: '{served.host}', resource_group: rg1,"
        f" subscription: s1, location: westeurope}}\n  - {{name: secondregistry, resource_group: rg2}}\n"
        f"hosts: {{myregistry.azurecr.io: '{served.host}'}}\n"
    )
    return {"CROSSDOCK_INVENTORY": str(path)}


def import_words(source: str, registry: str = "myregistry") -> tuple[str, ...]:
    return ("acr", "import", "-n", registry, "--source", f"myregistry.azurecr.io/{source}", "-t", "new:1")


# -- az's own login --------------------------------------------------------------------------------------


def test_after_az_login_nothing_else_is_needed(
    crossdock: Crossdock, served: Embedded, known: dict[str, str], az: Az
) -> None:
    az.gives(ENTRA)
    env = known | az.environment
    crossdock.ok(*import_words("team/app:1"), env=env)
    shown = crossdock.ok(
        *(
            "acr",
            "repository",
            "show",
            "-n",
            "myregistry",
            "--image",
            "new:1",
            "--query",
            "name",
            "-o",
            "tsv",
        ),
        env=env,
    )
    assert shown.stdout == "1\n"
    assert az.asked == 3, "once for each side of the import, and once for the second command"


def test_az_is_used_last_and_only_for_azure(
    crossdock: Crossdock, served: Embedded, known: dict[str, str], az: Az, tmp_path: Path
) -> None:
    az.gives(ENTRA)
    env = known | az.environment
    listing = "acr", "repository", "list", "-n"
    crossdock.ok(*listing, "myregistry", "-u", "ann", "-p", SECRET, env=env)
    crossdock.fail(*listing, "otherregistry", env=env, code=AUTH, naming=[served.host])
    (tmp_path / "docker").mkdir()
    auth = base64.b64encode(f"ann:{SECRET}".encode()).decode()
    config = {"auths": {"myregistry.azurecr.io": {"auth": auth}}}
    (tmp_path / "docker/config.json").write_text(json.dumps(config))
    crossdock.ok(*listing, "myregistry", env=env | {"DOCKER_CONFIG": str(tmp_path / "docker")})
    crossdock.fail("tags", "myregistry.azurecr.io/team/app", env=env, code=AUTH)
    assert az.asked == 0


def test_an_az_that_cannot_help_is_named_in_the_advice(
    crossdock: Crossdock, served: Embedded, known: dict[str, str], az: Az
) -> None:
    env = known | az.environment
    crossdock.fail(*import_words("team/app:1"), env=env, code=AUTH, naming=["az", "not on PATH", "az login"])
    az.fails()
    crossdock.fail(*import_words("team/app:1"), env=env, code=AUTH, naming=["az gave no access", "az login"])
    # What anybody may pull needs no az.
    crossdock.ok("acr", "manifest", "show", "myregistry.azurecr.io/public/app:1", env=env)


def test_public_images_are_pulled_although_azs_login_is_refused(
    crossdock: Crossdock, served: Embedded, known: dict[str, str], az: Az
) -> None:
    env = known | az.environment
    for token in ("s3cret-of-another-tenant", "s3cret-useless"):
        az.gives(token)
        crossdock.ok("acr", "manifest", "show", "myregistry.azurecr.io/public/app:1", env=env)
        line = crossdock.fail(
            *("acr", "manifest", "show", "myregistry.azurecr.io/team/app:1"), env=env, code=AUTH
        )
        assert token not in line


# -- login -----------------------------------------------------------------------------------------------


def docker_auths(crossdock: Crossdock) -> Any:
    return json.loads((crossdock.home / ".docker/config.json").read_text())["auths"]


def test_login_leaves_a_refresh_token_for_docker(
    crossdock: Crossdock, served: Embedded, known: dict[str, str], az: Az
) -> None:
    az.gives(ENTRA)
    (crossdock.home / ".docker").mkdir()
    (crossdock.home / ".docker/config.json").write_text('{"auths": {"a.b": {"auth": "eDp5"}}, "more": 1}')
    done = crossdock.ok("acr", "login", "--name", "myregistry", env=known | az.environment)
    assert (done.stdout, done.stderr) == ("Login Succeeded\n", "")
    auths = docker_auths(crossdock)
    assert auths.keys() == {"a.b", "myregistry.azurecr.io"}
    user, _, token = base64.b64decode(auths["myregistry.azurecr.io"]["auth"]).decode().partition(":")
    assert user == NULL_USER
    assert token.count(".") == 2
    assert ENTRA not in json.dumps(auths)
    asked = az.asked
    crossdock.ok("tags", "myregistry.azurecr.io/team/app", env=known | az.environment)
    crossdock.ok("acr", "repository", "list", "-n", "myregistry", env=known | az.environment)
    assert az.asked == asked, "the login is found"


def test_a_new_login_replaces_an_earlier_one(
    crossdock: Crossdock, served: Embedded, known: dict[str, str], az: Az
) -> None:
    env = known | az.environment
    stale = base64.b64encode(f"{NULL_USER}:s3cret.expired.token".encode()).decode()
    (crossdock.home / ".docker").mkdir()
    config = crossdock.home / ".docker/config.json"
    config.write_text(json.dumps({"auths": {"myregistry.azurecr.io": {"auth": stale}}}))
    listing = "acr", "repository", "list", "-n", "myregistry"
    az.fails()
    crossdock.fail(*listing, env=env, code=AUTH)
    az.gives(ENTRA)
    assert "team/app" in json.loads(crossdock.ok(*listing, env=env).stdout)
    crossdock.ok(*import_words("team/app:1"), env=env)
    first = crossdock.ok("acr", "login", "-n", "myregistry", env=env)
    assert first.stdout == "Login Succeeded\n"
    fresh = docker_auths(crossdock)["myregistry.azurecr.io"]["auth"]
    assert fresh != stale
    asked = az.asked
    crossdock.ok(*listing, env=env)
    assert az.asked == asked
    crossdock.ok("acr", "login", "-n", "myregistry", env=env)
    assert az.asked == asked + 1, "a login is a new one, as with az"


@pytest.mark.parametrize("short", ["--expose-token", "-t", "--expose"])
def test_login_shows_the_token_and_writes_nothing(
    crossdock: Crossdock, served: Embedded, known: dict[str, str], az: Az, short: str
) -> None:
    az.gives(ENTRA)
    env = known | az.environment
    done = crossdock.ok("acr", "login", "-n", "myregistry", short, env=env)
    shown = json.loads(done.stdout)
    assert list(shown) == ["accessToken", "loginServer", "refreshToken", "username"]
    assert (shown["loginServer"], shown["username"]) == ("myregistry.azurecr.io", NULL_USER)
    assert shown["accessToken"] == shown["refreshToken"]
    assert done.stderr.count("WARNING: ") == 2
    assert not (crossdock.home / ".docker").exists()
    words = "acr", "login", "-n", "myregistry", short, "--query", "accessToken", "-o", "tsv"
    token = crossdock.ok(*words, "--only-show-errors", env=env).stdout.strip()
    # As az's scripts go on: the token is the password of the user of zeros.
    crossdock.ok(
        *("acr", "repository", "list", "-n", "myregistry", "-u", NULL_USER, "--password-stdin"),
        env=known,
        stdin=f"{token}\n",
    )


@pytest.mark.real
def test_login_keeps_a_user_and_password_that_the_registry_takes(
    crossdock: Crossdock, new_registry: Callable[..., DockerRegistry], tmp_path: Path
) -> None:
    users = htpasswd_file(tmp_path / "users", "me", SECRET)
    registry = new_registry(auth={"htpasswd": {"realm": "test", "path": str(users)}}, basic=f"me:{SECRET}")
    (tmp_path / "secret").write_text(SECRET)
    path = tmp_path / "inventory.yaml"
    path.write_text(
        f"registries:\n  - name: myregistry\n    login_server: {registry.host}\n"
        f"    credentials: {{username: me, password_file: {tmp_path / 'secret'}}}\n"
    )
    words = "acr", "login", "-n", registry.host
    line = crossdock.fail(*words, "-u", "me", "-p", f"not-{SECRET}", code=AUTH, naming=["log in to"])
    assert SECRET not in line
    assert not (crossdock.home / ".docker").exists()
    env = {"CROSSDOCK_INVENTORY": str(path), "DOCKER_CONFIG": str(tmp_path / "docker")}
    assert crossdock.ok("acr", "login", "-n", "myregistry", env=env).stdout == "Login Succeeded\n"
    entry = json.loads((tmp_path / "docker/config.json").read_text())["auths"][registry.host]
    assert base64.b64decode(entry["auth"]).decode() == f"me:{SECRET}"
    assert (tmp_path / "docker/config.json").stat().st_mode & 0o077 == 0
    crossdock.ok(*words, "-u", "me", "--password-stdin", stdin=f"{SECRET}\n")
    assert registry.host in docker_auths(crossdock)
    expose = "acr", "login", "-n", "myregistry", "--expose-token", "--only-show-errors"
    crossdock.fail(*expose, env=env, code=AUTH, naming=["--expose-token", "az login"])


def test_login_says_what_is_wrong(crossdock: Crossdock, served: Embedded, known: dict[str, str]) -> None:
    login = "acr", "login", "-n"
    crossdock.fail(*login, "otherregistry", env=known, code=AUTH, naming=["log in to"])
    both = *login, "myregistry", "-t", "-u", "ann", "-p", SECRET
    crossdock.fail(*both, env=known, code=USAGE, naming=["cannot be combined"])
    crossdock.fail(*login, "my-registry", env=known, code=USAGE, naming=["alpha numeric"])
    crossdock.fail("acr", "login", env=known, code=USAGE, naming=["--name/-n"])


# -- show and list ---------------------------------------------------------------------------------------


def test_a_registry_of_the_inventory_is_shown(
    crossdock: Crossdock, served: Embedded, known: dict[str, str]
) -> None:
    show = "acr", "show", "-n", "otherregistry"
    shown = json.loads(crossdock.ok(*show, env=known).stdout)
    assert list(shown) == sorted(shown)
    assert (shown["loginServer"], shown["resourceGroup"], shown["name"]) == (
        served.host,
        "rg1",
        "otherregistry",
    )
    identifier = "/subscriptions/s1/resourceGroups/rg1/providers/Microsoft.ContainerRegistry/registries/"
    assert shown["id"] == f"{identifier}otherregistry"
    done = crossdock.ok(*show, "--query", "loginServer", "-o", "tsv", env=known)
    assert done.stdout == f"{served.host}\n"
    assert crossdock.ok(*show, "-o", "none", env=known).stdout == ""
    heading, line, row = crossdock.ok(*show, "-o", "table", env=known).stdout.splitlines()
    assert heading.split("  ")[0] == "NAME"
    assert line.split()[0] == "-" * len("otherregistry")
    assert row.split() == [
        *("otherregistry", "rg1", "westeurope", "Premium", served.host, "2024-01-01T00:00:00Z", "False")
    ]
    # As the script that imports by a registry's ID.
    crossdock.fail(*show, "-g", "rg9", env=known, code=USAGE, naming=["could not be found"])


def test_a_registry_that_the_inventory_lacks_has_its_login_server_and_a_warning(crossdock: Crossdock) -> None:
    done = crossdock.ok("acr", "show", "-n", "otherregistry", "--query", "loginServer", "-o", "tsv")
    assert done.stdout == "otherregistry.azurecr.io\n"
    assert "WARNING: The inventory does not have otherregistry" in done.stderr
    done = crossdock.ok("acr", "show", "-n", "otherregistry", "--query", "id", "--only-show-errors")
    assert (done.stdout, done.stderr) == ("", "")


def test_registries_are_listed(crossdock: Crossdock, known: dict[str, str]) -> None:
    names = "--query", "[].name", "-o", "tsv"
    assert crossdock.ok("acr", "list", *names, env=known).stdout == "otherregistry\nsecondregistry\n"
    assert crossdock.ok("acr", "list", "-g", "RG2", *names, env=known).stdout == "secondregistry\n"
    assert crossdock.ok("acr", "list", "--subscription", "s1", *names, env=known).stdout == "otherregistry\n"
    assert crossdock.ok("acr", "list").stdout == "[]\n"
    assert crossdock.ok("acr", "list", "-g", "none", "--query", "[0].name", env=known).stdout == ""
