"""Credential helpers: small programs on PATH, as untrusted as any."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from crossdock.errors import CredentialsError
from crossdock.options import Credentials
from crossdock.registry.auth.credentials import CredentialStore
from crossdock.registry.auth.helpers import MAX_OUTPUT, ask_helper, erase_in_helper, store_in_helper

HOST = "registry.example:5000"
CONFIG = Path("/home/x/.docker/config.json")


def helper(tmp_path: Path, script: str, name: str = "test") -> dict[str, str]:
    """An environment whose PATH has ``docker-credential-test``, a shell script."""
    directory = tmp_path / "bin"
    directory.mkdir(exist_ok=True)
    program = directory / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"PATH": f"{directory}:{os.defpath}", "HOME": str(tmp_path)}


def answer(user: str, secret: str) -> str:
    return f"echo '{json.dumps({'ServerURL': 'x', 'Username': user, 'Secret': secret})}'"


async def ask(environ: dict[str, str], timeout: float = 30) -> Credentials | None:
    return await ask_helper("test", HOST, environ=environ, named_by=CONFIG, timeout=timeout)


async def test_the_protocol_is_get_with_the_server_on_stdin(tmp_path: Path) -> None:
    script = f'echo "$1" > {tmp_path}/verb; cat > {tmp_path}/stdin; {answer("bob", "pw")}'
    assert await ask(helper(tmp_path, script)) == Credentials(username="bob", password="pw")
    assert (tmp_path / "verb").read_text() == "get\n"
    assert (tmp_path / "stdin").read_text().strip() == HOST


async def test_the_token_user_means_an_identity_token(tmp_path: Path) -> None:
    assert await ask(helper(tmp_path, answer("<token>", "it"))) == Credentials(identity_token="it")


async def test_not_found_means_none(tmp_path: Path) -> None:
    script = "echo credentials not found in native keychain; exit 1"
    assert await ask(helper(tmp_path, script)) is None


FAULTS = [
    ("fails", "echo s3cret; exit 3", "exit code 3"),
    ("answers nonsense", "echo s3cret", "did not answer with Username and Secret"),
    ("answers a list", "echo '[\"s3cret\"]'", "did not answer"),
    ("answers without a secret's text", 'echo \'{"Username": "s3cret", "Secret": 5}\'', "did not answer"),
    ("never stops writing", "yes s3cret", f"over {MAX_OUTPUT} bytes"),
]


@pytest.mark.parametrize(("script", "words"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
async def test_a_helper_that(tmp_path: Path, script: str, words: str) -> None:
    with pytest.raises(CredentialsError) as caught:
        await ask(helper(tmp_path, script))
    assert "docker-credential-test" in str(caught.value)
    assert words in str(caught.value)
    assert "s3cret" not in str(caught.value) + str(caught.value.advice)


async def test_a_helper_that_hangs_is_ended(tmp_path: Path) -> None:
    environ = helper(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 600")
    with pytest.raises(CredentialsError, match=r"within 2 s"):
        await ask(environ, timeout=2)
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_child_of_the_helper_that_keeps_the_pipe_open_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match=r"within 2 s"):
        await ask(helper(tmp_path, f"sleep 60 & echo $! > {tmp_path}/pid"), timeout=2)
    os.kill(int((tmp_path / "pid").read_text()), 9)


async def test_a_missing_helper_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        CredentialsError, match=r"docker-credential-test, named by .*config\.json, is not on PATH"
    ):
        await ask({"PATH": str(tmp_path)})


async def test_a_helper_that_cannot_run_is_named(tmp_path: Path) -> None:
    environ = helper(tmp_path, "")
    (tmp_path / "bin" / "docker-credential-test").write_bytes(b"\x00no program")
    with pytest.raises(CredentialsError, match=r"cannot be run|exit code 127"):
        await ask(environ)


async def test_a_name_with_a_path_is_refused() -> None:
    with pytest.raises(CredentialsError, match="not a program name"):
        await ask_helper("../../bin/sh", HOST, environ={}, named_by=CONFIG)


def config(tmp_path: Path, document: Any) -> None:
    path = tmp_path / ".docker" / "config.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document))


async def find(environ: dict[str, str], host: str = HOST) -> Credentials | None:
    return await CredentialStore(host, given=None, environ=environ, side="source").find("app")


async def test_the_hosts_own_helper_comes_before_the_general_one(tmp_path: Path) -> None:
    helper(tmp_path, answer("general", "x"), "general")
    environ = helper(tmp_path, answer("own", "x"), "own")
    config(tmp_path, {"credHelpers": {HOST: "own"}, "credsStore": "general"})
    found = await find(environ)
    assert found is not None
    assert found.username == "own"
    other = await find(environ, "other.example")
    assert other is not None
    assert other.username == "general"


async def test_the_store_comes_before_auths_and_auths_stands_in_for_it(tmp_path: Path) -> None:
    auths = {HOST: {"username": "file", "password": "x"}}
    config(tmp_path, {"auths": auths, "credsStore": "test"})
    found = await find(helper(tmp_path, answer("store", "x")))
    assert found is not None
    assert found.username == "store"
    for script in ("echo credentials not found in native keychain; exit 1", "exit 9"):
        found = await find(helper(tmp_path, script))
        assert found is not None
        assert found.username == "file"


@pytest.mark.parametrize("script", [*(fault[1] for fault in FAULTS[:4]), None])
async def test_a_store_that_cannot_be_used_is_noted_and_the_next_file_is_read(
    tmp_path: Path, script: str | None
) -> None:
    config(tmp_path, {"credsStore": "test"})
    environ = {"PATH": "/nowhere", "HOME": str(tmp_path)} if script is None else helper(tmp_path, script)
    store = CredentialStore(HOST, given=None, environ=environ, side="source")
    assert await store.find("app") is None
    assert "docker-credential-test" in next(iter(store.troubles))
    assert "s3cret" not in str(store.troubles)


async def test_a_store_that_fails_is_asked_once_for_all_repositories(tmp_path: Path) -> None:
    config(tmp_path, {"credsStore": "test"})
    environ = helper(tmp_path, f"echo run >> {tmp_path}/runs; exit 1")
    store = CredentialStore(HOST, given=None, environ=environ, side="source")
    await asyncio.gather(*(store.find(f"app/{number}") for number in range(5)))
    await store.find("another")
    assert (tmp_path / "runs").read_text() == "run\n"


async def test_a_helper_that_was_named_for_the_side_must_work(tmp_path: Path) -> None:
    environ = helper(tmp_path, "exit 1") | {"CROSSDOCK_SOURCE_CREDENTIAL_HELPER": "test"}
    with pytest.raises(CredentialsError, match="exit code 1"):
        await find(environ)


def counting(tmp_path: Path) -> dict[str, str]:
    """An environment with a helper whose password has the number of the call: pw1, pw2, …"""
    (tmp_path / "n").write_text("0")
    config(tmp_path, {"credsStore": "test"})
    script = (
        f"n=$(($(cat {tmp_path}/n)+1)); echo $n > {tmp_path}/n\n"
        'printf \'{"ServerURL":"x","Username":"AWS","Secret":"pw%s"}\' "$n"'
    )
    return helper(tmp_path, script)


async def test_tasks_that_are_refused_together_share_one_renewal(tmp_path: Path) -> None:
    store = CredentialStore(HOST, given=None, environ=counting(tmp_path), side="source")
    refused = await store.find("app/0")
    renewed = await asyncio.gather(*(store.renew(f"app/{number % 3}", refused) for number in range(12)))
    assert renewed == [True] * 12
    assert {str(await store.find(f"app/{number}")) for number in range(3)} == {
        str(Credentials(username="AWS", password="pw2"))
    }
    assert [each and each.password for each in [await store.find("app/1")]] == ["pw2"]
    assert await store.renew("app/2", refused)  # its answer comes late: the renewal is over
    assert (tmp_path / "n").read_text() == "2\n"


async def test_a_renewal_in_vain_keeps_what_there_was(tmp_path: Path) -> None:
    environ = counting(tmp_path)
    store = CredentialStore(HOST, given=None, environ=environ, side="source")
    first = await store.find("app")
    helper(tmp_path, "exit 1")
    assert not await store.renew("app", first)
    assert await store.find("app") == first


async def test_store_and_erase_are_spoken(tmp_path: Path) -> None:
    keep = f'case "$1" in store) cat > {tmp_path}/kept;; erase) rm {tmp_path}/kept;; get) cat {tmp_path}/kept'
    environ = helper(
        tmp_path, f"{keep} || {{ echo credentials not found in native keychain; exit 1; }};; esac"
    )
    said = {"environ": environ, "named_by": str(CONFIG)}
    assert not await erase_in_helper("test", HOST, **said)  # type: ignore[arg-type]
    for secret in (Credentials("bob", 'p:"w\\'), Credentials("", "", "it")):
        await store_in_helper("test", HOST, secret, **said)  # type: ignore[arg-type]
        assert await ask(environ) == secret
    assert json.loads((tmp_path / "kept").read_text())["ServerURL"] == HOST
    assert await erase_in_helper("test", HOST, **said)  # type: ignore[arg-type]
    assert await ask(environ) is None


async def test_a_helper_that_does_not_store_says_so(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="failed to store the login of") as caught:
        await store_in_helper(
            "test",
            HOST,
            Credentials("u", "s3cret"),
            environ=helper(tmp_path, "cat; exit 1"),
            named_by=CONFIG,
        )
    assert "s3cret" not in str(caught.value) + str(caught.value.advice)


async def test_helpers_get_docker_hub_by_its_old_address(tmp_path: Path) -> None:
    config(tmp_path, {"credsStore": "test"})
    environ = helper(tmp_path, f"cat > {tmp_path}/stdin; {answer('u', 'p')}")
    assert await find(environ, "registry-1.docker.io") is not None
    assert (tmp_path / "stdin").read_text().strip() == "https://index.docker.io/v1/"


async def test_many_tasks_ask_the_helper_once(tmp_path: Path) -> None:
    config(tmp_path, {"credsStore": "test"})
    environ = helper(tmp_path, f"echo run >> {tmp_path}/runs; {answer('u', 'p')}")
    store = CredentialStore(HOST, given=None, environ=environ, side="source")
    found = await asyncio.gather(*(store.find("app") for _ in range(10)))
    assert len(set(found)) == 1
    assert (tmp_path / "runs").read_text() == "run\n"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo not implemented; exit 1", "exit code 1: not implemented"),
        ("printf 'two\\n\\tlines\\033[31m' >&2; exit 1", "exit code 1: two lines [31m"),
        ("exit 2", "exit code 2"),
        ("printf '%01000d' 0; exit 1", f"exit code 1: {'0' * 300}…"),
        ("echo denied for p; exit 1", "exit code 1: denied for …"),
        ("echo Bearer aBcDeFgHiJkL; exit 1", "exit code 1: Bearer …"),
    ],
)
async def test_why_it_failed_is_on_one_bounded_line(tmp_path: Path, script: str, reason: str) -> None:
    with pytest.raises(CredentialsError) as caught:
        await store_in_helper(
            "test", HOST, Credentials("u", "p"), environ=helper(tmp_path, script), named_by=CONFIG
        )
    assert str(caught.value).endswith(reason)
    assert " get" not in str(caught.value.advice)


@pytest.mark.parametrize("way", ["cat", "base64 -w0", "sed 's/.*Secret//'"])
async def test_why_it_failed_never_has_the_secret(tmp_path: Path, way: str) -> None:
    secret = 'pä"ss/wörd'
    encoded = base64.b64encode(f"u:{secret}".encode()).decode()
    with pytest.raises(CredentialsError) as caught:
        await store_in_helper(
            "test",
            HOST,
            Credentials("u", secret),
            environ=helper(tmp_path, f"{way}; echo; echo {encoded} '{secret}'; exit 1"),
            named_by=CONFIG,
        )
    for spelling in (secret, json.dumps(secret)[1:-1], encoded, quote(secret, safe="")):
        assert spelling not in str(caught.value)


async def test_a_helper_that_accepts_an_erase_and_does_nothing_has_not_erased(tmp_path: Path) -> None:
    said = {"environ": helper(tmp_path, answer("u", "p")), "named_by": str(CONFIG)}
    assert not await erase_in_helper("test", HOST, **said)  # type: ignore[arg-type]
