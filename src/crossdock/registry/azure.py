"""Access tokens by the package ``azure-identity``: managed identities, service principals, az's own login.

The package is an extra, ``crossdock[azure]``, and loads some hundred modules: it is imported when it is
asked. It reads its own variables of the process's environment (``IDENTITY_ENDPOINT``, ``AZURE_CLIENT_ID`` …).
"""

from __future__ import annotations

import asyncio
import logging

from crossdock.errors import CredentialsError
from crossdock.protocol.acrtoken import AUDIENCE
from crossdock.registry.credentials import AZURE_HELPERS

TIMEOUT_S = 60.0  # az starts an interpreter, and a managed identity may be throttled for a while


async def ask_azure(helper: str, *, timeout: float = TIMEOUT_S) -> str:
    """An access token for Azure registries, by one of `AZURE_HELPERS`. # network, processes

    Raises `CredentialsError` when the package is missing, nobody is logged in, or it takes too long. What
    the package says is not shown: it may quote answers.
    """
    try:
        from azure.core.exceptions import AzureError
        from azure.identity import aio
    except ImportError:
        raise CredentialsError(
            f"{helper} needs the package azure-identity", hint="pip install 'crossdock[azure]'"
        ) from None
    logging.getLogger("azure").setLevel(logging.CRITICAL)  # it warns of every way in that is not there
    try:
        async with asyncio.timeout(timeout), getattr(aio, AZURE_HELPERS[helper])() as credential:
            token: str = (await credential.get_token(AUDIENCE)).token
            return token
    except TimeoutError:
        raise CredentialsError(f"{helper} gave no access token within {timeout:g} s") from None
    except AzureError as error:
        raise CredentialsError(
            f"{helper} gave no access token for Azure registries ({type(error).__name__})",
            hint="log in with az login, or give this machine a managed identity",
        ) from None
