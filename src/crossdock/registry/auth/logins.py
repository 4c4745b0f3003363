"""Stores and erases logins by docker's and podman's rules, in their files and helpers.

`files` writes the files. If a file names a credential helper for the host, the helper stores the secret
and the file keeps an empty entry, as with docker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from crossdock.errors import (
    Advice,
    CredentialsError,
)
from crossdock.oci.registryname import registry_key
from crossdock.options import Credentials, expand_home
from crossdock.registry.auth.credentials import credential_files
from crossdock.registry.auth.files import (
    find_helper,
    has_entry,
    login_entry,
    put_entry,
    read_config,
    server_key,
)


def docker_config(environ: Mapping[str, str]) -> Path:
    """The path of docker's ``config.json``. Raises `CredentialsError` if neither HOME nor DOCKER_CONFIG is
    set."""
    if folder := environ.get("DOCKER_CONFIG"):
        return Path(expand_home(folder, environ), "config.json")
    if home := environ.get("HOME"):
        return Path(home, ".docker", "config.json")
    raise CredentialsError(
        "HOME is not set, so the login cannot be stored",
        advice=Advice("set-variable", "set HOME or DOCKER_CONFIG", variable="HOME"),
    )


def login_file(host: str, environ: Mapping[str, str], authfile: Path | None = None) -> Path:
    """The file for a new login to `host`: `authfile`; else that of ``REGISTRY_AUTH_FILE``; else the first
    file with a login for the host, which the new one must replace; else docker's, unless only podman's
    exists.

    Raises `CredentialsError` for an unreadable file, and as `docker_config`.
    """
    if authfile is not None:
        return authfile
    if named := environ.get("REGISTRY_AUTH_FILE"):
        return Path(expand_home(named, environ))
    files = _files(environ)
    for path in files:
        config = read_config(path)
        if config is not None and has_entry(config, registry_key(host)):
            return path
    docker = docker_config(environ)
    return next((path for path in (docker, *files) if path.exists()), docker)


async def store_login(host: str, credentials: Credentials, *, path: Path, environ: Mapping[str, str]) -> str:
    """Store a login for `host` (with its port) in `path`, or in the helper that it names. # process

    Returns the place, for messages. Raises `CredentialsError`.
    """
    config = await asyncio.to_thread(read_config, path) or {}
    helper = find_helper(config, registry_key(host), f"credential file {path}")
    if not helper:
        await asyncio.to_thread(put_entry, path, host, login_entry(credentials))
        return str(path)
    from crossdock.registry.auth.helpers import store_in_helper

    await store_in_helper(helper, server_key(host), credentials, environ=environ, named_by=str(path))
    await asyncio.to_thread(put_entry, path, host, {})
    return f"docker-credential-{helper}"


async def erase_login(
    host: str, *, environ: Mapping[str, str], authfile: Path | None = None
) -> tuple[str, ...]:
    """Remove the login for `host` from every place that is searched, or from `authfile` only. # process

    Returns those places, for messages. Raises `CredentialsError`.
    """
    named = environ.get("REGISTRY_AUTH_FILE")
    files = (
        [authfile]
        if authfile
        else [*([Path(expand_home(named, environ))] if named else []), *_files(environ)]
    )
    places = []
    for path in files:
        config = await asyncio.to_thread(read_config, path)
        if config is None:
            continue
        helper = find_helper(config, registry_key(host), f"credential file {path}")
        if helper:
            from crossdock.registry.auth.helpers import erase_in_helper

            if await erase_in_helper(helper, server_key(host), environ=environ, named_by=str(path)):
                places.append(f"docker-credential-{helper}")
        if await asyncio.to_thread(put_entry, path, host, None) and not helper:
            places.append(str(path))
    return tuple(places)


def _files(environ: Mapping[str, str]) -> list[Path]:
    """The files in their usual places, without ``~/.dockercfg``, an old format that is no longer written."""
    files = (file for file in credential_files(environ) if not file.named_by)
    return [file.path for file in files if file.path.name != ".dockercfg"]
