"""Docker's credential helper protocol: ``docker-credential-NAME get``, the server's address on stdin.

It prints ``{"ServerURL", "Username", "Secret"}``; the user name ``<token>`` marks the secret as an identity
token. "credentials not found in native keychain" with a failing exit code means that it has none. ``store``
takes such an object on stdin, ``erase`` the address. A helper is a foreign program, so its time and its
output are bounded. The reason of a failed ``store`` or ``erase`` is shown; the output of ``get`` never is.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from crossdock.errors import (
    Advice,
    CredentialsError,
)
from crossdock.options import Credentials
from crossdock.redact import HIDDEN, redact_text
from crossdock.transport.reason import os_reason

TIMEOUT_S = (
    60.0  # cloud helpers log in over the network, desktop ones may ask the person to unlock a keychain
)
MAX_QUESTION = 60_000  # bytes; an unread pipe holds 64 KiB
MAX_OUTPUT = 1 << 20  # bytes; secrets can be JSON keys of 4,000 characters, not more

MAX_REASON = 300  # characters; one or two sentences

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_NOT_FOUND = b"credentials not found"  # the helpers' shared library writes exactly "… in native keychain"
_TOKEN_USER = "<token>"  # noqa: S105 - the protocol's word


async def ask_helper(
    name: str, server: str, *, environ: Mapping[str, str], named_by: Path | str, timeout: float = TIMEOUT_S
) -> Credentials | None:
    """The helper's login for `server`, or None. `named_by` is the file, variable or flag that names the
    helper.

    Raises `CredentialsError` if the helper is missing, fails, is too slow or prints no valid object.
    """
    status, output = await _run(name, "get", server, environ, named_by, timeout)
    if status != 0:
        if _NOT_FOUND in output[:4096].lower():
            return None
        program = f"docker-credential-{name}"
        raise CredentialsError(
            f"credential helper {program} failed to get the login of {server}: exit code {status}",
            advice=Advice("ask-helper", f"echo {server} | {program} get"),
        )
    return _parse(output, f"docker-credential-{name}")


async def store_in_helper(
    name: str,
    server: str,
    credentials: Credentials,
    *,
    environ: Mapping[str, str],
    named_by: Path | str,
    timeout: float = TIMEOUT_S,
) -> None:
    """Store `credentials` for `server` in the helper. Raises as `ask_helper`."""
    secret = credentials.identity_token or credentials.password
    username = _TOKEN_USER if credentials.identity_token else credentials.username
    said = json.dumps({"ServerURL": server, "Username": username, "Secret": secret})
    if len(said) > MAX_QUESTION:
        raise CredentialsError(f"the secret for {server} is too long for docker-credential-{name}")
    status, output = await _run(name, "store", said, environ, named_by, timeout)
    if status != 0:
        reason = _reason(output, credentials)
        raise CredentialsError(
            f"credential helper docker-credential-{name} failed to store the login of {server}: "
            f"exit code {status}{reason}",
            advice=Advice("remove-helper", file=str(named_by)),
        )


async def erase_in_helper(
    name: str, server: str, *, environ: Mapping[str, str], named_by: Path | str, timeout: float = TIMEOUT_S
) -> bool:
    """Erase the helper's login for `server`. Returns whether there was one that is now gone.

    Some cloud helpers accept ``erase`` and do nothing. Raises as `ask_helper`.
    """
    found = await ask_helper(name, server, environ=environ, named_by=named_by, timeout=timeout)
    if found is None:
        return False
    status, output = await _run(name, "erase", server, environ, named_by, timeout)
    if status != 0 and _NOT_FOUND not in output[:4096].lower():
        reason = _reason(output, found)
        raise CredentialsError(
            f"credential helper docker-credential-{name} failed to erase the login of {server}: "
            f"exit code {status}{reason}",
            advice=Advice(
                "remove-login",
                f"remove it with the helper's own tool, or remove the helper from {named_by}",
                file=str(named_by),
            ),
        )
    try:
        return await ask_helper(name, server, environ=environ, named_by=named_by, timeout=timeout) is None
    except CredentialsError:  # it reports "no login" in an unknown way
        return True


def _reason(output: bytes, found: Credentials) -> str:
    """The failed helper's output on one line and without the secret, to follow the exit code."""
    text = output.decode(errors="replace")
    for spelling in map(re.escape, _spellings(found)):
        # A secret of three letters or fewer is only masked where it stands alone.
        text = re.sub(spelling if len(spelling) > 3 else rf"(?<!\w){spelling}(?!\w)", HIDDEN, text)
    text = "".join(each if each.isprintable() else " " for each in redact_text(text[: 4 * MAX_REASON]))
    text = " ".join(text.split())
    if len(text) > MAX_REASON:
        text = f"{text[:MAX_REASON]}{HIDDEN}"
    return f": {text}" if text else ""


def _spellings(credentials: Credentials) -> list[str]:
    """The encodings of the secret (plain, JSON, URL, header), the longest first."""
    secret = credentials.identity_token or credentials.password
    if not secret:
        return []
    pairs = (f"{credentials.username}:{secret}", secret)
    encoded = {base64.b64encode(each.encode()).decode().rstrip("=") for each in pairs}
    in_json = {json.dumps(secret, ensure_ascii=each)[1:-1] for each in (True, False)}
    return sorted({secret, quote(secret, safe=""), *in_json, *encoded}, key=len, reverse=True)


async def _run(
    name: str,
    verb: str,
    question: str,
    environ: Mapping[str, str],
    named_by: Path | str,
    timeout: float,
) -> tuple[int, bytes]:
    """Exit code and output of ``docker-credential-NAME verb`` with `question` on stdin."""
    program = f"docker-credential-{name}"
    if not _NAME.fullmatch(name):
        raise CredentialsError(f"{named_by} names a credential helper that is not a program name")
    found = shutil.which(program, path=environ.get("PATH", os.defpath))
    if found is None:
        raise CredentialsError(
            f"credential helper {program}, named by {named_by}, is not on PATH",
            advice=Advice("install", f"install it, or remove it from {named_by}", file=str(named_by)),
        )
    said = f"credential helper {program}"
    return await run_bounded(
        (found, verb),
        environ=environ,
        timeout=timeout,
        called=said,
        question=question.encode() + b"\n",
        with_stderr=verb != "get",
    )


async def run_bounded(
    command: Sequence[str],
    *,
    environ: Mapping[str, str],
    timeout: float,
    called: str,
    question: bytes = b"",
    with_stderr: bool = False,
) -> tuple[int, bytes]:
    """Exit code and bounded output of a foreign program that gets `question` on stdin. # process

    The output is that of stdout; `with_stderr` adds stderr. Raises `CredentialsError`, whose message calls it
    `called`, if it cannot be run, takes too long or prints too much.
    """
    with _filled_pipe(question) as stdin:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=stdin,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT if with_stderr else asyncio.subprocess.DEVNULL,
                env=dict(environ),
            )
        except OSError as error:
            raise CredentialsError(f"{called} cannot be run: {os_reason(error)}") from None
    try:
        async with asyncio.timeout(timeout):
            output = await _read(process)
            return await process.wait(), output
    except TimeoutError:
        raise CredentialsError(f"{called} did not answer within {timeout:g} s") from None
    except _TooMuch:
        raise CredentialsError(f"{called} wrote over {MAX_OUTPUT} bytes") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        # A child of the program may keep the pipe open, and asyncio's wait() waits for the pipe to close too.
        _close_pipes(process)
        await process.wait()


@contextlib.contextmanager
def _filled_pipe(content: bytes) -> Iterator[int]:
    """The read end of a closed pipe that holds `content`, at most 64 KiB.

    Writing it in advance avoids EPIPE from helpers that exit without reading stdin.
    """
    reading, writing = os.pipe()
    try:
        try:
            os.write(writing, content)
        finally:
            os.close(writing)
        yield reading
    finally:
        os.close(reading)


class _TooMuch(Exception):
    """The helper's output exceeds the limit."""


async def _read(process: asyncio.subprocess.Process) -> bytes:
    if process.stdout is None:
        raise AssertionError("started with a pipe")
    output = bytearray()
    while piece := await process.stdout.read(65536):
        output += piece
        if len(output) > MAX_OUTPUT:
            raise _TooMuch
    return bytes(output)


def _close_pipes(process: asyncio.subprocess.Process) -> None:
    transport: asyncio.SubprocessTransport = process._transport  # type: ignore[attr-defined]
    transport.close()


def _parse(output: bytes, program: str) -> Credentials | None:
    try:
        answer: Any = json.loads(output)
    except (ValueError, RecursionError):
        answer = None
    username, secret = (
        (answer.get("Username"), answer.get("Secret")) if isinstance(answer, dict) else (None, None)
    )
    if not isinstance(username, str) or not isinstance(secret, str):
        raise CredentialsError(f"credential helper {program} did not answer with Username and Secret")
    if not secret:
        return None
    if username == _TOKEN_USER:
        return Credentials(identity_token=secret)
    return Credentials(username=username, password=secret)
