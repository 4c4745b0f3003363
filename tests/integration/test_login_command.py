"""``crossdock login`` and ``logout``: checked at the registry, kept where docker and podman find it."""

from __future__ import annotations

import base64
import json
import os
import pty
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from crossdock.imagebuilder import ImageBuilder
from support.command import AUTH, DONE, SOURCE, USAGE, Crossdock
from support.docker_registry import DockerRegistry, htpasswd_file
from support.embedded import Embedded, start_embedded
from support.images import one_layer_image, push

USER, PASSWORD = "ann", "s3cret: pä$$"
ENCODED = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
REPOSITORY = "it/login"


@pytest.fixture
def basic(new_registry: Callable[..., DockerRegistry], builder: ImageBuilder, tmp_path: Path) -> str:
    """The host of a docker-registry that has an image, for `USER` alone, by Basic."""
    path = htpasswd_file(tmp_path / "htpasswd", USER, PASSWORD)
    auth = {"htpasswd": {"realm": "here", "path": str(path)}}
    registry = new_registry("private", auth=auth, basic=f"{USER}:{PASSWORD}")
    content, _ = one_layer_image(builder, 1000)
    push(registry.remote, REPOSITORY, builder, content, "v1")
    return registry.host


def start_bearer(tmp_path: Path, closing: ExitStack, *, tls: bool = False) -> Embedded:
    """A registry with tokens that has an image."""
    root = tmp_path / "root"
    builder = ImageBuilder(root / REPOSITORY, seed=1)
    content, _ = one_layer_image(builder, 1000)
    builder.tag(content, "v1")
    users = {"users": [{"name": USER, "password": PASSWORD}]}
    return start_embedded(tmp_path, root, closing, tls=tls, users=users)


@pytest.fixture
def bearer(tmp_path: Path, closing: ExitStack) -> str:
    """The host of such a registry, in plain HTTP."""
    return start_bearer(tmp_path, closing).host


@pytest.fixture(params=["basic", "bearer"])
def host(request: pytest.FixtureRequest) -> str:
    """The host of a registry that wants a login, of each kind."""
    found: str = request.getfixturevalue(request.param)
    return found


def log_in(crossdock: Crossdock, host: str, *words: str | Path, **how: Any) -> Any:
    return crossdock("login", host, "-u", USER, "--password-stdin", *words, stdin=f"{PASSWORD}\n", **how)


def config(crossdock: Crossdock) -> Path:
    return crossdock.home / ".docker" / "config.json"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_a_login_is_kept_used_named_and_removed(host: str, crossdock: Crossdock) -> None:
    reference = f"{host}/{REPOSITORY}:v1"
    refused = crossdock("inspect", reference)
    assert refused.code == AUTH
    assert f"crossdock login {host}" in refused.error
    done = log_in(crossdock, host)
    assert done.code == DONE, done
    assert f"Login succeeded: {USER} at {host}" in done.stdout
    assert str(config(crossdock)) in done.stdout
    assert done.stderr == ""
    assert read(config(crossdock)) == {"auths": {host: {"auth": ENCODED}}}
    assert stat.S_IMODE(config(crossdock).stat().st_mode) == 0o600
    crossdock.ok("inspect", reference)
    assert crossdock.ok("login", "--get-login", host).stdout.strip() == USER
    assert f"Removed the login of {host}" in crossdock.ok("logout", host).stdout
    assert crossdock("inspect", reference).code == AUTH
    assert crossdock("login", "--get-login", host).code == AUTH
    assert f"Not logged in to {host}" in crossdock.ok("logout", host).stdout


def test_a_wrong_password_is_not_kept(host: str, crossdock: Crossdock) -> None:
    done = crossdock("login", host, "-u", USER, "--password-stdin", stdin="wr0ng-s3cret\n")
    assert done.code == AUTH
    assert f"user {USER!r}" in done.error
    assert "no credentials" not in done.error
    assert "wr0ng" not in done.error
    assert not config(crossdock).exists()


def test_a_wrong_password_leaves_the_good_login(host: str, crossdock: Crossdock) -> None:
    log_in(crossdock, host)
    before = config(crossdock).read_text()
    assert crossdock("login", host, "-u", USER, "--password-stdin", stdin="wrong\n").code == AUTH
    assert config(crossdock).read_text() == before


@pytest.mark.parametrize("form", ["http://{}", "https://{}/v1/", "docker://{}", "{}/"])
def test_the_host_may_be_written_as_docker_writes_it(bearer: str, crossdock: Crossdock, form: str) -> None:
    assert log_in(crossdock, form.format(bearer)).code == DONE
    assert list(read(config(crossdock))["auths"]) == [bearer]


@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
def test_the_password_is_the_line_without_its_end(bearer: str, crossdock: Crossdock, ending: str) -> None:
    done = crossdock("login", bearer, "-u", USER, "--password-stdin", stdin=PASSWORD + ending)
    assert done.code == DONE, done


def test_a_file_may_be_named(bearer: str, crossdock: Crossdock, tmp_path: Path) -> None:
    mine, named = tmp_path / "new" / "mine.json", tmp_path / "named.json"
    assert str(mine) in log_in(crossdock, bearer, "--authfile", mine).stdout
    environment = {"REGISTRY_AUTH_FILE": str(named)}
    assert str(named) in log_in(crossdock, bearer, env=environment).stdout
    assert read(mine) == read(named) == {"auths": {bearer: {"auth": ENCODED}}}
    assert not config(crossdock).exists()
    reference = f"{bearer}/{REPOSITORY}:v1"
    crossdock.ok("inspect", reference, "--authfile", mine)
    crossdock.ok("inspect", reference, env=environment)
    assert crossdock.ok("login", "--get-login", bearer, "--authfile", mine).stdout.strip() == USER
    crossdock.ok("logout", bearer, "--authfile", mine)
    assert read(mine) == {"auths": {}}
    crossdock.ok("inspect", reference, env=environment)
    crossdock.ok("logout", bearer, env=environment)
    assert read(named) == {"auths": {}}


def test_other_logins_and_settings_stay(bearer: str, crossdock: Crossdock) -> None:
    other = {"auths": {"other.example": {"auth": ENCODED}}, "psFormat": "x", "proxies": {"default": {}}}
    config(crossdock).parent.mkdir()
    config(crossdock).write_text(json.dumps(other))
    log_in(crossdock, bearer)
    crossdock.ok("logout", bearer)
    assert read(config(crossdock)) == other


def test_podmans_file_is_used_where_only_that_exists(
    bearer: str, crossdock: Crossdock, tmp_path: Path
) -> None:
    auth = tmp_path / "run" / "containers" / "auth.json"
    auth.parent.mkdir(parents=True)
    auth.write_text("{}")
    environment = {"XDG_RUNTIME_DIR": str(tmp_path / "run")}
    assert str(auth) in log_in(crossdock, bearer, env=environment).stdout
    crossdock.ok("inspect", f"{bearer}/{REPOSITORY}:v1", env=environment)


def test_a_helper_keeps_the_password(bearer: str, crossdock: Crossdock, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    program = tmp_path / "docker-credential-box"
    program.write_text(
        f'#!/bin/sh\ncase "$1" in store) cat > {kept};; erase) cat >/dev/null; rm {kept};;\n'
        f"get) cat {kept} 2>/dev/null && exit;echo credentials not found in native keychain; exit 1;esac"
    )
    program.chmod(0o755)
    config(crossdock).parent.mkdir()
    config(crossdock).write_text(json.dumps({"credsStore": "box"}))
    environment = {"PATH": f"{tmp_path}:{crossdock.environment['PATH']}"}
    assert "docker-credential-box" in log_in(crossdock, bearer, env=environment).stdout
    assert read(kept) == {"ServerURL": bearer, "Username": USER, "Secret": PASSWORD}
    assert read(config(crossdock)) == {"auths": {bearer: {}}, "credsStore": "box"}
    crossdock.ok("inspect", f"{bearer}/{REPOSITORY}:v1", env=environment)
    assert "docker-credential-box" in crossdock.ok("logout", bearer, env=environment).stdout
    assert not kept.exists()
    assert read(config(crossdock)) == {"auths": {}, "credsStore": "box"}


def test_a_helper_that_is_missing_is_an_error(bearer: str, crossdock: Crossdock) -> None:
    config(crossdock).parent.mkdir()
    config(crossdock).write_text(json.dumps({"credsStore": "desktop"}))
    done = log_in(crossdock, bearer)
    assert done.code == AUTH
    assert "docker-credential-desktop" in done.error
    assert read(config(crossdock)) == {"credsStore": "desktop"}


def test_over_tls_with_a_private_ca(crossdock: Crossdock, tmp_path: Path, closing: ExitStack) -> None:
    registry = start_bearer(tmp_path, closing, tls=True)
    done = log_in(crossdock, registry.host)
    assert done.code == SOURCE
    assert "--src-ca" in done.error
    assert not config(crossdock).exists()
    assert log_in(crossdock, registry.host, "--src-ca", str(registry.ca_file)).code == DONE
    assert log_in(crossdock, registry.host, "--ca", str(registry.ca_file)).code == DONE


def test_a_registry_without_logins_is_reported(source: DockerRegistry, crossdock: Crossdock) -> None:
    done = log_in(crossdock, source.host)
    assert done.code == DONE
    assert "does not ask for a login" in done.error
    assert USER in crossdock.ok("login", "--get-login", source.host).stdout


def test_a_login_that_is_found_before_this_one_is_pointed_out(bearer: str, crossdock: Crossdock) -> None:
    other = base64.b64encode(b"bob:x").decode()
    environment = {"DOCKER_AUTH_CONFIG": json.dumps({"auths": {bearer: {"auth": other}}})}
    done = log_in(crossdock, bearer, env=environment)
    assert done.code == DONE
    assert "another login" in done.error
    assert "in DOCKER_AUTH_CONFIG" in done.error
    done = crossdock("logout", bearer, env=environment)
    assert done.code == DONE
    assert "still in DOCKER_AUTH_CONFIG" in done.error


WRONG = [
    (["login"], ""),
    (["login", "h:1"], "-u USER"),
    (["login", "h:1", "-u", "ann"], "--password-stdin"),
    (["login", "h:1", "-u", "ann", "-p", "s3cret"], "--password-stdin"),
    (["login", "h:1", "-u", "ann", "--password", "s3cret"], "--password-stdin"),
    (["login", "h:1", "-u", "ann", "--password=s3cret"], "--password-stdin"),
    (["login", "h:1", "-u", "ann:s3cret", "--password-stdin"], "colon"),
    (["login", "h:1", "-u", "", "--password-stdin"], "user name"),
    (["login", "h:1", "-u", "ann", "--password-stdin"], "stdin"),
    (["login", "h:1/repository", "-u", "ann", "--password-stdin"], "whole registry"),
    (["logout", "h:1/repository"], "whole registry"),
    (["logout"], ""),
]


@pytest.mark.parametrize(("words", "said"), WRONG, ids=[" ".join(each[0]) for each in WRONG])
def test_wrong_words_are_reported_in_one_line(words: list[str], said: str, crossdock: Crossdock) -> None:
    done = crossdock(*words)
    assert done.code == USAGE, done
    assert said in done.error
    assert "s3cret" not in done.error
    assert not config(crossdock).exists()


def test_a_closed_port_is_the_registrys_failure(crossdock: Crossdock) -> None:
    done = log_in(crossdock, "127.0.0.1:1", "--retries", "0")
    assert done.code == SOURCE
    assert "127.0.0.1:1" in done.error
    assert not config(crossdock).exists()


def test_the_terminal_prompt_does_not_show_the_password(bearer: str, crossdock: Crossdock) -> None:
    pid, terminal = pty.fork()
    if pid == 0:  # a child whose controlling terminal is the pty, as getpass wants
        os.execve(
            sys.executable, [sys.executable, "-m", "crossdock", "login", bearer], dict(crossdock.environment)
        )
    shown = b""

    def until(words: bytes) -> None:
        nonlocal shown
        while words not in shown:
            shown += os.read(terminal, 4096)

    try:
        until(b"User for")
        os.write(terminal, USER.encode() + b"\n")
        until(b"Password of")
        os.write(terminal, PASSWORD.encode() + b"\n")
        until(b"Login succeeded")
    except OSError as error:  # EIO: the child has ended
        pytest.fail(f"{error}: {shown.decode(errors='replace')}")
    finally:
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    assert b"s3cret" not in shown
    assert os.waitstatus_to_exitcode(status) in (0, -1)  # -1: the terminal hung up after the last words
    assert read(config(crossdock))["auths"][bearer] == {"auth": ENCODED}


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_skopeo_takes_our_login_and_we_take_skopeos(basic: str, crossdock: Crossdock, tmp_path: Path) -> None:
    path, reference = tmp_path / "auth.json", f"{basic}/{REPOSITORY}:v1"
    log_in(crossdock, basic, "--authfile", path)

    def skopeo(*words: str, stdin: str = "") -> str:
        done = subprocess.run(
            ["skopeo", *words],
            input=stdin,
            env={**crossdock.environment, "REGISTRY_AUTH_FILE": str(path)},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    assert "schemaVersion" in skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{reference}")
    assert skopeo("login", "--get-login", basic).strip() == USER
    crossdock.ok("logout", basic, "--authfile", path)
    skopeo("login", "--tls-verify=false", "-u", USER, "--password-stdin", basic, stdin=PASSWORD)
    crossdock.ok("inspect", reference, "--authfile", path)
    crossdock.ok("logout", basic, "--authfile", path)
    assert read(path)["auths"] == {}
