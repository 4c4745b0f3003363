"""Credentials in the environment for one side of a run, and the registries that get them.

``CROSSDOCK_SOURCE_USERNAME`` and its siblings name no registry, and a list or mirror may read from several,
one of which may be hostile. So they are sent only to the registry in ``CROSSDOCK_SOURCE_REGISTRY``, or to the
only registry of their side. An access token of Entra ID is valid for more than one registry, so it is sent
only to Azure registries, to loopback, or to the registry named there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from msgspec import Struct

from crossdock.errors import (
    Advice,
    CredentialsError,
    Side,
)
from crossdock.oci.registryname import registry_key, split_key
from crossdock.options import Credentials
from crossdock.protocol.acrtoken import is_azure_host
from crossdock.protocol.redirect import is_loopback

_PLURAL: Mapping[Side, str] = {"source": "sources", "target": "targets"}


class ForRegistry(Struct, frozen=True):
    """The variables' credentials for one registry. ``trouble``: why some of them are not used."""

    credentials: Credentials | None = None
    helper: str = ""
    trouble: str = ""
    remedy: Advice | None = None


def side_credentials(
    environ: Mapping[str, str], side: Side, registry: str, *, is_sole: bool, azure_helpers: tuple[str, ...]
) -> ForRegistry:
    """The side's credentials for `registry`. `is_sole`: no other registry of its side could be meant.

    Raises `CredentialsError` if only half of a pair is set.
    """
    prefix = f"CROSSDOCK_{side.upper()}_"
    found, helper = from_environ(environ, side), environ.get(f"{prefix}CREDENTIAL_HELPER", "")
    named = environ.get(f"{prefix}REGISTRY", "")
    is_named = bool(named) and registry_key(named) == registry_key(registry)
    variable = f"{prefix}REGISTRY"
    remedy = Advice(
        "set-variable",
        f"set {variable}={registry} if they are meant for it",
        registry=registry,
        variable=variable,
    )
    if found is not None and not is_named and (named or not is_sole):
        why = f"they are for {named}" if named else f"the {_PLURAL[side]} are at several registries"
        return ForRegistry(
            helper="" if named or helper in azure_helpers else helper,
            trouble=f"the credentials of {prefix}… are not sent to {registry}: {why}",
            remedy=remedy,
        )
    if named and not is_named:
        return ForRegistry()
    if is_named or _may_see_access_tokens(registry):
        return ForRegistry(found, helper)
    trouble = f"the access token is not sent to {registry}, which is not an Azure registry"
    if helper in azure_helpers:
        return ForRegistry(_without_access_token(found), "", trouble, remedy)
    if found is not None and found.access_token:
        return ForRegistry(_without_access_token(found), helper, trouble, remedy)
    return ForRegistry(found, helper)


def from_environ(environ: Mapping[str, str], side: Side) -> Credentials | None:
    """The side's credentials in the environment. Raises `CredentialsError` if only half of a pair is set."""
    prefix = f"CROSSDOCK_{side.upper()}_"
    username = environ.get(f"{prefix}USERNAME", "")
    password = environ.get(f"{prefix}PASSWORD", "")
    identity_token = environ.get(f"{prefix}IDENTITY_TOKEN", "")
    access_token = environ.get(f"{prefix}ACCESS_TOKEN", "")
    if not (username or password or identity_token or access_token):
        return None
    if not (identity_token or access_token) and not (username and password):
        present, absent = ("USERNAME", "PASSWORD") if username else ("PASSWORD", "USERNAME")
        raise CredentialsError(f"{prefix}{present} is set but {prefix}{absent} is not")
    return Credentials(
        username=username,
        password=password,
        identity_token=identity_token,
        access_token=access_token,
    )


def _may_see_access_tokens(registry: str) -> bool:
    host, _ = split_key(registry)
    return is_azure_host(host) or is_loopback(host)


def _without_access_token(found: Credentials | None) -> Credentials | None:
    if found is None:
        return None
    rest = replace(found, access_token="")
    return rest if rest.password or rest.identity_token else None
