"""ECR and ECR Public: their API at AWS, whose signatures (SigV4) are checked: lists, logins, creation.

The API and the registry are one server here; `AWS_ENDPOINT_URL_ECR` (`_ECR_PUBLIC`) and the inventory's
``hosts`` lead there.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from crossdock_testing.listings.front import Front, refusal

MOST = 1000  # entries of a page
KEY, SECRET = "AKIDEXAMPLE", "only-for-tests"
REGION = "eu-west-1"
ACCOUNT = "123456789012"
REGISTRY = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"

_NAME = re.compile(r"/v2/(.+?)/(?:blobs|manifests|tags|referrers)/")
_SKEW_S = 300.0
_SIGNED = re.compile(
    r"AWS4-HMAC-SHA256 "
    r"Credential=(?P<key>[^/]+)/(?P<day>\d{8})/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request, "
    r"SignedHeaders=(?P<headers>[a-z0-9;-]+), Signature=(?P<signature>[0-9a-f]{64})"
)


class Refused(Exception):
    """What AWS answers with 400; ``args``: the type of the error, and its message."""


class EcrDouble(Front):
    """ECR before a registry."""

    prefix = "AmazonEC2ContainerRegistry_V20150921."
    scope = REGION, "ecr"  # of signatures

    def __init__(
        self,
        upstream: str,
        *,
        page: int = MOST,
        throttles: int = 0,
        keys: Mapping[str, tuple[str, str]] | None = None,
        is_guarded: bool = False,
        repositories: Collection[str] | None = None,
        **settings: Any,
    ) -> None:
        """`page`: the most entries of a page. `throttles`: so many requests are refused for their rate.

        `keys`: secret and session token by access key, read at each request. `is_guarded`: the registry is
        shown to logins of GetAuthorizationToken only. `repositories`: those that are there; None: all.
        """
        super().__init__(upstream, **settings)
        self.keys = {KEY: (SECRET, "")} if keys is None else keys
        self.is_guarded = is_guarded
        self.there = None if repositories is None else set(repositories)
        self.created: list[dict[str, Any]] = []
        """The requests of CreateRepository that were granted."""
        self.may_create = True
        self.issued: list[str] = []
        """The passwords of logins, the newest last."""
        self.ended: set[str] = set()
        """Those that have expired."""
        self.login_s = 43_200.0
        self.page = page
        self.throttles = throttles
        self.refusals: list[str] = []
        self._marks: dict[str, tuple[str, int]] = {}

    async def v2(self, request: web.Request, path: str) -> web.StreamResponse | None:
        if path == "/v2/_catalog":
            return refusal(405, "UNSUPPORTED", "The operation is unsupported.")
        if self.is_guarded and (refused := self._guard(request)) is not None:
            return refused
        name = _NAME.match(path)
        if self.there is not None and name is not None and name[1] not in self.there:
            message = (
                f"The repository with name '{name[1]}' does not exist in the registry with id '{ACCOUNT}'"
            )
            return refusal(404, "NAME_UNKNOWN", message)
        return None

    def _guard(self, request: web.Request) -> web.Response | None:
        """ECR's words to a request without a good login."""
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Basic":
            challenge = f'Basic realm="https://{REGISTRY}/",service="ecr.amazonaws.com"'
            return web.Response(status=401, text="Not Authorized\n", headers={"WWW-Authenticate": challenge})
        user, _, password = base64.b64decode(text).decode().partition(":")
        if user != "AWS" or password not in self.issued:
            return refusal(400, "DENIED", "Your Authorization Token is invalid.")
        if password in self.ended:
            message = "Your authorization token has expired. Reauthenticate and try again."
            return refusal(403, "DENIED", message)
        return None

    async def api(self, request: web.Request, path: str) -> web.StreamResponse | None:
        if path != "/" or request.method != "POST":
            return web.Response(status=404, text="<UnknownOperationException/>")
        body = await request.read()
        try:
            if request.headers.get("Content-Type") != "application/x-amz-json-1.1":
                raise Refused("SerializationException", "not the JSON of AWS")
            self._check_signature(request, body)
            document = await self._answer(request.headers.get("X-Amz-Target", ""), json.loads(body))
        except Refused as error:
            kind, message = error.args
            self.refusals.append(kind)
            return web.json_response(
                {"__type": kind, "message": message}, status=400, content_type="application/x-amz-json-1.1"
            )
        return web.json_response(document, content_type="application/x-amz-json-1.1")

    async def _answer(self, target: str, query: dict[str, Any]) -> dict[str, Any]:
        if self.throttles:
            self.throttles -= 1
            raise Refused("ThrottlingException", "Rate exceeded")
        if query.get("registryId", ACCOUNT) != ACCOUNT:
            raise Refused("RepositoryNotFoundException", "no such registry")
        if target == f"{self.prefix}GetAuthorizationToken":
            return {"authorizationData": self._login()}
        if target == f"{self.prefix}CreateRepository":
            return self._create(query)
        if target == f"{self.prefix}DescribeRepositories":
            names = [{"repositoryName": name, "registryId": ACCOUNT} for name in await self.repositories()]
            return self._page("repositories", names, query)
        if target != f"{self.prefix}DescribeImages":
            raise Refused("UnknownOperationException", target)
        name = query.get("repositoryName", "")
        rows = await self.described(name)
        if rows is None:
            message = f"The repository with name '{name}' does not exist in the registry with id '{ACCOUNT}'"
            raise Refused("com.amazonaws.ecr#RepositoryNotFoundException", message)
        details = [
            {
                "registryId": ACCOUNT,
                "repositoryName": name,
                "imageDigest": row.digest,
                "imageSizeInBytes": row.size,
                "imagePushedAt": row.pushed,
                "imageManifestMediaType": row.media_type,
                **({"imageTags": list(row.tags)} if row.tags else {}),
            }
            for row in rows
        ]
        return self._page("imageDetails", details, query)

    def _login(self) -> Any:
        self.issued.append(secrets.token_urlsafe(48))
        token = base64.b64encode(f"AWS:{self.issued[-1]}".encode()).decode()
        ends = time.time() + self.login_s
        return [{"authorizationToken": token, "expiresAt": ends, "proxyEndpoint": f"https://{REGISTRY}"}]

    def _create(self, query: dict[str, Any]) -> dict[str, Any]:
        name = query.get("repositoryName")
        if not isinstance(name, str) or not name:
            raise Refused("InvalidParameterException", "repositoryName is needed")
        if not self.may_create:
            raise Refused(
                "AccessDeniedException",
                f"User: arn:aws:sts::{ACCOUNT}:assumed-role/mover/s is not authorized to perform: "
                "ecr:CreateRepository",
            )
        if self.there is None or name in self.there:
            raise Refused(
                "RepositoryAlreadyExistsException", f"The repository with name '{name}' already exists"
            )
        self.there.add(name)
        self.created.append(query)
        return {"repository": {"repositoryName": name, "registryId": ACCOUNT}}

    def _page(self, member: str, rows: list[Any], query: dict[str, Any]) -> dict[str, Any]:
        size = query.get("maxResults", 100)
        if not isinstance(size, int) or not 1 <= size <= MOST:
            raise Refused("InvalidParameterException", f"maxResults must be between 1 and {MOST}")
        start, size = 0, min(size, self.page)
        if (token := query.get("nextToken")) is not None:
            known, start = self._marks.get(token, ("", 0))
            if known != member:
                raise Refused("InvalidParameterException", "Invalid parameter at 'nextToken'")
        document: dict[str, Any] = {member: rows[start : start + size]}
        if start + size < len(rows):
            document["nextToken"] = mark = secrets.token_urlsafe(24)
            self._marks[mark] = member, start + size
        return document

    def _check_signature(self, request: web.Request, body: bytes) -> None:
        """Sign what came as botocore does, and compare."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        header = request.headers.get("Authorization", "")
        if not header:
            raise Refused("MissingAuthenticationTokenException", "Missing Authentication Token")
        signed = _SIGNED.fullmatch(header)
        if signed is None:
            raise Refused("IncompleteSignatureException", "the header does not have the form of SigV4")
        if signed["key"] not in self.keys:
            raise Refused(
                "UnrecognizedClientException", "The security token included in the request is invalid."
            )
        if (signed["region"], signed["service"]) != self.scope:
            raise Refused("InvalidSignatureException", f"Credential should be scoped to {self.scope}")
        secret, session = self.keys[signed["key"]]
        if request.headers.get("X-Amz-Security-Token", "") != session:
            raise Refused(
                "UnrecognizedClientException", "The security token included in the request is invalid."
            )
        names = signed["headers"].split(";")
        needed = {"host", "x-amz-date", "x-amz-target", *(["x-amz-security-token"] if session else [])}
        if not needed <= set(names):
            raise Refused("InvalidSignatureException", "host, x-amz-date and x-amz-target must be signed")
        stamp = request.headers.get("X-Amz-Date", "")
        moment = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs(datetime.now(UTC).timestamp() - moment.timestamp()) > _SKEW_S or signed["day"] != stamp[:8]:
            raise Refused("InvalidSignatureException", "Signature expired")
        again = AWSRequest("POST", f"http://{request.host}/", {}, body)
        for name in names:
            again.headers[name] = request.headers.get(name, "")
        again.context["timestamp"] = stamp
        region, service = self.scope
        signer = SigV4Auth(Credentials(signed["key"], secret), service, region)
        expected = signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)
        if not secrets.compare_digest(expected, signed["signature"]):
            raise Refused("InvalidSignatureException", "The request signature we calculated does not match")


class EcrPublicDouble(EcrDouble):
    """ECR Public before a registry. The login is good for its token service; strangers may read."""

    prefix = "SpencerFrontendService."
    scope = "us-east-1", "ecr-public"
    service = "public.ecr.aws"
    realm = "/token/"

    def _login(self) -> Any:
        login = super()._login()[0]
        self.logins["AWS"] = self.issued[-1]
        return {"authorizationToken": login["authorizationToken"], "expiresAt": login["expiresAt"]}
