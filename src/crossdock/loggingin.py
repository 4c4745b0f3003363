"""`log_in` and `log_out`: a login that a registry accepted, kept where docker or podman keeps it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from crossdock.errors import (
    Advice,
    CredentialsError,
    InvalidReference,
)
from crossdock.oci.reference import Reference
from crossdock.options import CopyOptions, Credentials
from crossdock.registry.auth.credentials import CredentialStore, user_environ
from crossdock.registry.auth.logins import docker_config, erase_login, login_file, store_login
from crossdock.registry.client import NONE
from crossdock.runs.places import Places
from crossdock.steps import during

_PREFIXES = ("https://", "http://", "docker://")
_SUFFIXES = ("/", "/v1", "/v2")


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """The login that a copy would use for a registry. ``place``: where it is, in words.

    ``trouble`` is the first place that could not be used, and ``remedy`` what to do about it.
    """

    credentials: Credentials | None
    place: str
    trouble: str = ""
    remedy: Advice | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Login:
    """A login that was kept: of which ``host[:port]``, and where, in words."""

    host: str
    place: str


def registry_host(text: str) -> str:
    """The ``host[:port]`` that a person means, with a scheme or docker's ``/v1/`` or without.

    Raises `InvalidReference`.
    """
    host = text
    for prefix in _PREFIXES:
        host = host.removeprefix(prefix)
    for suffix in _SUFFIXES:
        host = host.removesuffix(suffix)
    if not host or "/" in host:
        raise InvalidReference(f"{text!r} is not a HOST[:PORT]: a login is for a whole registry")
    return Reference.parse(f"{host}/login").registry


async def log_in(
    registry: str,
    credentials: Credentials,
    options: CopyOptions,
    *,
    authfile: Path | None = None,
    on_warning: Callable[[str], None],
) -> Login:
    """Keep `credentials` for the registry, if it accepts them. # network, process

    Uses the options' source side for the connection. The place is `authfile`, else as `login_file` chooses.
    Raises `CopyError` when the registry refuses or cannot be reached, `CredentialsError` when the login
    cannot be kept.
    """
    host = registry_host(registry)
    environ = user_environ(os.environ) if options.environ is None else options.environ
    path = login_file(host, environ, authfile)
    async with Places(options) as places:
        client = places.client(Reference(host, "login"), "source")
        with during("log in to", "source", host, names_side=False):
            await client.request("GET", "/v2/", scope=NONE)
        if not client.auth.has_shown_credentials:
            on_warning(f"{host} does not ask for a login at /v2/, so this one was not checked")
    place = await store_login(host, credentials, path=path, environ=environ)
    await _check_kept(Login(host=host, place=place), credentials, options, path, authfile, on_warning)
    return Login(host=host, place=place)


async def keep_login(host: str, credentials: Credentials, environ: Mapping[str, str]) -> None:
    """Write a login that was checked to docker's configuration, as ``az acr login`` does. # process

    Raises `CredentialsError`.
    """
    await store_login(host, credentials, path=docker_config(environ), environ=environ)


async def _check_kept(
    login: Login,
    credentials: Credentials,
    options: CopyOptions,
    path: Path,
    authfile: Path | None,
    on_warning: Callable[[str], None],
) -> None:
    """Warn when a copy would use another login. Raises `CredentialsError` when the helper kept nothing."""
    host, place = login.host, login.place
    found = await find_login(host, options, authfile=authfile)
    if found.credentials == credentials:
        return
    back = await find_login(host, options, authfile=path)
    if back.credentials is None or back.place != place:
        why = f": {back.trouble}" if back.trouble else ""
        raise CredentialsError(
            f"{place} took the login of {host} and does not give it back{why}",
            advice=Advice("remove-helper", file=str(path)),
        )
    if back.credentials != credentials:
        on_warning(f"{place} does not give this login of {host} back: it has one of its own, which is used")
        return
    on_warning(
        f"another login for {host} is found before this one, in {found.place}: "
        "see docs/identities.md for the order"
    )


async def find_login(registry: str, options: CopyOptions, *, authfile: Path | None = None) -> Found:
    """The login that a copy would use for the registry, without the inventory's. # process"""
    environ = user_environ(os.environ) if options.environ is None else options.environ
    store = CredentialStore(
        registry_host(registry), given=None, environ=environ, side="source", authfile=authfile
    )
    found = await store.find("")
    trouble, remedy = next(iter(store.troubles.items()), ("", None))
    return Found(credentials=found, place=store.place if found else "", trouble=trouble, remedy=remedy)


async def log_out(registry: str, options: CopyOptions, *, authfile: Path | None = None) -> tuple[str, ...]:
    """Remove the login of the registry; from where, in words. # process

    Raises `CredentialsError` when a file or helper cannot be used.
    """
    environ = user_environ(os.environ) if options.environ is None else options.environ
    return await erase_login(registry_host(registry), environ=environ, authfile=authfile)
