"""Where a login is written, with the rest of the file unchanged."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from crossdock.errors import CredentialsError
from crossdock.options import Credentials
from crossdock.registry.auth.credentials import CredentialStore
from crossdock.registry.auth.files import login_entry, put_entry
from crossdock.registry.auth.logins import docker_config, erase_login, login_file, store_login

HOST = "registry.example:5000"
ANN = Credentials(username="ann", password="p:w")


def write(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def read(path: Path) -> Any:
    return json.loads(path.read_text())


async def found(environ: dict[str, str], host: str = HOST) -> Credentials | None:
    return await CredentialStore(host, given=None, environ=environ, side="source").find("team/app")


def home(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}


async def log_in(environ: dict[str, str], host: str = HOST, who: Credentials = ANN) -> str:
    return await store_login(host, who, path=login_file(host, environ), environ=environ)


async def test_stored_entries_are_found(tmp_path: Path) -> None:
    place = await log_in(home(tmp_path))
    path = tmp_path / ".docker" / "config.json"
    assert place == str(path)
    assert await found(home(tmp_path)) == ANN
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == ["config.json"]


@pytest.mark.parametrize("who", [ANN, Credentials("", "", "refresh"), Credentials("u", "", "refresh")])
async def test_all_kinds_of_logins_are_stored(tmp_path: Path, who: Credentials) -> None:
    await log_in(home(tmp_path), who=who)
    assert await found(home(tmp_path)) == who


async def test_other_members_and_logins_stay(tmp_path: Path) -> None:
    path = write(
        tmp_path / ".docker" / "config.json",
        {
            "auths": {"other.example": {"auth": "eDp5"}, f"{HOST}/team": {"auth": "eDp5", "email": "e"}},
            "HttpHeaders": {"X": ["ü"]},
            "psFormat": "{{.ID}}",
            "unknown": [1, 2.5, None, 12345678901234567890],
        },
    )
    path.chmod(0o644)
    before = read(path)
    await log_in(home(tmp_path))
    after = read(path)
    assert after["auths"].pop(HOST) == login_entry(ANN)
    assert after == before
    assert list(after) == list(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert await erase_login(HOST, environ=home(tmp_path)) == (str(path),)
    assert read(path) == before


async def test_older_spellings_of_the_host_go(tmp_path: Path) -> None:
    keys = (f"https://{HOST}/v1/", f"http://{HOST}", HOST.upper())
    path = write(tmp_path / ".docker" / "config.json", {"auths": {key: {"auth": "eDp5"} for key in keys}})
    await log_in(home(tmp_path))
    assert list(read(path)["auths"]) == [HOST]


async def test_docker_hub_has_dockers_key(tmp_path: Path) -> None:
    path = write(tmp_path / ".docker" / "config.json", {"auths": {"docker.io": {"auth": "eDp5"}}})
    await log_in(home(tmp_path), "docker.io")
    assert list(read(path)["auths"]) == ["https://index.docker.io/v1/"]
    assert await found(home(tmp_path), "registry-1.docker.io") == ANN


async def test_the_file_is_chosen_so_that_the_login_is_found(tmp_path: Path) -> None:
    environ = home(tmp_path)
    docker = tmp_path / ".docker" / "config.json"
    podman = tmp_path / "run" / "containers" / "auth.json"
    assert login_file(HOST, environ) == docker
    write(podman, {})
    assert login_file(HOST, environ) == podman
    write(docker, {})
    assert login_file(HOST, environ) == docker
    write(podman, {"auths": {HOST: {"auth": "eDp5"}}})
    assert login_file(HOST, environ) == podman
    environ["DOCKER_CONFIG"] = str(tmp_path / "d")
    assert login_file("else.example", environ) == podman  # docker's own is not there
    environ["REGISTRY_AUTH_FILE"] = str(tmp_path / "named.json")
    assert login_file(HOST, environ) == tmp_path / "named.json"
    assert login_file(HOST, environ, tmp_path / "mine.json") == tmp_path / "mine.json"


def test_without_a_home_there_is_no_place() -> None:
    with pytest.raises(CredentialsError, match="HOME"):
        docker_config({})


async def test_a_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    real = write(tmp_path / "dotfiles" / "docker.json", {"psFormat": "x"})
    link = tmp_path / ".docker" / "config.json"
    link.parent.mkdir()
    link.symlink_to(real)
    await log_in(home(tmp_path))
    assert link.is_symlink()
    assert read(real)["psFormat"] == "x"
    assert await found(home(tmp_path)) == ANN


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": []}', '{"auths": {}, "n": 1e999}'])
async def test_a_file_that_is_not_understood_is_left_alone(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / ".docker" / "config.json", text)
    with pytest.raises(CredentialsError, match="credential file"):
        await log_in(home(tmp_path))
    assert path.read_text() == text
    assert os.listdir(path.parent) == ["config.json"]


async def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    write(tmp_path / ".docker", "a file where the folder should be")
    with pytest.raises(CredentialsError, match="cannot be written"):
        await log_in(home(tmp_path))


def test_logins_at_once_lose_none(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    hosts = [f"registry{number}.example" for number in range(20)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda host: put_entry(path, host, login_entry(ANN)), hosts))
    assert sorted(read(path)["auths"]) == sorted(hosts)


def helper(tmp_path: Path, *names: str) -> dict[str, str]:
    """An environment with credential helpers that keep one secret each in ``NAME.kept``."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in names:
        kept = tmp_path / f"{name}.kept"
        program = directory / f"docker-credential-{name}"
        program.write_text(
            f'#!/bin/sh\ncase "$1" in store) cat > {kept};; erase) rm {kept};;\n'
            f"get) cat {kept} 2>/dev/null && exit;echo credentials not found in native keychain; exit 1;esac"
        )
        program.chmod(0o755)
    return home(tmp_path) | {"PATH": f"{directory}:{os.defpath}"}


async def test_a_helper_keeps_the_secret_where_the_file_names_one(tmp_path: Path) -> None:
    environ = helper(tmp_path, "general", "own")
    path = write(
        tmp_path / ".docker" / "config.json", {"credsStore": "general", "credHelpers": {HOST: "own"}}
    )
    assert await log_in(environ) == "docker-credential-own"
    assert not (tmp_path / "general.kept").exists()
    assert read(path)["auths"] == {HOST: {}}
    assert ANN.password not in path.read_text()
    assert await found(environ) == ANN
    assert await erase_login(HOST, environ=environ) == ("docker-credential-own",)
    assert await found(environ) is None
    assert read(path)["auths"] == {}
    assert await log_in(environ, "other.example") == "docker-credential-general"


async def test_a_missing_helper_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    path = write(tmp_path / ".docker" / "config.json", {"credsStore": "desktop"})
    with pytest.raises(CredentialsError, match="docker-credential-desktop") as caught:
        await log_in(home(tmp_path) | {"PATH": str(tmp_path)})
    assert str(path) in str(caught.value.advice)
    assert read(path) == {"credsStore": "desktop"}


async def test_a_logout_is_everywhere_where_the_login_would_be_found(tmp_path: Path) -> None:
    entry = {"auths": {HOST: login_entry(ANN)}}
    podman = write(tmp_path / "run" / "containers" / "auth.json", entry)
    docker = write(tmp_path / ".docker" / "config.json", entry)
    assert await erase_login(HOST, environ=home(tmp_path)) == (str(podman), str(docker))
    assert await found(home(tmp_path)) is None
    assert await erase_login(HOST, environ=home(tmp_path)) == ()


async def test_a_logout_of_one_file_leaves_the_others(tmp_path: Path) -> None:
    entry = {"auths": {HOST: login_entry(ANN)}}
    mine, docker = write(tmp_path / "mine.json", entry), write(tmp_path / ".docker" / "config.json", entry)
    assert await erase_login(HOST, environ=home(tmp_path), authfile=mine) == (str(mine),)
    assert await erase_login(HOST, environ=home(tmp_path), authfile=tmp_path / "none.json") == ()
    assert read(docker) == entry


async def test_stored_at_once_with_a_copy_reading(tmp_path: Path) -> None:
    environ = home(tmp_path)
    await log_in(environ)
    logins = (
        store_login(f"r{n}.example", ANN, path=docker_config(environ), environ=environ) for n in range(10)
    )
    reads = (found(environ) for _ in range(10))
    results = await asyncio.gather(*logins, *reads)
    assert results[10:] == [ANN] * 10
