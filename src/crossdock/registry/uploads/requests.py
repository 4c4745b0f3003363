"""The small requests of one blob's upload: open, query and delete a session; check that the blob exists."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING

from crossdock.errors import (
    Advice,
    CrossdockError,
    NotFound,
    ProtocolError,
    RegistryError,
    TransportError,
)
from crossdock.oci.descriptor import Descriptor
from crossdock.protocol import endpoints
from crossdock.protocol.cookies import SessionCookies
from crossdock.protocol.headers import HeaderLookup
from crossdock.protocol.redirect import next_hop
from crossdock.registry.blobs.blob import blob_exists
from crossdock.url import Url

if TYPE_CHECKING:
    from crossdock.registry.client import Reply
    from crossdock.registry.handle import Repository

CANCEL_TIMEOUT_S = 5.0  # for one DELETE of a session; registries expire sessions eventually
_OPENED = (200, 201, 202)
_BINARY = (("Content-Type", "application/octet-stream"),)  # zot answers 415 without it
_ASKED = (200, 202, 204)
_DROPPED = (200, 202, 204, 404)
_STALE = 416  # distribution 3, to a DELETE whose `_state` is out of date: query the new one
_DROP_PAUSES_S = (0.1, 0.4, 1.0)  # the registry may still be processing a request that was cut


class UploadRequests:
    """All requests of one blob's upload except those that carry its bytes."""

    def __init__(self, repository: Repository, descriptor: Descriptor) -> None:
        self._repository = repository
        self._descriptor = descriptor
        self._opening: asyncio.Task[Reply] | None = None
        self.cookies = SessionCookies()
        self.is_begun = False
        """A request has been sent to the target."""

    def prepare(self) -> None:
        """Send the POST for a session now; `open` awaits its response."""
        self._begin(endpoints.uploads(self._repository.path, self._descriptor.digest.algorithm), b"", _OPENED)

    async def open(self) -> Reply:
        """The response that opened a session, with its Location. # network"""
        path = endpoints.uploads(self._repository.path, self._descriptor.digest.algorithm)
        return checked(await self._post(path, b"", _OPENED))

    async def find(self) -> Reply | None:
        """Request a mount from the repository itself. Returns the response; None: refused. # network

        A 201 means that the blob is there, a 202 has opened a session for it (M6).
        """
        path = self._repository.path
        mount = endpoints.mount(path, self._descriptor.digest, path)
        try:
            return await self._post(mount, b"", (201, 202), retry=False)
        except (RegistryError, TransportError):
            return None
        finally:
            self.is_begun = False

    async def post_whole(self, data: bytes) -> Reply:
        """The response, 201 or 202, to one POST that contains the blob (U18). Not retried. # network"""
        path = endpoints.single_post(self._repository.path, self._descriptor.digest)
        return await self._post(path, data, (201, 202), retry=False)

    async def late_answer(self) -> Reply | None:
        """The response to a POST that was not awaited; None if there is none. # network"""
        if self._opening is None:
            return None
        reply = await self._opening
        return reply if self.leads_to_session(reply) else None

    def leads_to_session(self, reply: Reply) -> bool:
        """Whether a POST's response has the Location of a session, rather than that of the blob or none."""
        location = reply.headers.get("Location", "").partition("?")[0]
        return bool(location) and not location.endswith(self._descriptor.digest)

    async def ask(self, url: Url) -> tuple[int, HeaderLookup]:
        """Status and headers of a query of the session; status 0 without a response. # network"""
        try:
            reply = await self._repository.request(
                "GET", url, headers=self.cookies.headers_for(url), ok=_ASKED
            )
        except CrossdockError as error:
            return getattr(error, "status", 0), {}
        return reply.status, reply.headers

    async def drop(self, url: Url | None) -> None:
        """DELETE a session (U17); failures are ignored. # network"""
        if url is None:
            return
        with suppress(CrossdockError, TimeoutError):
            async with asyncio.timeout(CANCEL_TIMEOUT_S):
                for pause in _DROP_PAUSES_S:
                    if (await self._tidy("DELETE", url, (*_DROPPED, _STALE))).status != _STALE:
                        return
                    await asyncio.sleep(pause)
                    newest = (await self._tidy("GET", url, _ASKED)).headers.get("Location", "")
                    url = next_hop(url, newest, registry=self._repository.client.origin)
                await self._tidy("DELETE", url, _DROPPED)

    async def _tidy(self, method: str, url: Url, ok: Collection[int]) -> Reply:
        return await self._repository.request(
            method,
            url,
            headers=self.cookies.headers_for(url),
            ok=ok,
            timeout=CANCEL_TIMEOUT_S,
            retry=False,
        )

    async def look(self) -> bool:
        """Whether the target reports that it has the blob. # network"""
        try:
            return await blob_exists(self._repository, self._descriptor)
        except CrossdockError:
            return False

    def _begin(
        self, path: str, body: bytes, ok: Collection[int], *, retry: bool = True
    ) -> asyncio.Task[Reply]:
        self.is_begun = True
        self._opening = asyncio.ensure_future(
            self._repository.write(
                "POST",
                path,
                headers=_BINARY if body else (),
                body=body,
                ok=ok,
                retry=retry,
            )
        )
        return self._opening

    async def _post(self, path: str, body: bytes, ok: Collection[int], *, retry: bool = True) -> Reply:
        opening = self._opening or self._begin(path, body, ok, retry=retry)
        try:
            # If this is cancelled, the registry may have opened a session that only the response names.
            reply = await asyncio.shield(opening)  # network
        except CrossdockError as error:
            self._opening = None
            if not isinstance(error, NotFound):
                raise
            raise error.replace(advice=Advice("create-repository")) from error.__cause__
        self._opening = None
        return reply


def checked(reply: Reply) -> Reply:
    """The response that opened a session. Raises `ProtocolError` if it has no Location."""
    if not reply.headers.get("Location", ""):
        raise ProtocolError(f"POST {reply.url}: the response that opened an upload has no Location")
    return reply
