"""``az acr login``: credentials that the registry accepts, to be stored or shown."""

from __future__ import annotations

from dataclasses import replace

from crossdock.errors import Advice, CredentialsError
from crossdock.oci.reference import Reference
from crossdock.options import CopyOptions, Credentials
from crossdock.protocol.acrtoken import NULL_USER
from crossdock.runs.places import Places
from crossdock.steps import during

WHAT_IT_IS = (
    "Note: The token in both the accessToken and refreshToken fields is an ACR Refresh Token, not an ACR "
    "Access Token. This ACR Refresh Token cannot be used directly to authenticate with registry APIs such as "
    "pushing/pulling images and listing repositories/tags. This ACR Refresh Token must be subsequently "
    "exchanged for an ACR Access.Please see https://aka.ms/acr/auth/oauth"
)
HOW_TO_USE = (
    "You can perform manual login using the provided refresh token below, "
    f"for example: 'docker login loginServer -u {NULL_USER} -p refreshToken'"
)


async def log_in(host: str, options: CopyOptions) -> Credentials:
    """Credentials that ``host[:port]`` accepts; an access token of Entra ID is exchanged. # network

    As in `metadata`, the options' source side applies. Raises `CopyError`, over `CredentialsError` without
    credentials.
    """
    options = replace(options, source=replace(options.source, az_login="before files"))  # for a new token
    registry = Reference(host, "login")
    async with Places(options) as places:
        places.prepare(registry, "source")
        with during("log in to", "source", host, names_side=False):
            found = await places.log_in(registry)
            if found is None:
                raise CredentialsError(
                    f"no credentials for {host} were found, or none that could be stored",
                    advice=Advice("log-in", registry=host),
                )
            return found


def exposed(host: str, found: Credentials) -> dict[str, str] | None:
    """The document that shows a refresh token; None: the login is a user name and password."""
    token = found.identity_token or (found.password if found.username == NULL_USER else "")
    if not token:
        return None
    return {"accessToken": token, "loginServer": host, "refreshToken": token, "username": NULL_USER}
