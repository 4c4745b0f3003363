"""Options refuse nonsense when they are made and never show a secret."""

from __future__ import annotations

import os
import pwd
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from crossdock.errors import InvalidOption
from crossdock.options import (
    CopyOptions,
    Credentials,
    MiB,
    NetworkOptions,
    RegistryOptions,
    default_state_folder,
    expand_home,
)


def test_defaults_leave_connections_and_parts_to_what_the_network_shows() -> None:
    options = CopyOptions()
    assert options.network.connections is None
    assert options.chunk_size is None


def test_verify_is_one_of_three() -> None:
    assert CopyOptions().verify == "stream"
    with pytest.raises(InvalidOption, match="stream, target, reread"):
        CopyOptions(verify="never")  # type: ignore[arg-type]


def test_credentials_show_the_user_name_alone() -> None:
    shown = repr(Credentials("alice", "pass-1", identity_token="token-2", registry_token="token-3"))
    assert "alice" in shown
    assert "pass-1" not in shown
    assert "token" not in shown


def test_options_never_show_a_secret_of_a_side_or_of_the_environment() -> None:
    side = RegistryOptions(credentials=Credentials("alice", "pass-1"))
    shown = repr(CopyOptions(source=side, target=side, environ={"CROSSDOCK_PASSWORD": "pass-2"}))
    assert "pass-" not in shown


@pytest.mark.parametrize("field", ["connect_timeout", "timeout", "commit_timeout"])
@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
def test_a_wait_without_bound_or_end_is_refused(field: str, seconds: float) -> None:
    values: dict[str, Any] = {field: seconds}
    with pytest.raises(InvalidOption, match=field):
        NetworkOptions(**values)


@pytest.mark.parametrize("values", [{"retries": -1}, {"connections": 0}, {"connections": 257}])
def test_counts_outside_their_range_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match=next(iter(values))):
        NetworkOptions(**values)


@pytest.mark.parametrize("connections", [1, 256])
def test_the_ends_of_a_range_are_inside(connections: int) -> None:
    assert NetworkOptions(connections=connections, retries=0).connections == connections


def test_a_key_needs_its_certificate_and_a_certificate_may_hold_its_key() -> None:
    with pytest.raises(InvalidOption, match="certificate"):
        RegistryOptions(key_file=Path("key.pem"))
    assert RegistryOptions(cert_file=Path("both.pem")).key_file is None


def test_a_ca_means_https_and_contradicts_plain_http() -> None:
    with pytest.raises(InvalidOption, match="contradict"):
        RegistryOptions(ca_file=Path("ca.pem"), plain_http=True)
    assert RegistryOptions(ca_file=Path("ca.pem"), plain_http=False).plain_http is False


def test_memory_and_chunks_too_small_to_move_anything_are_refused() -> None:
    with pytest.raises(InvalidOption, match="64KiB"):
        CopyOptions(chunk_size=64 * 1024 - 1)
    with pytest.raises(InvalidOption, match="4MiB"):
        CopyOptions(memory=4 * MiB - 1)
    assert CopyOptions(chunk_size=64 * 1024, memory=4 * MiB).memory == 4 * MiB


def test_options_cannot_change_under_way() -> None:
    options = CopyOptions()
    with pytest.raises(FrozenInstanceError):
        options.memory = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_STATE_HOME": "/var/s", "HOME": "/h"}, "/var/s/crossdock"),
        ({"XDG_STATE_HOME": "", "HOME": "/h"}, "/h/.local/state/crossdock"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/crossdock"),
        ({"HOME": "/h"}, "/h/.local/state/crossdock"),
    ],
)
def test_the_default_folder_follows_the_base_directory_specification(
    environ: dict[str, str], expected: str
) -> None:
    assert default_state_folder(environ) == Path(expected)


NO_SUCH_USER = 4_000_000_000


@pytest.mark.parametrize("home", [None, "", "relative", "~"])
def test_the_default_folder_is_always_absolute(home: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {} if home is None else {"HOME": home}
    assert str(default_state_folder(environ)) == pwd.getpwuid(os.getuid()).pw_dir + "/.local/state/crossdock"
    monkeypatch.setattr("os.getuid", lambda: NO_SUCH_USER)
    assert str(default_state_folder(environ)) == "/.local/state/crossdock"


@pytest.mark.parametrize(
    ("path", "expanded"),
    [
        ("~/a/b", "/home/ann/a/b"),
        ("~", "/home/ann/"),
        ("~ann/a", "~ann/a"),
        ("a/~/b", "a/~/b"),
        ("/~/b", "/~/b"),
        ("", ""),
    ],
)
def test_a_leading_tilde_is_the_home(path: str, expanded: str) -> None:
    assert expand_home(path, {"HOME": "/home/ann"}) == expanded
