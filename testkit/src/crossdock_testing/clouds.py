"""What gives an identity to a machine of a cloud, on loopback: AWS's STS and EKS Pod Identity, Google's
metadata service and STS, GitHub's OIDC. Each refuses what the real one refuses.

The keys and tokens that they issue are those that `listings.ecr.EcrDouble` and Google's registry take.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.sax.saxutils import escape

from aiohttp import web

from crossdock_testing.threads import ThreadedServer

LIFETIME_S = 3600
ROLE = "arn:aws:iam::123456789012:role/mover"
POOL = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/github"

_STS = "https://sts.amazonaws.com/doc/2011-06-15/"
_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_JWT = "urn:ietf:params:oauth:token-type:jwt"
_ACCOUNT = "/computeMetadata/v1/instance/service-accounts/"


class CloudIdentities(ThreadedServer):
    """All of them on one port. `asked`: the paths of requests, with the action of STS."""

    def __init__(self) -> None:
        super().__init__("cloud identities")
        self.asked: list[str] = []
        self.web_identity = secrets.token_urlsafe(24)
        """The token that Kubernetes projects into a pod, and that STS takes."""
        self.pod_token = secrets.token_urlsafe(24)
        """The token for the endpoint of EKS Pod Identity."""
        self.runner_token = secrets.token_urlsafe(24)
        """GitHub's ``ACTIONS_ID_TOKEN_REQUEST_TOKEN``."""
        self.keys: dict[str, tuple[str, str]] = {}
        """Secret and session token by access key."""
        self.access_tokens: list[str] = []
        """Those of Google, the newest last."""
        self._id_tokens: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def count(self, word: str) -> int:
        """How many requests have `word` in what was asked."""
        return sum(word in each for each in tuple(self.asked))

    async def _serve(self) -> None:
        app = web.Application()
        app.router.add_post("/", self._sts)
        app.router.add_get("/v1/credentials", self._pod_identity)
        app.router.add_get("/oidc", self._github)
        app.router.add_post("/v1/token", self._google_sts)
        app.router.add_get("/{path:.*}", self._metadata)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.port = runner.addresses[0][1]
            await self._until_closed()
        finally:
            await runner.cleanup()

    # -- AWS -----------------------------------------------------------------------------------------------

    def _new_key(self) -> tuple[str, str, str, str]:
        key, secret, token = (
            f"ASIA{secrets.token_hex(8).upper()}",
            secrets.token_hex(20),
            secrets.token_hex(60),
        )
        self.keys[key] = secret, token
        ends = datetime.now(UTC) + timedelta(seconds=LIFETIME_S)
        return key, secret, token, ends.strftime("%Y-%m-%dT%H:%M:%SZ")

    async def _sts(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.asked.append(f"sts {form.get('Action', '')}")
        if form.get("Action") != "AssumeRoleWithWebIdentity" or form.get("Version") != "2011-06-15":
            return _xml_error("InvalidAction", "Could not find operation")
        if "Authorization" in request.headers:
            return _xml_error("InvalidAction", "this operation is not signed")
        if form.get("WebIdentityToken") != self.web_identity:
            return _xml_error(
                "InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider"
            )
        if form.get("RoleArn") != ROLE or not form.get("RoleSessionName"):
            return _xml_error("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
        key, secret, token, ends = self._new_key()
        return web.Response(
            text=f'<AssumeRoleWithWebIdentityResponse xmlns="{_STS}"><AssumeRoleWithWebIdentityResult>'
            "<Credentials>"
            f"<AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>"
            f"<SessionToken>{token}</SessionToken><Expiration>{ends}</Expiration></Credentials>"
            f"<AssumedRoleUser><Arn>{escape(ROLE)}/s</Arn><AssumedRoleId>A:s</AssumedRoleId></AssumedRoleUser>"
            "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>",
            content_type="text/xml",
        )

    async def _pod_identity(self, request: web.Request) -> web.Response:
        self.asked.append("pod identity")
        if request.headers.get("Authorization") != self.pod_token:
            return web.Response(status=401, text="Unauthorized")
        key, secret, token, ends = self._new_key()
        return web.json_response(
            {"AccessKeyId": key, "SecretAccessKey": secret, "Token": token, "Expiration": ends}
        )

    # -- Google and GitHub ---------------------------------------------------------------------------------

    def _new_token(self) -> dict[str, Any]:
        self.access_tokens.append(f"ya29.{secrets.token_urlsafe(40)}")
        return {"access_token": self.access_tokens[-1], "expires_in": LIFETIME_S, "token_type": "Bearer"}

    async def _metadata(self, request: web.Request) -> web.Response:
        self.asked.append(f"metadata {request.path}")
        answer: Any = None
        if request.headers.get("Metadata-Flavor") != "Google":
            return web.Response(status=403, text="Missing Metadata-Flavor:Google header.")
        if request.path == "/":
            answer = "computeMetadata/\n"
        elif request.path == "/computeMetadata/v1/project/project-id":
            answer = "project"
        elif request.path == f"{_ACCOUNT}default/":
            answer = {"email": "mover@project.iam.gserviceaccount.com", "aliases": ["default"], "scopes": []}
        elif request.path in (
            f"{_ACCOUNT}default/token",
            f"{_ACCOUNT}mover@project.iam.gserviceaccount.com/token",
        ):
            answer = self._new_token()
        headers = {"Metadata-Flavor": "Google"}
        if isinstance(answer, str):
            return web.Response(text=answer, headers=headers, content_type="application/text")
        return web.json_response(answer, headers=headers, status=404 if answer is None else 200)

    async def _github(self, request: web.Request) -> web.Response:
        self.asked.append("github oidc")
        if request.headers.get("Authorization") != f"bearer {self.runner_token}":
            return web.Response(status=401)
        token = secrets.token_urlsafe(24)
        self._id_tokens.add(f"{token}@{request.query.get('audience', '')}")
        return web.json_response({"count": 1, "value": token})

    async def _google_sts(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.asked.append("google sts")
        if form.get("grant_type") != _EXCHANGE or form.get("subject_token_type") != _JWT:
            return web.json_response({"error": "unsupported_grant_type"}, status=400)
        if form.get("audience") != POOL or f"{form.get('subject_token')}@https:{POOL}" not in self._id_tokens:
            return web.json_response(
                {"error": "invalid_grant", "error_description": "no such token"}, status=400
            )
        if not form.get("scope"):
            return web.json_response({"error": "invalid_scope"}, status=400)
        issued = "urn:ietf:params:oauth:token-type:access_token"
        return web.json_response({**self._new_token(), "issued_token_type": issued})


def _xml_error(code: str, message: str) -> web.Response:
    text = (
        f'<ErrorResponse xmlns="{_STS}"><Error><Type>Sender</Type><Code>{code}</Code>'
        f"<Message>{escape(message)}</Message></Error><RequestId>0</RequestId></ErrorResponse>"
    )
    return web.Response(status=400, text=text, content_type="text/xml")
