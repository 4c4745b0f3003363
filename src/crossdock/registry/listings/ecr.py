"""ECR's lists by the API of AWS: DescribeImages and DescribeRepositories, signed by SigV4 (L6).

Credentials, region settings and signatures are botocore's (extra ``crossdock[aws]``); the requests go through
the registry's client, as all others do. Without the package, without credentials, or in a process that may
use none of its surroundings, there are no such lists.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from crossdock.content import ManifestRow
from crossdock.errors import NotFound, ProtocolError, Unsupported
from crossdock.oci.reference import is_repository
from crossdock.registry.auth.clouds import ecr_host
from crossdock.registry.listings.api import Api, Asked
from crossdock.registry.listings.rows import digest_of, moment_of, number_of, page_of_rows, tags_of, text_of
from crossdock.registry.pages import MAX_PAGES, PAGE_LIMIT, Page, list_in, page_of_names
from crossdock.url import Url

if TYPE_CHECKING:
    from crossdock.registry.client import Reply
    from crossdock.transport.base import Headers

PAGE = 1000  # the most that AWS gives
_SERVICE = "AmazonEC2ContainerRegistry_V20150921"
_THROTTLED = "ThrottlingException"
_TRIES = 5  # of a request that AWS throttles


def walk(asked: Asked) -> AsyncGenerator[Page, None]:
    """As `Api.walk`. # network"""
    return _pages(asked, "DescribeImages", {"repositoryName": asked.path}, read)


def walk_repositories(asked: Asked) -> AsyncGenerator[Page, None]:
    """The pages of the registry's repositories. Raises as `walk`. # network"""
    return _pages(asked, "DescribeRepositories", {}, read_repositories)


def read(reply: Reply) -> Page:
    """The rows of one response. Raises `ProtocolError` when it has no list of images."""
    return page_of_rows(list_in(reply, "imageDetails"), _row)


def read_repositories(reply: Reply) -> Page:
    """The names of one response. Raises `ProtocolError` when it has no list of repositories."""
    listed = list_in(reply, "repositories")
    return page_of_names(
        [each.get("repositoryName") if isinstance(each, dict) else each for each in listed], is_repository
    )


def _row(entry: Any) -> ManifestRow | None:
    if not isinstance(entry, dict) or (digest := digest_of(entry.get("imageDigest"))) is None:
        return None
    return ManifestRow(
        digest,
        tags_of(entry.get("imageTags")),
        text_of(entry.get("imageManifestMediaType")),
        number_of(entry.get("imageSizeInBytes")),
        moment_of(entry.get("imagePushedAt")),
        moment_of(entry.get("lastRecordedPullTime")),
    )


async def _pages(
    asked: Asked, operation: str, query: dict[str, Any], read: Any
) -> AsyncGenerator[Page, None]:
    client = asked.client
    found = ecr_host(client.host)
    bulk = asked.memory.bulk
    kept = bulk.signer if bulk is not None else None
    if isinstance(kept, Signer):
        signer = kept
    else:
        signer = await asyncio.to_thread(
            Signer.prepared,
            found,
            own_only=client.options.own_only,
            region=client.context.environ.get("AWS_REGION", ""),
        )
    if bulk is not None:
        bulk.signer = signer
    query = {**query, "maxResults": PAGE}
    if found is not None:
        query["registryId"] = found["account"]
    seen: set[str] = set()
    while True:
        reply = await _call(asked, signer, operation, query)
        page: Page = read(reply)
        yield page
        token = json.loads(reply.body).get("nextToken")
        if not token:
            return
        if not isinstance(token, str) or token in seen or len(seen) >= MAX_PAGES:
            raise ProtocolError(f"{operation} of {asked.path}: the list does not end")
        seen.add(token)
        query = {**query, "nextToken": token}


async def _call(asked: Asked, signer: Signer, operation: str, query: dict[str, Any]) -> Reply:
    """The response of AWS, which says 400 to everything that it refuses."""
    client, body = asked.client, json.dumps(query).encode()
    for _ in range(_TRIES):
        headers = await asyncio.to_thread(signer.headers, f"{_SERVICE}.{operation}", body)
        asked.authorization = ""  # of the registry; the signature is among the headers
        reply = await asked.request(
            "POST", signer.url, headers=headers, body=body, ok=(200, 400), limit=PAGE_LIMIT
        )
        if reply.status == 200:
            return reply
        kind = _kind_of(reply.body)
        if kind != _THROTTLED:
            error = client.error_from(400, reply.headers, reply.body, "POST", reply.url)
            if kind == "RepositoryNotFoundException":
                raise NotFound(str(error), status=404, method="POST", url=error.url)
            raise error
        client.throttle(reply.url.origin, 429, reply.headers)
    raise client.error_from(429, reply.headers, reply.body, "POST", reply.url)


def _kind_of(body: bytes) -> str:
    """``ThrottlingException`` of ``{"__type": "com.amazonaws.…#ThrottlingException"}``."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    kind = document.get("__type") if isinstance(document, dict) else None
    return kind.rpartition("#")[2] if isinstance(kind, str) else ""


class Signer:
    """Signs requests to the API of one region. Blocking: credentials may come from a file or another host."""

    def __init__(self, url: Url, region: str, credentials: Any) -> None:
        self.url = url
        self._region = region
        self._credentials = credentials

    @classmethod
    def prepared(cls, host: re.Match[str] | None, *, own_only: bool = False, region: str = "") -> Signer:
        """By the settings of this machine. Raises `Unsupported` without the package or credentials."""
        if own_only:
            raise Unsupported("the login that was given is not one for the API of AWS")
        try:
            from botocore.configprovider import ConfiguredEndpointProvider
            from botocore.exceptions import BotoCoreError
            from botocore.session import Session
        except ImportError:
            raise Unsupported("the package botocore is not installed: pip install 'crossdock[aws]'") from None
        try:
            session = Session()
            credentials = session.get_credentials()
            own_region = session.get_config_variable("region") or region
            region = host["region"] if host is not None else own_region or ""
            own_url = None
            if not session.get_config_variable("ignore_configured_endpoint_urls"):
                settings = session.full_config, session.get_scoped_config()
                own_url = ConfiguredEndpointProvider(*settings, "ecr").provide()
        except BotoCoreError as error:
            raise Unsupported(f"the settings of AWS cannot be used: {error}") from None
        if credentials is None or not region:
            raise Unsupported("there are no credentials for the API of AWS, or no region")
        return cls(Url.parse(own_url or _endpoint(region, host)).with_target("/"), region, credentials)

    def headers(self, target: str, body: bytes) -> Headers:
        """The headers of a POST of `body`, with its signature."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError

        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target}
        request = AWSRequest("POST", self.url.text, headers, body)
        try:
            SigV4Auth(self._credentials.get_frozen_credentials(), "ecr", self._region).add_auth(request)
        except BotoCoreError as error:
            raise Unsupported(f"the credentials for AWS cannot be used: {error}") from None
        return tuple(request.headers.items())


def _endpoint(region: str, host: re.Match[str] | None) -> str:
    domain = host["domain"] if host is not None else "amazonaws.com"
    if host is not None and domain.startswith("on."):
        return f"https://ecr{host['fips'] or ''}.{region}.api.{domain.removeprefix('on.')}/"
    if host is not None and host["fips"]:
        return f"https://ecr-fips.{region}.{domain}/"
    return f"https://api.ecr.{region}.{domain}/"


API = Api(name="ECR's", walk=walk)
