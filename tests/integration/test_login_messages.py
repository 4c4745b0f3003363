"""Messages of ``crossdock login`` and ``logout`` about files and helpers that fail or do nothing."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from crossdock.imagebuilder import ImageBuilder
from support.command import AUTH, DONE, USAGE, Crossdock
from support.embedded import start_embedded
from support.images import one_layer_image

USER, PASSWORD = "ann", 's3cret"pass'
REPOSITORY = "it/messages"
STORED = json.dumps({"ServerURL": "x", "Username": "AWS", "Secret": "of-the-cloud"})
NOTHING = "echo credentials not found in native keychain; exit 1"


@pytest.fixture
def host(tmp_path: Path, closing: ExitStack) -> str:
    """The host of a registry that has an image, for `USER` alone."""
    builder = ImageBuilder(tmp_path / "root" / REPOSITORY, seed=1)
    content, _ = one_layer_image(builder, 1000)
    builder.tag(content, "v1")
    users = {"users": [{"name": USER, "password": PASSWORD}]}
    return start_embedded(tmp_path, tmp_path / "root", closing, users=users).host


def log_in(crossdock: Crossdock, host: str, *words: str | Path, **how: Any) -> Any:
    return crossdock("login", host, "-u", USER, "--password-stdin", *words, stdin=f"{PASSWORD}\n", **how)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def name_helper(crossdock: Crossdock, host: str, **verbs: str) -> dict[str, str]:
    """Name docker-credential-box for the host: a script of each verb. The environment that has it."""
    cases = " ".join(f"{verb}) {script};;" for verb, script in verbs.items())
    program = write(
        crossdock.home / "bin" / "docker-credential-box",
        f'#!/bin/sh\nsaid=$(cat)\ncase "$1" in {cases} esac\n',
    )
    program.chmod(0o755)
    write(crossdock.home / ".docker" / "config.json", json.dumps({"credHelpers": {host: "box"}}))
    return {"PATH": f"{program.parent}:{crossdock.environment['PATH']}"}


@pytest.mark.parametrize("text", ["{broken", "[]", '{"auths": []}', '{"credHelpers": 1}'])
@pytest.mark.parametrize("is_named", [False, True])
def test_a_file_that_is_not_understood_is_to_be_repaired_or_replaced(
    host: str, crossdock: Crossdock, text: str, is_named: bool
) -> None:
    path = write(crossdock.home / ".docker" / "config.json", text)
    words = ("--authfile", path) if is_named else ()
    for done in (log_in(crossdock, host, *words), crossdock("logout", host, *words)):
        assert done.code == AUTH
        assert str(path) in done.error
        assert "; repair it, or give another file with --authfile" in done.error
        assert "crossdock login" not in done.error
        assert "creds-stdin" not in done.error
    assert path.read_text() == text


def test_a_place_that_cannot_be_written_is_to_be_repaired_or_replaced(
    host: str, crossdock: Crossdock
) -> None:
    blocked = write(crossdock.home / "file", "") / "auth.json"
    done = log_in(crossdock, host, "--authfile", blocked)
    assert done.code == AUTH
    assert f"{blocked} cannot be written: " in done.error
    assert "; repair it, or give another file with --authfile" in done.error
    assert "creds-stdin" not in done.error


def test_acr_is_not_sent_to_a_flag_that_it_lacks(host: str, crossdock: Crossdock) -> None:
    write(crossdock.home / ".docker" / "config.json", "{broken")
    done = crossdock("acr", "repository", "list", "-n", host)
    assert done.code != DONE
    assert "repair it, or give another file as REGISTRY_AUTH_FILE" in done.stderr


def test_a_missing_helper_is_named_by_every_command(host: str, crossdock: Crossdock) -> None:
    write(crossdock.home / ".docker" / "config.json", json.dumps({"credsStore": "absent"}))
    commands = (log_in(crossdock, host), crossdock("login", "--get-login", host), crossdock("logout", host))
    for done in commands:
        assert done.code == AUTH
        assert "docker-credential-absent, named by" in done.error
        assert "install it, or remove it from" in done.error
        assert "log in again" not in done.error
    assert commands[1].error.startswith(f"crossdock: not logged in to {host}: ")


def test_a_helper_that_cannot_store_says_why(host: str, crossdock: Crossdock) -> None:
    environment = name_helper(
        crossdock, host, get=NOTHING, store='echo pass not; echo "initialized $said" >&2; exit 4'
    )
    done = log_in(crossdock, host, env=environment)
    assert done.code == AUTH
    assert f"failed to store the login of {host}: exit code 4: pass not initialized " in done.error
    assert "s3cret" not in done.error
    assert " get" not in done.error
    assert "--authfile" in done.error


def test_a_helper_that_cannot_erase_says_why(host: str, crossdock: Crossdock) -> None:
    environment = name_helper(
        crossdock, host, get=f"echo '{STORED}'", erase="echo not implemented: of-the-cloud; exit 1"
    )
    done = crossdock("logout", host, env=environment)
    assert done.code == AUTH
    assert f"failed to erase the login of {host}: exit code 1: not implemented" in done.error
    assert "of-the-cloud" not in done.error
    assert " get" not in done.error


def test_a_login_that_the_helper_does_not_erase_is_still_there(host: str, crossdock: Crossdock) -> None:
    environment = name_helper(crossdock, host, get=f"echo '{STORED}'", erase="true")
    config = crossdock.home / ".docker" / "config.json"
    for words in ((), ("--authfile", config)):
        done = crossdock("logout", host, *words, env=environment)
        assert done.code == DONE
        assert done.stdout == ""
        assert done.error == f"warning: a login for {host} is still in docker-credential-box"


@pytest.mark.parametrize(
    ("get", "why"), [(NOTHING, ""), ("echo junk", "did not answer"), ("exit 7", "exit code 7")]
)
def test_a_helper_that_keeps_nothing_is_an_error(host: str, crossdock: Crossdock, get: str, why: str) -> None:
    done = log_in(crossdock, host, env=name_helper(crossdock, host, get=get, store="true"))
    assert done.code == AUTH
    assert done.stdout == ""
    assert f"docker-credential-box took the login of {host} and does not give it back" in done.error
    assert why in done.error
    assert "another login" not in done.error


def test_a_helper_with_a_login_of_its_own_is_pointed_out(host: str, crossdock: Crossdock) -> None:
    environment = name_helper(crossdock, host, get=f"echo '{STORED}'", store="true")
    done = log_in(crossdock, host, env=environment)
    assert done.code == DONE
    assert "docker-credential-box does not give this login" in done.error
    assert "of its own" in done.error


def test_variables_that_are_found_first_are_named(host: str, crossdock: Crossdock) -> None:
    environment = {"CROSSDOCK_SOURCE_USERNAME": USER, "CROSSDOCK_SOURCE_PASSWORD": "old"}
    done = log_in(crossdock, host, env=environment)
    assert done.code == DONE
    assert f"another login for {host} is found before this one, in CROSSDOCK_SOURCE_USERNAME" in done.error
    done = crossdock("logout", host, env=environment)
    assert f"a login for {host} is still in CROSSDOCK_SOURCE_USERNAME" in done.error


@pytest.mark.parametrize("stdin", ["", "\n"])
def test_a_missing_password_on_stdin_is_reported(crossdock: Crossdock, stdin: str) -> None:
    done = crossdock("login", "h:1", "-u", USER, "--password-stdin", stdin=stdin)
    assert done.code == USAGE
    assert "no password was given on stdin; see crossdock login --help" in done.error


def test_the_only_registry_is_not_called_a_source(host: str, crossdock: Crossdock) -> None:
    done = crossdock("login", host, "-u", USER, "--password-stdin", stdin="wrong\n")
    assert done.error.startswith(f"crossdock: log in to {host}: ")


@pytest.mark.parametrize(
    ("variables", "words", "place"),
    [
        ({"DOCKER_CONFIG": "~/dock"}, (), "dock/config.json"),
        ({"REGISTRY_AUTH_FILE": "~/named.json"}, (), "named.json"),
        ({}, ("--authfile=~/mine.json",), "mine.json"),
    ],
)
def test_a_login_below_an_unexpanded_home(
    host: str,
    crossdock: Crossdock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    words: tuple[str, ...],
    place: str,
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert log_in(crossdock, host, *words, env=variables).code == DONE
    assert host in (crossdock.home / place).read_text()
    crossdock.ok("inspect", f"{host}/{REPOSITORY}:v1", *words, env=variables)
    assert str(crossdock.home / place) in crossdock.ok("logout", host, *words, env=variables).stdout
    assert not list(Path().iterdir())


def test_no_folder_is_named_by_a_tilde(
    host: str, crossdock: Crossdock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    log_in(crossdock, host)
    flags = ("--state=~/state", "--spool=~/spool", "--report=~/report.json")
    crossdock.ok("copy", f"{host}/{REPOSITORY}:v1", "oci:~/layout:v1", *flags)
    listed = f"oci:~/layout:v1 oci:~/listed:v1\n{host}/{REPOSITORY}:v1 oci:~/listed:v2\n"
    crossdock.ok("copy", "--from-file", "-", stdin=listed)
    for name in ("state", "report.json", "layout/index.json", "listed/index.json"):
        assert (crossdock.home / name).exists(), name
    crossdock.ok("inspect", "oci:~/layout:v1")
    assert crossdock.ok("tags", "oci:~/listed").stdout.split() == ["v1", "v2"]
    crossdock.ok("state", "list", "--state=~/state", "--spool=~/spool")
    assert not list(Path().iterdir())
