"""Harbor, by its API's description (``api/v2.0/swagger.yaml``): artifacts and repositories of projects.

Its web interface answers every path that nothing else has, with 200 and a page.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from crossdock_testing.listings.front import ANONYMOUS, Described, Front, decoded, page_of, refusal

MOST = 100  # entries of a page; more are refused
NEVER = "0001-01-01T00:00:00.000Z"

_ARTIFACTS = re.compile(r"/api/v2\.0/projects/([^/]+)/repositories/([^/]+)/artifacts")
_REPOSITORIES = re.compile(r"/api/v2\.0/projects/([^/]+)/repositories")
_PROJECTS = "/api/v2.0/projects"
_ATTACHED = re.compile(r"sha256-([0-9a-f]{64})\..+")


class HarborDouble(Front):
    """Harbor before a registry. Repositories are ``PROJECT/NAME``."""

    service = "harbor-registry"
    realm = "/service/token"

    def __init__(
        self,
        upstream: str,
        *,
        logins: Mapping[str, str] | None = None,
        is_private: bool = False,
        administrators: Collection[str] = (),
        without_api: Collection[str] = (),
        projects: Collection[str] | None = None,
    ) -> None:
        """`administrators` see the catalog. `without_api`: users with no right to the API, as some robots.

        `projects`: those that are there; None: all.
        """
        super().__init__(upstream, logins=logins, is_private=is_private)
        self.administrators = frozenset(administrators)
        self.without_api = frozenset(without_api)
        self.projects = None if projects is None else set(projects)
        self.created: list[tuple[str, dict[str, Any]]] = []
        """What POSTs to the API of projects brought, by the path below it."""

    def _lacks(self, path: str) -> bool:
        """Whether the name belongs to a project that is not there."""
        return self.projects is not None and path.partition("/")[0] not in self.projects

    def grants(self, user: str, scope: str) -> bool:
        kind, name, _ = scope.split(":")
        if kind == "repository" and self._lacks(name):
            return False
        return not scope.startswith("registry:catalog:") or user in self.administrators

    async def v2(self, request: web.Request, path: str) -> web.StreamResponse | None:
        if path == "/v2/_catalog" and self.asked[-1].user not in self.administrators:
            return refusal(401, "UNAUTHORIZED", "unauthorized to list catalog")
        if self._lacks(name := path.removeprefix("/v2/")) and name:
            # As of a login without rights (src/server/middleware/v2auth/auth.go); there is no challenge then.
            return refusal(401, "UNAUTHORIZED", f"project {name.partition('/')[0]} not found")
        return None

    async def api(self, request: web.Request, path: str) -> web.StreamResponse | None:
        if not path.startswith("/api/"):
            return web.Response(text="<!doctype html><title>Harbor</title>", content_type="text/html")
        user = self.basic_user(request)
        if user is None or (user == ANONYMOUS and self.is_private):
            return refusal(401, "UNAUTHORIZED", "unauthorized")
        if user in self.without_api:
            return refusal(403, "FORBIDDEN", "forbidden")
        if path.startswith(_PROJECTS) and request.method in ("HEAD", "POST") and self.projects is not None:
            return await self._project(request, path.removeprefix(_PROJECTS), user)
        if request.method != "GET":
            return web.Response(status=405)
        path = decoded(path)  # routes are found in the decoded path: a name with a slash is encoded twice
        if (found := _ARTIFACTS.fullmatch(path)) is not None:
            return await self._artifacts(request, found[1], decoded(found[2]))
        if (found := _REPOSITORIES.fullmatch(path)) is not None:
            return await self._repositories(request, f"{found[1]}/")
        if path == "/api/v2.0/repositories":
            return await self._repositories(request, "")
        return web.Response(status=404, text="404: not found")

    async def _project(self, request: web.Request, below: str, user: str) -> web.Response:
        """Whether a project is there, a new one, or a rule of one."""
        assert self.projects is not None
        if request.method == "HEAD":
            return web.Response(status=200 if request.query["project_name"] in self.projects else 404)
        if user not in self.administrators:
            return refusal(403, "FORBIDDEN", "forbidden")
        document = await request.json()
        if below:
            project = below.removeprefix("/").removesuffix("/immutabletagrules")
            if project not in self.projects or not document["scope_selectors"]["repository"]:
                return refusal(400, "BAD_REQUEST", "the rule is not valid")
        elif document["project_name"] in self.projects:
            return refusal(409, "CONFLICT", f"The project named {document['project_name']} already exists")
        else:
            self.projects.add(document["project_name"])
        self.created.append((below, document))
        return web.Response(status=201)

    async def _artifacts(self, request: web.Request, project: str, name: str) -> web.StreamResponse:
        repository = f"{project}/{name}"
        rows = await self.described(repository)
        if rows is None:
            return refusal(404, "NOT_FOUND", f"repository {repository} not found")
        parts = {child for row in rows for child in row.children}
        subjects = {row.digest: subject for row in rows if (subject := _subject_of(row))}
        with_tag = request.query.get("with_tag", "true") == "true"
        shown = [
            _artifact(row, with_tag=with_tag)
            for row in rows
            if (row.tags or row.digest not in parts) and row.digest not in subjects
        ]
        if request.query.get("with_accessory") == "true":
            for artifact in shown:
                own = [row for row in rows if subjects.get(row.digest) == artifact["digest"]]
                artifact["accessories"] = [_accessory(row, artifact["digest"]) for row in own] or None
        return self._page(request, shown)

    async def _repositories(self, request: web.Request, start: str) -> web.StreamResponse:
        names = [name for name in await self.repositories() if name.startswith(start)]
        return self._page(request, [{"id": at, "name": name} for at, name in enumerate(names, 1)])

    def _page(self, request: web.Request, rows: list[Any]) -> web.StreamResponse:
        number, size = int(request.query.get("page", "1")), int(request.query.get("page_size", "10"))
        if not 1 <= size <= MOST or number < 1:
            return refusal(422, "UNPROCESSABLE_ENTITY", f"page_size in query should be at most {MOST}")
        headers = {"X-Total-Count": str(len(rows))}
        if number * size < len(rows):
            following = request.rel_url.update_query(page=number + 1)
            headers["Link"] = f'<{following.raw_path_qs}> ; rel="next"'
        return web.json_response(page_of(rows, number, size), headers=headers)


def _artifact(row: Described, *, with_tag: bool) -> dict[str, Any]:
    pushed = _time(row.pushed)
    tags = [{"name": tag, "push_time": pushed, "pull_time": NEVER, "immutable": False} for tag in row.tags]
    return {
        "digest": row.digest,
        "type": "IMAGE",
        "media_type": "application/vnd.oci.image.config.v1+json",
        "manifest_media_type": row.media_type,
        "size": row.size,
        "push_time": pushed,
        "pull_time": NEVER,
        "tags": (tags or None) if with_tag else None,
        "accessories": None,
        "references": [{"child_digest": child} for child in row.children] or None,
    }


def _accessory(row: Described, subject: str) -> dict[str, Any]:
    """What is attached, shown with its subject alone and without its tags."""
    return {
        "digest": row.digest,
        "subject_artifact_digest": subject,
        "size": row.size,
        "type": "signature.cosign",
        "creation_time": _time(row.pushed),
    }


def _subject_of(row: Described) -> str:
    """The manifest that it is attached to, by its subject or by cosign's tag; empty: none."""
    found = (_ATTACHED.fullmatch(tag) for tag in row.tags)
    return row.subject or next((f"sha256:{each[1]}" for each in found if each is not None), "")


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
