"""Quay, as its ``endpoints/api`` describe it: the tags of a repository, the repositories of a namespace."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any

from aiohttp import web

from crossdock_testing.listings.front import Front, page_of

MOST = 100  # entries of a page; more are cut to it
OAUTH_USER = "$oauthtoken"

_TAGS = re.compile(r"/api/v1/repository/(.+)/tag/")


class QuayDouble(Front):
    """Quay before a registry. Robots and users have passwords for ``/v2/``; the API takes OAuth tokens."""

    realm = "/v2/auth"

    def __init__(
        self,
        upstream: str,
        *,
        logins: Mapping[str, str] | None = None,
        is_private: bool = False,
        oauth_token: str = "",
        shows_catalog: bool = True,
        page: int = MOST,
    ) -> None:
        """`page`: the most entries of a page, to have several with few tags."""
        logins = {**(logins or {}), **({OAUTH_USER: oauth_token} if oauth_token else {})}
        super().__init__(upstream, logins=logins, is_private=is_private)
        self.oauth_token = oauth_token
        self.shows_catalog = shows_catalog
        self.page = page

    async def v2(self, request: web.Request, path: str) -> web.StreamResponse | None:
        if path == "/v2/_catalog" and not self.shows_catalog:
            return _error(403, "insufficient_scope", "Unauthorized")
        return None

    async def api(self, request: web.Request, path: str) -> web.StreamResponse | None:
        if not path.startswith("/api/v1/"):
            return web.Response(
                status=404, text="<!doctype html><title>404</title>", content_type="text/html"
            )
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme and (scheme.lower() != "bearer" or token != self.oauth_token or not token):
            return _error(401, "invalid_token", "Invalid bearer token format")
        if not scheme and self.is_private:
            return _error(401, "insufficient_scope", "Requires authentication")
        if request.method != "GET":
            return web.Response(status=405)
        if (found := _TAGS.fullmatch(path)) is not None:
            return await self._tags(request, found[1])
        if path == "/api/v1/repository":
            return await self._repositories(request)
        return _error(404, "not_found", "Not Found")

    async def _tags(self, request: web.Request, repository: str) -> web.StreamResponse:
        rows = await self.described(repository)
        if rows is None:
            return _error(404, "not_found", "Not Found")
        number = max(1, int(request.query.get("page", "1")))
        size = min(self.page, max(1, int(request.query.get("limit", "50"))))
        tags: list[dict[str, Any]] = [
            {
                "name": tag,
                "reversion": False,
                "start_ts": int(row.pushed),
                "manifest_digest": row.digest,
                "is_manifest_list": bool(row.children),
                "size": None if row.children else row.size,
                "last_modified": formatdate(row.pushed),
            }
            for row in rows
            for tag in row.tags
        ]
        if request.query.get("onlyActiveTags", "false").lower() not in ("true", "1"):
            dead = {"name": "gone", "manifest_digest": f"sha256:{'0' * 64}", "end_ts": 1, "reversion": False}
            tags.append(dead)  # the history has tags that are no more
        shown = page_of(tags, number, size)
        return web.json_response({"tags": shown, "page": number, "has_additional": number * size < len(tags)})

    async def _repositories(self, request: web.Request) -> web.StreamResponse:
        namespace = request.query.get("namespace", "")
        if not (namespace or request.query.get("public") == "true" or request.query.get("starred") == "true"):
            return _error(
                400, "invalid_request", "namespace, starred or public are required for this API call"
            )
        names = [name for name in await self.repositories() if name.startswith(f"{namespace}/")]
        start = int(base64.urlsafe_b64decode(request.query.get("next_page", "") or b"MA==").decode())
        shown = [
            {
                "namespace": namespace,
                "name": name.removeprefix(f"{namespace}/"),
                "is_public": not self.is_private,
            }
            for name in names[start : start + self.page]
        ]
        document: dict[str, Any] = {"repositories": shown}
        if start + self.page < len(names):
            document["next_page"] = base64.urlsafe_b64encode(str(start + self.page).encode()).decode()
        return web.json_response(document)


def _error(status: int, kind: str, message: str) -> web.Response:
    problem = {
        "status": status,
        "error_type": kind,
        "error_message": message,
        "detail": message,
        "title": kind,
    }
    return web.json_response(problem, status=status)
