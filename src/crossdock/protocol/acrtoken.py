"""The token requests of Azure registries, as forms (Azure/acr, ``docs/AAD-OAuth.md``).

An access token of Entra ID is exchanged for a refresh token of the registry, and that one for access tokens
by scope. Both requests go to the host of the realm that the registry's challenge names.
"""

from __future__ import annotations

from urllib.parse import urlencode, urljoin

NULL_USER = "00000000-0000-0000-0000-000000000000"
"""The user name that says: the password is a token (``az acr login --expose-token``)."""

AUDIENCE = "https://containerregistry.azure.net/.default"
"""The scope to ask Entra ID for; a registry may take tokens for Azure's own management as well."""

AZURE_CLI = "azure-cli"
AZURE_HELPERS = ("azure-identity", AZURE_CLI)
"""Names that may stand for a credential helper: a package, and az's own login (`registry.auth.azure`)."""

AZURE_DOMAINS = (".azurecr.io", ".azurecr.cn", ".azurecr.us")


def is_azure_host(host: str) -> bool:
    """Whether `host`, without a port, is a registry of a public Azure cloud."""
    return host.lower().rstrip(".").endswith(AZURE_DOMAINS)


def exchange_url(realm: str) -> str:
    """The URL at which access tokens are exchanged, beside the token service `realm`."""
    return urljoin(realm, "/oauth2/exchange")


def exchange_form(service: str, access_token: str) -> bytes:
    """Give an access token of Entra ID, get ``{"refresh_token"}``. The tenant is the token's own."""
    return _form({"grant_type": "access_token", "service": service, "access_token": access_token})


def refresh_form(service: str, scopes: tuple[str, ...], refresh_token: str) -> bytes:
    """Give a refresh token of the registry, get ``{"access_token"}`` for `scopes`."""
    fields = {"grant_type": "refresh_token", "service": service, "scope": " ".join(scopes)}
    return _form({**fields, "refresh_token": refresh_token})


def _form(fields: dict[str, str]) -> bytes:
    return urlencode({name: value for name, value in fields.items() if value}).encode()
