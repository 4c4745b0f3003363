"""Which credentials are found, where, and the messages about unusable places."""

from __future__ import annotations

import base64
import json
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from crossdock.errors import CredentialsError
from crossdock.options import Credentials
from crossdock.registry.auth.credentials import CredentialStore, credential_files, user_environ

HOST = "registry.example:5000"


def login(user: str, password: str = "pass") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def write(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def home(tmp_path: Path, auths: Any = None, **rest: Any) -> dict[str, str]:
    """An environment whose docker config has `auths`."""
    write(tmp_path / ".docker" / "config.json", {"auths": auths or {}, **rest})
    return {"HOME": str(tmp_path)}


async def find(
    environ: dict[str, str], repository: str = "team/app", host: str = HOST, given: Credentials | None = None
) -> Credentials | None:
    return await CredentialStore(host, given=given, environ=environ, side="source").find(repository)


async def user(environ: dict[str, str], repository: str = "team/app", host: str = HOST) -> str | None:
    found = await find(environ, repository, host)
    return found and found.username


async def test_nothing_anywhere_means_anonymous(tmp_path: Path) -> None:
    assert await find({}) is None
    assert await find({"HOME": str(tmp_path)}) is None


async def test_each_place_yields_to_the_one_before_it(tmp_path: Path) -> None:
    def file(name: str) -> Path:
        return write(tmp_path / name, {"auths": {HOST: login(name.replace("/", "-"))}})

    places = [
        ("CROSSDOCK_SOURCE_USERNAME", "env", "env"),
        ("REGISTRY_AUTH_FILE", str(file("named.json")), "named.json"),
        ("DOCKER_CONFIG", str(file("docker/config.json").parent), "docker-config.json"),
    ]
    file("run/containers/auth.json")
    file("conf/containers/auth.json")
    file("home/.docker/config.json")
    environ = {
        "HOME": str(tmp_path / "home"),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        "XDG_CONFIG_HOME": str(tmp_path / "conf"),
        "CROSSDOCK_SOURCE_PASSWORD": "pw",
    } | {name: value for name, value, _ in places}
    for name, _, expected in places:
        assert await user(environ) == expected
        del environ[name]
        environ.pop("CROSSDOCK_SOURCE_PASSWORD", None)
    assert await user(environ) == "run-containers-auth.json"
    del environ["XDG_RUNTIME_DIR"]
    assert await user(environ) == "conf-containers-auth.json"
    del environ["XDG_CONFIG_HOME"]
    assert await user(environ) == "home-.docker-config.json"


async def test_the_callers_own_come_first(tmp_path: Path) -> None:
    given = Credentials(username="flag", password="x")
    assert await find(home(tmp_path, {HOST: login("file")}), given=given) is given


async def test_the_environment_is_read_by_side() -> None:
    environ = {"CROSSDOCK_TARGET_USERNAME": "u", "CROSSDOCK_TARGET_PASSWORD": "p"}
    assert await find(environ) is None
    store = CredentialStore(HOST, given=None, environ=environ, side="target")
    assert await store.find("x") == Credentials(username="u", password="p")


async def test_an_identity_token_may_stand_alone_in_the_environment() -> None:
    assert await find({"CROSSDOCK_SOURCE_IDENTITY_TOKEN": "t"}) == Credentials(identity_token="t")


async def test_half_a_pair_in_the_environment_is_an_error() -> None:
    with pytest.raises(CredentialsError, match="CROSSDOCK_SOURCE_USERNAME is not"):
        await find({"CROSSDOCK_SOURCE_PASSWORD": "s3cret"})


KEYS = [
    ("host", HOST, True),
    ("host in another case", HOST.upper(), True),
    ("https", f"https://{HOST}", True),
    ("docker's old form", f"https://{HOST}/v1/", True),
    ("docker's old form without a scheme", f"{HOST}/v1/", True),
    ("namespace", f"{HOST}/team", True),
    ("repository", f"{HOST}/team/app", True),
    ("another namespace", f"{HOST}/tea", False),
    ("below the repository", f"{HOST}/team/app/x", False),
    ("another port", "registry.example:5001", False),
    ("no port", "registry.example", False),
    ("a longer name", f"my{HOST}", False),
]


@pytest.mark.parametrize(("key", "fits"), [k[1:] for k in KEYS], ids=[k[0] for k in KEYS])
async def test_keys_of_auths(tmp_path: Path, key: str, fits: bool) -> None:
    assert await user(home(tmp_path, {key: login("bob")})) == ("bob" if fits else None)


async def test_the_longest_key_wins(tmp_path: Path) -> None:
    environ = home(
        tmp_path, {HOST: login("host"), f"{HOST}/team/app": login("app"), f"{HOST}/team": login("team")}
    )
    assert [await user(environ, name) for name in ("team/app", "team/other", "x", "")] == [
        "app",
        "team",
        "host",
        "host",
    ]


@pytest.mark.parametrize("host", ["docker.io", "index.docker.io", "registry-1.docker.io"])
@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "docker.io", "docker.io/library"])
async def test_docker_hub_has_several_names(tmp_path: Path, host: str, key: str) -> None:
    assert await user(home(tmp_path, {key: login("hub")}), "library/alpine", host) == "hub"


async def test_an_empty_entry_is_passed_over(tmp_path: Path) -> None:
    assert await find(home(tmp_path, {HOST: {}})) is None


async def test_all_kinds_of_secrets_are_read(tmp_path: Path) -> None:
    entry = login("bob", "p:a:ss") | {"identitytoken": "it", "registrytoken": "rt"}
    assert await find(home(tmp_path, {HOST: entry})) == Credentials("bob", "p:a:ss", "it", "rt")
    entry = {"username": "bob", "password": "pw"}
    assert await find(home(tmp_path, {HOST: entry})) == Credentials("bob", "pw")


async def test_a_file_without_the_host_leads_to_the_next(tmp_path: Path) -> None:
    named = write(tmp_path / "auth.json", {"auths": {"other.example": login("other")}})
    environ = home(tmp_path, {HOST: login("docker")}) | {"REGISTRY_AUTH_FILE": str(named)}
    assert await user(environ) == "docker"


SECRET = "hunter2-hunter2"
DAMAGED = [
    ("a number too long for int", '{"auths": {"x": ' + "1" * 5000 + "}}", "not valid JSON"),
    ("no JSON", '{"auths": {"x": ' + SECRET, "not valid JSON: line 1"),
    ("no object", json.dumps([SECRET]), "not a JSON object"),
    ("auths is no object", {"auths": [SECRET]}, '"auths" is not an object'),
    ("entry is no object", {"auths": {HOST: SECRET}}, "is not an object"),
    ("auth is no base64", {"auths": {HOST: {"auth": SECRET + "!"}}}, "not base64 of user:password"),
    (
        "auth has no colon",
        {"auths": {HOST: {"auth": base64.b64encode(SECRET.encode()).decode()}}},
        "not base64",
    ),
    ("auth is no text", {"auths": {HOST: {"auth": base64.b64encode(b"\xff\xfe:").decode()}}}, "not base64"),
]


@pytest.mark.parametrize(("document", "words"), [d[1:] for d in DAMAGED], ids=[d[0] for d in DAMAGED])
async def test_a_damaged_file_is_named_but_not_quoted(tmp_path: Path, document: Any, words: str) -> None:
    path = write(tmp_path / "auth.json", document)
    with pytest.raises(CredentialsError) as caught:
        await find({"REGISTRY_AUTH_FILE": str(path)})
    assert str(path) in str(caught.value)
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


UNUSABLE = [
    ("a named file that is missing", {"REGISTRY_AUTH_FILE": "{tmp}/none.json"}, "none.json, named by REG"),
    ("a named file that is a folder", {"REGISTRY_AUTH_FILE": "{tmp}"}, "cannot be read: Is a directory"),
    ("docker's file is a folder", {"DOCKER_CONFIG": "{tmp}/folder"}, "config.json cannot be read"),
    ("a variable with a path", {"DOCKER_AUTH_CONFIG": "/x/config.json"}, "DOCKER_AUTH_CONFIG is not valid"),
]


@pytest.mark.parametrize(("named", "words"), [u[1:] for u in UNUSABLE], ids=[u[0] for u in UNUSABLE])
async def test_a_place_that_cannot_be_used_is_passed_over_and_noted(
    tmp_path: Path, named: dict[str, str], words: str
) -> None:
    (tmp_path / "folder" / "config.json").mkdir(parents=True)
    write(tmp_path / "conf" / "containers" / "auth.json", {"auths": {HOST: login("ann")}})
    write(tmp_path / ".docker" / "config.json", {"auths": {HOST: login("ann")}})
    environ = {name: value.format(tmp=tmp_path) for name, value in named.items()}
    environ |= {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": "/x", "XDG_CONFIG_HOME": str(tmp_path / "conf")}
    store = CredentialStore(HOST, given=None, environ=environ, side="source")
    found = await store.find("team/app")
    assert found is not None
    assert found.username == "ann"
    assert len(store.troubles) == 1
    assert words in next(iter(store.troubles))


async def test_docker_auth_config_comes_before_dockers_file(tmp_path: Path) -> None:
    environ = home(tmp_path, {HOST: login("file")})
    environ["DOCKER_AUTH_CONFIG"] = json.dumps({"auths": {HOST: login("variable")}})
    assert await user(environ) == "variable"
    environ["DOCKER_AUTH_CONFIG"] = json.dumps({"auths": {"other.example": login("variable")}})
    assert await user(environ) == "file"
    named = write(tmp_path / "named.json", {"auths": {HOST: login("named")}})
    environ |= {
        "DOCKER_AUTH_CONFIG": json.dumps({"auths": {HOST: login("variable")}}),
        "REGISTRY_AUTH_FILE": str(named),
    }
    assert await user(environ) == "named"


async def test_docker_auth_config_is_not_shown(tmp_path: Path) -> None:
    environ = {"DOCKER_AUTH_CONFIG": json.dumps({"auths": {HOST: {"auth": SECRET + "!"}}})}
    with pytest.raises(CredentialsError, match="DOCKER_AUTH_CONFIG") as caught:
        await find(environ)
    assert SECRET not in str(caught.value) + repr(credential_files(environ))


async def test_an_authfile_is_the_only_one(tmp_path: Path) -> None:
    environ = home(tmp_path, {HOST: login("docker")})
    mine = write(tmp_path / "mine.json", {"auths": {HOST: login("mine")}})
    other = write(tmp_path / "other.json", {"auths": {"other.example": login("mine")}})
    for path, expected in ((mine, "mine"), (other, None)):
        store = CredentialStore(HOST, given=None, environ=environ, side="source", authfile=path)
        found = await store.find("team/app")
        assert (found and found.username) == expected


async def test_the_oldest_file_of_docker_is_read_last(tmp_path: Path) -> None:
    write(tmp_path / ".dockercfg", {HOST: login("old")})
    assert await user({"HOME": str(tmp_path)}) == "old"
    assert await user(home(tmp_path, {HOST: login("new")})) == "new"
    assert await user({"HOME": str(tmp_path), "DOCKER_CONFIG": str(tmp_path / "none")}) is None


EXACT = [
    (HOST, f"https://{HOST}"),
    (HOST, f"http://{HOST}/v2/"),
    (HOST, f"{HOST}/v1/"),
    ("docker.io", "https://index.docker.io/v1/"),
    ("docker.io", "index.docker.io"),
]


@pytest.mark.parametrize(("exact", "other"), EXACT)
@pytest.mark.parametrize("is_first", [True, False])
async def test_the_key_that_is_the_host_comes_before_its_other_spellings(
    tmp_path: Path, exact: str, other: str, is_first: bool
) -> None:
    keys = (exact, other) if is_first else (other, exact)
    auths = {key: login("good" if key == exact else "stale") for key in keys}
    assert await user(home(tmp_path, auths), host=exact) == "good"


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\n ", "\t"])
async def test_auth_may_be_wrapped_as_base64_wraps_it(tmp_path: Path, line_end: str) -> None:
    encoded = base64.b64encode(b"bob:" + b"t" * 900).decode()
    wrapped = line_end.join(encoded[at : at + 76] for at in range(0, len(encoded), 76)) + line_end
    assert await find(home(tmp_path, {HOST: {"auth": wrapped}})) == Credentials("bob", "t" * 900)


def test_without_a_runtime_folder_podmans_file_is_below_run() -> None:
    paths = [str(file.path) for file in credential_files({"HOME": "/h"})]
    assert paths[0] == f"/run/containers/{os.getuid()}/auth.json"
    paths = [str(file.path) for file in credential_files({"HOME": "/h", "XDG_RUNTIME_DIR": "/run/user/7"})]
    assert paths[0] == "/run/user/7/containers/auth.json"
    assert not any(path.startswith("/run/containers") for path in paths)


def test_an_environment_without_a_home_belongs_to_no_user() -> None:
    assert credential_files({}) == ()
    assert credential_files({"PATH": "/bin"}) == ()


def test_a_process_without_home_has_the_one_of_the_password_database() -> None:
    home_there = pwd.getpwuid(os.getuid()).pw_dir
    assert user_environ({"PATH": "/bin"}) == {"PATH": "/bin", "HOME": home_there}
    assert user_environ({"HOME": "/h"}) == {"HOME": "/h"}


async def test_an_empty_file_holds_nothing(tmp_path: Path) -> None:
    assert await find({"REGISTRY_AUTH_FILE": str(write(tmp_path / "auth.json", " "))}) is None


def test_docker_config_replaces_the_home_directory() -> None:
    files = credential_files({"HOME": "/h", "DOCKER_CONFIG": "/d"})
    expected = [
        "/d/config.json",
        f"/run/containers/{os.getuid()}/auth.json",
        "/h/.config/containers/auth.json",
    ]
    assert [str(file.path) for file in files] == expected


def test_nothing_shows_a_secret() -> None:
    text = repr(Credentials("bob", SECRET, SECRET, SECRET))
    assert "bob" in text
    assert SECRET not in text


@pytest.mark.parametrize("own", [{}, {"own_only": True}])
async def test_az_is_used_last_and_not_for_others(tmp_path: Path, own: dict[str, bool]) -> None:
    (tmp_path / "az").write_text(
        f'#!/bin/sh\necho >> {tmp_path}/asked\necho \'{{"accessToken": "s3cret"}}\'\n'
    )
    (tmp_path / "az").chmod(0o755)
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    host, empty = "myregistry.azurecr.io", tmp_path / "empty.json"
    empty.write_text("{}")

    async def found(more: dict[str, str], authfile: Path | None = None) -> Credentials | None:
        store = CredentialStore(
            host, given=None, environ=environ | more, side="source", az_login="last", authfile=authfile, **own
        )
        return await store.find("app")

    held = {"CROSSDOCK_SOURCE_USERNAME": "me", "CROSSDOCK_SOURCE_PASSWORD": "p"}
    for authfile in (None, empty):
        assert await found(held, authfile) == (None if own else Credentials(username="me", password="p"))
    assert not (tmp_path / "asked").exists()
    for authfile in (None, empty):
        assert await found({}, authfile) == (None if own else Credentials(access_token="s3cret"))


async def test_auth_may_lack_its_padding(tmp_path: Path) -> None:
    for password in ("pw", "pw1", "pw12"):
        encoded = base64.b64encode(f"u:{password}".encode()).decode().rstrip("=")
        path = tmp_path / "config.json"
        path.write_text(json.dumps({"auths": {HOST: {"auth": encoded}}}))
        store = CredentialStore(HOST, given=None, environ={"REGISTRY_AUTH_FILE": str(path)}, side="source")
        assert await store.find("app") == Credentials(username="u", password=password)
