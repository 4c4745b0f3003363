"""Logins for ECR, and its repositories, by botocore (extra ``crossdock[aws]``). Everything here blocks.

botocore finds the identity in its usual places: variables, ``~/.aws``, SSO, a web identity token (Kubernetes'
IRSA, GitHub's OIDC), the endpoints of EKS Pod Identity and ECS, the metadata service of EC2. It knows the
endpoint of each region and its signatures, and reads ``AWS_ENDPOINT_URL_ECR`` and the like.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from contextlib import closing
from threading import Lock
from typing import Any

from crossdock.errors import Advice, CredentialsError
from crossdock.options import CreateOptions, Credentials
from crossdock.registry.auth.clouds import Answer, Cloud

CONNECT_S, READ_S, TRIES = 5.0, 15.0, 3
MAX_REASON = 200  # characters of AWS's own words


class AwsRefused(CredentialsError):
    """AWS refused a request. ``.code`` is its own name for the reason."""

    code: str = ""


class Aws:
    """The API of ECR in one region, private or public. Safe to share between threads."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._session: Any = None  # finds the identity once; each call has its own client
        self._lock = Lock()  # a session makes one client at a time

    def ask(self) -> Answer:
        """A login for all registries of the region, for 12 hours. # network

        Raises `CredentialsError` without the package or an identity, `AwsRefused` if AWS refuses.
        """
        answer = self._call("get_authorization_token", {})
        data = answer.get("authorizationData")
        if isinstance(data, list):  # ECR sends a list of one, ECR Public an object
            data = data[0] if data else None
        try:
            token, ends = data["authorizationToken"], data.get("expiresAt")
            username, _, password = base64.b64decode(token).decode().partition(":")
        except (TypeError, KeyError, ValueError):
            username = password = ""
        if not password:
            raise AwsRefused("AWS answered without a login for its registries")
        return Answer(Credentials(username, password), ends.timestamp() if ends is not None else None)

    def create_repository(self, name: str, options: CreateOptions, account: str) -> None:
        """Create a repository in this account; one that is there is left as it is. # network

        `account` is empty for that of the identity. Raises as `ask`.
        """
        settings: dict[str, Any] = {"repositoryName": name, **({"registryId": account} if account else {})}
        if self._cloud.service == "ecr":
            settings["imageTagMutability"] = "IMMUTABLE" if options.immutable else "MUTABLE"
            settings["imageScanningConfiguration"] = {"scanOnPush": options.scan}
        try:
            self._call("create_repository", settings)
        except AwsRefused as error:
            if error.code != "RepositoryAlreadyExistsException":
                raise

    def _call(self, operation: str, arguments: Mapping[str, Any]) -> Any:
        try:
            from botocore.config import Config
            from botocore.exceptions import (
                BotoCoreError,
                ClientError,
                CredentialRetrievalError,
                NoCredentialsError,
            )
            from botocore.session import Session
        except ImportError:
            raise CredentialsError(
                "the package botocore is not installed, so no login of AWS was looked for",
                advice=Advice("install", "pip install 'crossdock[aws]'"),
            ) from None
        try:
            with self._lock:
                if self._session is None:
                    session = Session()
                    retries = {"total_max_attempts": TRIES, "mode": "standard"}
                    session.set_default_client_config(
                        Config(connect_timeout=CONNECT_S, read_timeout=READ_S, retries=retries)
                    )
                    self._session = session
                if self._session.get_credentials() is None:
                    raise CredentialsError("botocore found no credentials of AWS")
                made = self._client(Config)
            with closing(made) as client:
                return getattr(client, operation)(**arguments)
        except NoCredentialsError:
            raise CredentialsError("botocore found no credentials of AWS") from None
        except ClientError as error:
            said = error.response.get("Error", {})
            code = str(said.get("Code", ""))
            # What follows may be the request that was signed, with the token of the session.
            words = _first_line(str(said.get("Message") or ""))
            raise AwsRefused(f"AWS refused {error.operation_name}: {code}: {words}", code=code) from None
        except CredentialRetrievalError as error:  # what follows in it a program may have written
            provider = error.kwargs.get("provider", "its place")
            raise CredentialsError(f"the login of AWS cannot be used: {provider} gave none") from None
        except BotoCoreError as error:
            words = _first_line(str(error))
            raise CredentialsError(f"the login of AWS cannot be used: {words}") from None
        except CredentialsError:
            raise
        except Exception as error:  # of a file or program that is not as botocore expects it
            raise CredentialsError(f"the login of AWS cannot be used: {type(error).__name__}") from None

    def _client(self, config: Callable[..., Any]) -> Any:
        session, cloud = self._session, self._cloud
        region = cloud.region or session.get_config_variable("region")
        if not region:
            raise CredentialsError("there is no region for AWS: set AWS_REGION")
        # None where the name does not say: the machine may be configured for it.
        variant = config(
            use_fips_endpoint=cloud.fips or None, use_dualstack_endpoint=cloud.dual_stack or None
        )
        return session.create_client(cloud.service, region_name=region, config=variant)


def _first_line(text: str) -> str:
    return text.partition("\n")[0].rstrip(". ")[:MAX_REASON]
