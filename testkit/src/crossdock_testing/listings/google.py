"""Artifact Registry and Container Registry: a list of tags describes manifests and the names below it."""

from __future__ import annotations

import re
from typing import Any

from aiohttp import web

from crossdock_testing.listings.front import Front, refusal

_TAGS = re.compile(r"/v2/(.+)/tags/list")


class GoogleDouble(Front):
    """Google's registry before another one. It has no catalog."""

    def __init__(self, upstream: str, *, counts_in_text: bool = True, **settings: Any) -> None:
        """`counts_in_text`: times are texts, as at gcr.io; else numbers, as at pkg.dev."""
        super().__init__(upstream, **settings)
        self._count = str if counts_in_text else int

    async def api(self, request: web.Request, path: str) -> web.StreamResponse | None:
        return None

    async def v2(self, request: web.Request, path: str) -> web.StreamResponse | None:
        if path == "/v2/_catalog":
            return refusal(404, "NAME_UNKNOWN", "the requested URL was not found")
        if request.method != "GET" or (found := _TAGS.fullmatch(path)) is None:
            return None
        name = found[1]
        below = {
            each[len(name) + 1 :].partition("/")[0]
            for each in await self.repositories()
            if each.startswith(f"{name}/")
        }
        rows = await self.described(name)
        if rows is None and not below:
            return refusal(404, "NAME_UNKNOWN", f"Repository {name} not found")
        manifests = {
            row.digest: {
                "imageSizeBytes": str(row.size),
                "layerId": "",
                "mediaType": row.media_type,
                "tag": list(row.tags),
                "timeCreatedMs": "0",
                "timeUploadedMs": self._count(int(row.pushed * 1000)),
            }
            for row in rows or ()
        }
        tags = sorted(tag for row in rows or () for tag in row.tags)
        document = {"child": sorted(below), "manifest": manifests, "name": name, "tags": tags}
        return web.json_response(document)
