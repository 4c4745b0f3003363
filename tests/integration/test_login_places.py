"""Logins in their usual places: which place the command uses, and its messages about unusable ones."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from crossdock import inspect
from crossdock.imagebuilder import ImageBuilder
from support.command import AUTH, DONE, USAGE, Crossdock
from support.docker_registry import DockerRegistry, htpasswd_file
from support.embedded import start_embedded
from support.images import one_layer_image, push

USER, PASSWORD = "ann", "s3cret-pass"
ENCODED = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
REPOSITORY = "it/places"


@pytest.fixture
def private(new_registry: Callable[..., DockerRegistry], builder: ImageBuilder, tmp_path: Path) -> str:
    """The host of a docker-registry that has an image, for `USER` alone."""
    path = htpasswd_file(tmp_path / "htpasswd", USER, PASSWORD)
    registry = new_registry(
        "private",
        auth={"htpasswd": {"realm": "here", "path": str(path)}},
        basic=f"{USER}:{PASSWORD}",
    )
    content, _ = one_layer_image(builder, 1000)
    push(registry.remote, REPOSITORY, builder, content, "v1")
    return registry.host


@pytest.fixture
def public(crossdock: Crossdock, tmp_path: Path, closing: ExitStack) -> str:
    """A reference at a registry that wants a token even from strangers, who may read."""
    users = {
        "users": [{"name": USER, "password": PASSWORD}],
        "anonymous": [f"repository:{REPOSITORY}:pull"],
    }
    root = tmp_path / "root"
    builder = ImageBuilder(root / REPOSITORY, seed=1)
    content, _ = one_layer_image(builder, 1000)
    builder.tag(content, "v1")
    return f"{start_embedded(tmp_path, root, closing, users=users).host}/{REPOSITORY}:v1"


def auths(host: str, encoded: str = ENCODED) -> str:
    return json.dumps({"auths": {host: {"auth": encoded}}})


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_docker_auth_config_is_read(private: str, crossdock: Crossdock) -> None:
    done = crossdock("inspect", f"{private}/{REPOSITORY}:v1", env={"DOCKER_AUTH_CONFIG": auths(private)})
    assert done.code == DONE, done
    assert done.stderr == ""


def test_the_oldest_file_is_read(private: str, crossdock: Crossdock) -> None:
    write(crossdock.home / ".dockercfg", json.dumps({private: {"auth": ENCODED}}))
    crossdock.ok("inspect", f"{private}/{REPOSITORY}:v1")


def test_the_exact_key_is_used_beside_a_stale_one(private: str, crossdock: Crossdock) -> None:
    stale = base64.b64encode(b"ann:stale").decode()
    both = {"auths": {f"https://{private}": {"auth": stale}, private: {"auth": ENCODED}}}
    write(crossdock.home / ".docker" / "config.json", json.dumps(both))
    crossdock.ok("inspect", f"{private}/{REPOSITORY}:v1")


def test_wrapped_base64_is_read(private: str, crossdock: Crossdock) -> None:
    wrapped = "\n".join(ENCODED[at : at + 8] for at in range(0, len(ENCODED), 8))
    write(crossdock.home / ".docker" / "config.json", auths(private, wrapped))
    crossdock.ok("inspect", f"{private}/{REPOSITORY}:v1")


@pytest.mark.skipif(os.getuid() != 0, reason="a namespace with another /run needs root")
def test_without_a_runtime_folder_podmans_file_below_run_is_read(private: str, crossdock: Crossdock) -> None:
    script = f"""
        mount -t tmpfs none /run || exit 77
        mkdir -p /run/containers/$(id -u)
        echo '{auths(private)}' > /run/containers/$(id -u)/auth.json
        exec {sys.executable} -m crossdock inspect {private}/{REPOSITORY}:v1
    """
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], env=crossdock.environment, capture_output=True, text=True
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no mount namespace may be made here")
    assert done.returncode == 0, done.stderr


async def test_without_home_the_home_of_the_password_database_is_used(
    private: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "home" / ".docker" / "config.json", auths(private))
    for name in ("HOME", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: SimpleNamespace(pw_dir=str(tmp_path / "home")))
    assert (await inspect(f"{private}/{REPOSITORY}:v1")).digest


PASSED_OVER = [
    ("a missing file", "REGISTRY_AUTH_FILE", "{home}/none.json", "none.json, named by REGISTRY_AUTH_FILE"),
    ("a folder", "DOCKER_CONFIG", "{home}/folder", "config.json cannot be read"),
    ("a missing helper", "DOCKER_CONFIG", "{home}/desktop", "docker-credential-desktop"),
    ("a failing helper", "DOCKER_CONFIG", "{home}/failing", "docker-credential-failing failed"),
    ("a variable with a path", "DOCKER_AUTH_CONFIG", "{home}/desktop", "DOCKER_AUTH_CONFIG is not valid"),
]


@pytest.fixture(params=PASSED_OVER, ids=[case[0] for case in PASSED_OVER])
def passed_over(request: pytest.FixtureRequest, crossdock: Crossdock) -> tuple[dict[str, str], str]:
    """An environment with an unusable place, and words of the message about it."""
    _, variable, value, words = request.param
    home = crossdock.home
    (home / "folder" / "config.json").mkdir(parents=True)
    for name in ("desktop", "failing"):
        write(home / name / "config.json", json.dumps({"credsStore": name}))
    write(home / "docker-credential-failing", "#!/bin/sh\nexit 1\n").chmod(0o755)
    path = f"{home}:{crossdock.environment['PATH']}"
    return {variable: value.format(home=home), "PATH": path}, words


def test_a_public_image_needs_no_login(
    public: str, passed_over: tuple[dict[str, str], str], crossdock: Crossdock, tmp_path: Path
) -> None:
    environment, words = passed_over
    done = crossdock("inspect", public, env=environment)
    assert done.code == DONE, done
    assert done.error.startswith("warning: ")
    assert words in done.error
    result = crossdock.ok(
        "copy", public, f"oci:{tmp_path}/out:v1", "--output", "json", env=environment
    ).result
    assert [words in warning for warning in result["warnings"]] == [True]


def test_a_private_image_names_the_place(
    private: str, passed_over: tuple[dict[str, str], str], crossdock: Crossdock
) -> None:
    environment, words = passed_over
    done = crossdock("inspect", f"{private}/{REPOSITORY}:v1", env=environment)
    assert done.code == AUTH, done
    assert words in done.error
    assert "no credentials" not in done.error


def test_the_next_place_is_used(
    private: str, passed_over: tuple[dict[str, str], str], crossdock: Crossdock
) -> None:
    environment, _ = passed_over
    write(crossdock.home / ".config" / "containers" / "auth.json", auths(private))
    write(crossdock.home / ".docker" / "config.json", auths(private))
    done = crossdock("inspect", f"{private}/{REPOSITORY}:v1", env=environment)
    assert done.code == DONE, done


def test_an_authfile_is_used_alone(private: str, crossdock: Crossdock, tmp_path: Path) -> None:
    write(crossdock.home / ".docker" / "config.json", auths(private, base64.b64encode(b"a:wrong").decode()))
    mine = write(tmp_path / "mine.json", auths(private))
    reference = f"{private}/{REPOSITORY}:v1"
    crossdock.ok("inspect", reference, "--authfile", mine)
    for flag in ("--authfile", "--src-authfile"):
        crossdock.ok("copy", reference, f"oci:{tmp_path}/out:v1", flag, mine)
    copied = crossdock("copy", reference, f"oci:{tmp_path}/out:v2", "--dest-authfile", mine)
    assert copied.code == AUTH
    empty = write(tmp_path / "empty.json", "{}")
    write(crossdock.home / ".docker" / "config.json", auths(private))
    assert crossdock("inspect", reference, "--authfile", empty).code == AUTH


def test_an_authfile_that_is_missing_is_a_wrong_flag(crossdock: Crossdock) -> None:
    done = crossdock("inspect", "127.0.0.1:1/x", "--authfile", "/none.json")
    assert done.code == USAGE
    assert "/none.json" in done.error
