"""What all of these doubles share: they pass ``/v2/`` on to a real registry, and describe what it holds.

A double answers as the public description of its API says, and refuses what the real one refuses. What it
lists is asked of the real registry each time, so that its rows are never older than the content.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from aiohttp import ClientSession, ClientTimeout, web
from yarl import URL

from crossdock_testing.threads import ThreadedServer

ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
ANONYMOUS = ""
PUSHED_AT = 1_700_000_000.0  # of what was pushed past the double

_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "expect"}
)
_MANIFEST = re.compile(r"/v2/(?P<name>.+)/manifests/[^/]+")
_INDEXES = frozenset(
    {
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    }
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that came."""

    method: str
    target: str  # as it was sent
    user: str | None  # None: no login, or not one that was recognized

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


@dataclass(frozen=True, slots=True)
class Described:
    """A manifest that the registry holds."""

    digest: str
    media_type: str
    size: int  # of its config and layers; of an index that of the entry
    tags: tuple[str, ...]
    pushed: float
    children: tuple[str, ...] = ()
    subject: str = ""


@dataclass
class _Found:
    tags: list[str] = field(default_factory=list)
    media_type: str = ""
    document: dict[str, Any] = field(default_factory=dict)


class Front(ThreadedServer):
    """The part of a double that is not its API. Subclasses answer in `api`."""

    service = ""  # of the token service; empty: its host
    realm = "/token"

    def __init__(
        self, upstream: str, *, logins: Mapping[str, str] | None = None, is_private: bool = False
    ) -> None:
        """`upstream` is the ``host:port`` of a registry that speaks plain HTTP. `logins`: passwords by user.

        `is_private`: nothing is shown without one of these.
        """
        super().__init__(f"{type(self).__name__}-double")
        self.upstream = upstream
        self.logins = dict(logins or {})
        self.is_private = is_private
        self.asked: list[Asked] = []
        self.pushed: dict[tuple[str, str], float] = {}
        """When a manifest of a repository was pushed through here, by name and digest."""
        self._tokens: dict[str, str] = {}
        self._session: ClientSession | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def count(self, pattern: str) -> int:
        """How many requests have a target that matches from its beginning."""
        return sum(re.match(pattern, each.target) is not None for each in tuple(self.asked))

    # -- for subclasses ------------------------------------------------------------------------------------

    async def api(self, request: web.Request, path: str) -> web.StreamResponse | None:
        """The response to a request that is not for ``/v2/``. `path` is as it was sent."""
        raise NotImplementedError

    async def v2(self, request: web.Request, path: str) -> web.StreamResponse | None:
        """A response in place of the registry's; None: pass the request on."""
        return None

    def basic_user(self, request: web.Request) -> str | None:
        """Who sent it by Basic; `ANONYMOUS` without a header, None for a wrong login or another scheme."""
        header = request.headers.get("Authorization", "")
        if not header:
            return ANONYMOUS
        scheme, _, text = header.partition(" ")
        if scheme.lower() != "basic":
            return None
        user, _, password = base64.b64decode(text).decode().partition(":")
        return user if secrets.compare_digest(self.logins.get(user, "\0"), password) else None

    async def repositories(self) -> list[str]:
        """The names of the real registry's catalog."""
        return list((await self._json("/v2/_catalog?n=1000"))["repositories"] or [])

    async def described(self, repository: str) -> list[Described] | None:
        """What the repository holds, newest push first; None: there is no such repository."""
        listed = await self._json(f"/v2/{repository}/tags/list")
        if listed is None:
            return None
        found: dict[str, _Found] = {}
        for tag in listed.get("tags") or []:
            await self._describe(repository, tag, found)
        for name, digest in tuple(self.pushed):
            if name == repository and digest not in found:
                await self._describe(repository, digest, found)
        rows = [self._row(repository, digest, each) for digest, each in found.items()]
        return sorted(rows, key=lambda row: (-row.pushed, row.digest))

    # -- the server ----------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        try:
            await site.start()
            self.port = runner.addresses[0][1]
            timeout = ClientTimeout(total=60)
            async with ClientSession(auto_decompress=False, timeout=timeout) as self._session:
                await self._until_closed()
        finally:
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        user = self._bearer_user(request) if path.startswith("/v2/") else self.basic_user(request)
        self.asked.append(Asked(request.method, request.raw_path, user))
        if path == self.realm:
            return self._token(request)
        if not path.startswith("/v2/"):
            return await self.api(request, path) or web.Response(status=404, text="404: not found")
        if self.logins and not self._may_enter(path, user):
            service = self.service or self.host
            challenge = f'Bearer realm="http://{self.host}{self.realm}",service="{service}"'
            return refusal(401, "UNAUTHORIZED", "authentication required", {"WWW-Authenticate": challenge})
        return await self.v2(request, path) or await self._pass_on(request)

    def _may_enter(self, path: str, user: str | None) -> bool:
        if user is None:
            return False
        return user != ANONYMOUS or (path != "/v2/" and not self.is_private)

    def _bearer_user(self, request: web.Request) -> str | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return self._tokens.get(token) if scheme.lower() == "bearer" else None

    def grants(self, user: str, scope: str) -> bool:
        """Whether a token of this user is good for a scope that it asks for."""
        return True

    def _token(self, request: web.Request) -> web.Response:
        user = self.basic_user(request)
        if user is None:
            return refusal(401, "UNAUTHORIZED", "the login is wrong")
        access = []
        for scope in " ".join(request.query.getall("scope", [])).split():
            kind, name, actions = scope.split(":")
            granted = actions.split(",") if self.grants(user, scope) else []
            access.append({"type": kind, "name": name, "actions": granted})
        # A web token that says what it is good for; nobody but this server has to believe it.
        parts = [{"alg": "none"}, {"sub": user, "access": access, "jti": secrets.token_urlsafe(8)}]
        token = ".".join((*(_without_padding(json.dumps(part).encode()) for part in parts), "unsigned"))
        self._tokens[token] = user
        return web.json_response({"token": token, "expires_in": 300})

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        assert self._session is not None
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in _HOP_BY_HOP | {"authorization"}
        }
        data = request.content if request.body_exists else None
        url = URL(f"http://{self.upstream}{request.raw_path}", encoded=True)
        async with self._session.request(
            request.method, url, headers=headers, data=data, allow_redirects=False
        ) as reply:
            kept = {name: value for name, value in reply.headers.items() if name.lower() not in _HOP_BY_HOP}
            response = web.StreamResponse(status=reply.status, headers=kept)
            await response.prepare(request)
            if request.method != "HEAD":
                async for piece in reply.content.iter_chunked(1 << 16):
                    await response.write(piece)
            await response.write_eof()
            if (
                request.method == "PUT"
                and reply.status == 201
                and (found := _MANIFEST.fullmatch(request.path))
            ):
                self.pushed[found["name"], reply.headers["Docker-Content-Digest"]] = time.time()
            return response

    # -- what the registry holds ---------------------------------------------------------------------------

    async def _json(self, target: str) -> Any:
        """The document; None for a 404."""
        assert self._session is not None
        async with self._session.get(f"http://{self.upstream}{target}") as reply:
            if reply.status == 404:
                return None
            reply.raise_for_status()
            return json.loads(await reply.read())

    async def _describe(self, repository: str, reference: str, found: dict[str, _Found]) -> None:
        assert self._session is not None
        url = f"http://{self.upstream}/v2/{repository}/manifests/{reference}"
        async with self._session.get(url, headers={"Accept": ACCEPT}) as reply:
            if reply.status == 404:
                return
            reply.raise_for_status()
            one = found.setdefault(reply.headers["Docker-Content-Digest"], _Found())
            one.media_type = reply.headers["Content-Type"]
            one.document = json.loads(await reply.read())
            if ":" not in reference:
                one.tags.append(reference)

    def _row(self, repository: str, digest: str, found: _Found) -> Described:
        document = found.document
        parts = [*([document["config"]] if "config" in document else []), *document.get("layers", [])]
        children = [each["digest"] for each in document.get("manifests", [])]
        return Described(
            digest,
            found.media_type,
            sum(part["size"] for part in (*parts, *document.get("manifests", []))),
            tuple(sorted(found.tags)),
            self.pushed.get((repository, digest), PUSHED_AT),
            tuple(children) if found.media_type in _INDEXES else (),
            (document.get("subject") or {}).get("digest", ""),
        )


def refusal(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """An error in the form of the distribution specification, which Harbor's API has as well."""
    problem = {"errors": [{"code": code, "message": message}]}
    return web.json_response(problem, status=status, headers=headers)


def _without_padding(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def page_of(rows: list[Any], number: int, size: int) -> list[Any]:
    """The rows of a page; the first one is page 1."""
    return rows[(number - 1) * size : number * size]


def decoded(part: str) -> str:
    """A part of a path, once decoded."""
    return unquote(part)
