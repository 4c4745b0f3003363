"""A plain registry client for checks: http.client, one request at a time, no retries, no cleverness.

It exists so that the product never judges itself: content goes up and is read back by these lines.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import ssl
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import urlsplit

ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "*/*",
    )
)


def sha256(data: bytes) -> str:
    """The digest string of `data`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Reply:
    """One whole response."""

    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Remote:
    """One registry, spoken to directly."""

    host: str  # host:port
    tls: ssl.SSLContext | None = None  # None: plain HTTP
    basic: str = ""  # user:password
    bearer: str = ""

    def request(
        self,
        method: str,
        path: str,
        body: bytes | BinaryIO | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """Send one request, absolute paths or absolute URLs of this host, and read the whole response."""
        parts = urlsplit(path)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        send = {"Accept": ACCEPT, **(headers or {})}
        if self.basic:
            send["Authorization"] = "Basic " + base64.b64encode(self.basic.encode()).decode()
        elif self.bearer:
            send["Authorization"] = "Bearer " + self.bearer
        connection: http.client.HTTPConnection
        if self.tls is None:
            connection = http.client.HTTPConnection(self.host, timeout=60)
        else:
            connection = http.client.HTTPSConnection(self.host, timeout=60, context=self.tls)
        try:
            connection.request(method, path, body=body, headers=send)
            answer = connection.getresponse()
            fields = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, fields, answer.read())
        finally:
            connection.close()

    def _expect(self, reply: Reply, *statuses: int) -> Reply:
        assert reply.status in statuses, f"{self.host} answered {reply.status}: {reply.body[:500]!r}"
        return reply

    def push_blob(self, repository: str, data: bytes) -> str:
        """Upload the bytes in one PUT; returns their digest."""
        digest = sha256(data)
        opened = self._expect(self.request("POST", f"/v2/{repository}/blobs/uploads/", b""), 202)
        location = opened.headers["location"]
        location += ("&" if "?" in location else "?") + f"digest={digest}"
        kind = {"Content-Type": "application/octet-stream"}
        self._expect(self.request("PUT", location, data, kind), 201)
        return digest

    def push_manifest(self, repository: str, data: bytes, media_type: str, reference: str = "") -> str:
        """PUT the manifest under a tag, or under its digest; returns the digest."""
        digest = sha256(data)
        path = f"/v2/{repository}/manifests/{reference or digest}"
        reply = self._expect(self.request("PUT", path, data, {"Content-Type": media_type}), 201)
        assert reply.headers["docker-content-digest"] == digest
        return digest

    def manifest(self, repository: str, reference: str) -> Reply:
        """The manifest as served; the caller judges the status."""
        return self.request("GET", f"/v2/{repository}/manifests/{reference}")

    def blob(self, repository: str, digest: str) -> bytes:
        """The blob's bytes; fails when it is not there."""
        return self._expect(self.request("GET", f"/v2/{repository}/blobs/{digest}"), 200).body

    def has_blob(self, repository: str, digest: str) -> bool:
        """Whether HEAD finds the blob."""
        return self.request("HEAD", f"/v2/{repository}/blobs/{digest}").status == 200

    def tags(self, repository: str) -> list[str]:
        """The repository's tags, none when the repository does not exist."""
        reply = self._expect(self.request("GET", f"/v2/{repository}/tags/list"), 200, 404)
        return sorted(reply.json().get("tags") or []) if reply.status == 200 else []
