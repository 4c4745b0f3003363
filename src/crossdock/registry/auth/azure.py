"""Access tokens of Entra ID: az's own login, and the package ``azure-identity`` for other identities.

az is run as a child process. The package is an extra, ``crossdock[azure]``, for managed identities and
service principals. It loads some hundred modules, so it is imported only when used, and it reads its
configuration from the process's environment (``IDENTITY_ENDPOINT``, ``AZURE_CLIENT_ID`` …).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
from collections.abc import Mapping

from crossdock.errors import (
    Advice,
    CredentialsError,
)
from crossdock.protocol.acrtoken import AUDIENCE, AZURE_CLI
from crossdock.registry.auth.helpers import run_bounded

TIMEOUT_S = 60.0  # az starts an interpreter, and a managed identity may be throttled for a while

_AZ = ("account", "get-access-token", "--resource", AUDIENCE.removesuffix("/.default"), "--output", "json")
_LOG_IN = Advice("az-login")


async def ask_azure(helper: str, environ: Mapping[str, str], *, timeout: float = TIMEOUT_S) -> str:
    """An access token for Azure registries, by ``azure-cli`` or ``azure-identity``. # network, processes

    Raises `CredentialsError` if az or the package is missing, has no login, or takes too long. Their output
    is not shown, since it may quote responses.
    """
    if helper == AZURE_CLI:
        return await _ask_az(environ, timeout)
    return await _ask_package(helper, timeout)


async def _ask_az(environ: Mapping[str, str], timeout: float) -> str:
    program = shutil.which("az", path=environ.get("PATH", os.defpath))
    if program is None:
        raise CredentialsError("az is not on PATH, so its login cannot be used", advice=_LOG_IN)
    quiet = {**environ, "AZURE_CORE_NO_COLOR": "true", "AZURE_CORE_ONLY_SHOW_ERRORS": "true"}
    status, output = await run_bounded((program, *_AZ), environ=quiet, timeout=timeout, called="az")
    if status != 0:
        raise CredentialsError(
            f"az gave no access token for Azure registries: exit code {status}", advice=_LOG_IN
        )
    try:
        answer = json.loads(output)
    except (ValueError, RecursionError):
        answer = None
    token = answer.get("accessToken") if isinstance(answer, dict) else None
    if not isinstance(token, str) or not token:
        raise CredentialsError("az printed no access token", advice=_LOG_IN)
    return token


async def _ask_package(helper: str, timeout: float) -> str:
    try:
        from azure.core.exceptions import AzureError
        from azure.identity import aio
    except ImportError:
        raise CredentialsError(
            f"{helper} needs the package azure-identity",
            advice=Advice("install", "pip install 'crossdock[azure]'"),
        ) from None
    # it warns about every credential source that is missing
    logging.getLogger("azure").setLevel(logging.CRITICAL)
    try:
        async with asyncio.timeout(timeout), aio.DefaultAzureCredential() as credential:
            token: str = (await credential.get_token(AUDIENCE)).token
            return token
    except TimeoutError:
        raise CredentialsError(f"{helper} gave no access token within {timeout:g} s") from None
    except AzureError as error:
        raise CredentialsError(
            f"{helper} gave no access token for Azure registries ({type(error).__name__})",
            advice=Advice("az-login", "log in with az login, or give this machine a managed identity"),
        ) from None
