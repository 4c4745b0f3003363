"""The small requests about one blob's upload sessions: open, ask, drop; and looking for the blob itself."""

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

CANCEL_TIMEOUT_S = 5.0  # for one DELETE of a session; a registry drops it by itself in the end
_OPENED = (200, 201, 202)
_BINARY = (("Content-Type", "application/octet-stream"),)  # zot answers 415 without it
_ASKED = (200, 202, 204)
_DROPPED = (200, 202, 204, 404)
_STALE = 416  # distribution 3, to a DELETE by another `_state` than that of the bytes it holds: ask for it
_DROP_PAUSES_S = (0.1, 0.4, 1.0)  # a request that was cut may still be on its way into the session


class UploadRequests:
    """What is asked of one repository about one blob's way up, but for the bytes themselves."""

    def __init__(self, repository: Repository, descriptor: Descriptor) -> None:
        self._repository = repository
        self._descriptor = descriptor
        self._opening: asyncio.Task[Reply] | None = None
        self.cookies = SessionCookies()
        self.is_begun = False
        """Something was asked of the target."""

    def prepare(self) -> None:
        """Send the POST for a session now; `open` waits for its answer."""
        self._begin(endpoints.uploads(self._repository.path, self._descriptor.digest.algorithm), b"", _OPENED)

    async def open(self) -> Reply:
        """The answer that opened a session, with its Location. # network"""
        path = endpoints.uploads(self._repository.path, self._descriptor.digest.algorithm)
        return checked(await self._post(path, b"", _OPENED))

    async def post_whole(self, data: bytes) -> Reply:
        """The response, 201 or 202, to one POST with the blob in it (U18). One try. # network"""
        path = endpoints.single_post(self._repository.path, self._descriptor.digest)
        return await self._post(path, data, (201, 202), retry=False)

    async def late_answer(self) -> Reply | None:
        """The response to a POST that was not waited for; None when there was none. # network"""
        if self._opening is None:
            return None
        reply = await self._opening
        return reply if self.leads_to_session(reply) else None

    def leads_to_session(self, reply: Reply) -> bool:
        """Whether the answer to a POST leads to a session, and not to the blob or nowhere."""
        location = reply.headers.get("Location", "").partition("?")[0]
        return bool(location) and not location.endswith(self._descriptor.digest)

    async def ask(self, location: str) -> tuple[int, HeaderLookup]:
        """Status and headers of the session's state; status 0 when there was no answer. # network"""
        url = Url.parse(location)
        try:
            reply = await self._repository.request(
                "GET", url, headers=self.cookies.headers_for(url), ok=_ASKED
            )
        except CrossdockError as error:
            return getattr(error, "status", 0), {}
        return reply.status, reply.headers

    async def drop(self, location: str) -> None:
        """DELETE a session (U17); its failure changes nothing. # network"""
        if not location:
            return
        url = Url.parse(location)
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
        """Whether the target says that it has the blob. # network"""
        try:
            return await blob_exists(self._repository, self._descriptor)
        except CrossdockError:
            return False

    def _begin(
        self, path: str, body: bytes, ok: Collection[int], *, retry: bool = True
    ) -> asyncio.Task[Reply]:
        self.is_begun = True
        self._opening = asyncio.ensure_future(
            self._repository.request(
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
            # Cancelled here, the registry may have opened a session whose Location only the answer tells.
            reply = await asyncio.shield(opening)  # network
        except CrossdockError as error:
            self._opening = None
            if not isinstance(error, NotFound):
                raise
            raise error.replace(advice=Advice("create-repository")) from error.__cause__
        self._opening = None
        return reply


def checked(reply: Reply) -> Reply:
    """The answer that opened a session. Raises `ProtocolError` when it does not say which."""
    if not reply.headers.get("Location", ""):
        raise ProtocolError(f"POST {reply.url}: an upload was opened without a Location")
    return reply
