"""``az acr login``: credentials that the registry accepted, stored as docker stores them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from crossdock.acr.metadata import opened
from crossdock.errors import Advice, CredentialsError
from crossdock.options import CopyOptions, Credentials


async def log_in(host: str, options: CopyOptions) -> Credentials:
    """Credentials that ``host[:port]`` accepts; an access token of Entra ID is exchanged. # network

    As in `metadata`, the options' source side applies. Raises `CopyError`, over `CredentialsError` without
    credentials.
    """
    options = replace(options, source=replace(options.source, az_login="before files"))  # for a new token
    async with opened(host, options, "log in to") as client:
        found = await client.log_in()
        if found is None:
            raise CredentialsError(
                f"no credentials for {host} were found, or none that could be stored",
                advice=Advice("log-in", registry=host),
            )
        return found


async def keep_login(host: str, credentials: Credentials, environ: Mapping[str, str]) -> None:
    """Write a login to docker's configuration, as ``az acr login`` does. # process

    Raises `CredentialsError`.
    """
    from crossdock.registry.auth.logins import docker_config, store_login

    await store_login(host, credentials, path=docker_config(environ), environ=environ)
