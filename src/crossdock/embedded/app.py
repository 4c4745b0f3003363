"""The embedded registry as an aiohttp application: distribution-spec 1.1 over OCI layouts.

For the demo, for tests, and to serve layouts where no other registry is available. Without a users file
(`acr.accounts`) everyone who reaches its port may read, write and delete, or only read. There are no quotas.
`repositories` describes the layout of content on disk.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import AsyncIterator
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from aiohttp import web

from crossdock import __version__
from crossdock.embedded import browsers
from crossdock.embedded.acr import locks
from crossdock.embedded.bodies import PeerGone, drain
from crossdock.embedded.counts import Counts, Visit
from crossdock.embedded.repositories import UPLOADS_FOLDER, Repositories
from crossdock.embedded.responses import Refused
from crossdock.embedded.routes import ENDPOINTS, Route, check_mount_source, find_route
from crossdock.embedded.uploads import Uploads
from crossdock.errors import ContentError, StoreError
from crossdock.store.folder import Folder
from crossdock.tasks import in_thread

if TYPE_CHECKING:
    from crossdock.embedded.acr.access import Access

log = logging.getLogger(__name__)

Anonymous = Literal["read", "write"]

SERVER = f"crossdock/{__version__}"  # by which `registry/kinds.json` knows it
HEADERS = {
    "Docker-Distribution-Api-Version": "registry/2.0",
    "X-Content-Type-Options": "nosniff",  # content has its declared type, and is never shown as a page
}
READ_BUFFER = 1 << 20  # bytes of a body that wait in memory before the socket is paused
COSTLY = 4  # concurrent requests that may read and parse many manifests, out of the threads of `serve`
DRAINED = 1 << 20  # bytes of a refused body that are read to keep the connection


class Registry:
    """The state behind the application."""

    def __init__(self, root: Path, access: Access | None = None, anonymous: Anonymous | None = None) -> None:
        self.access = access  # None: everyone who reaches the port has the rights in `anonymous`
        self.anonymous = anonymous  # None: all rights, under loopback names
        self.counts = Counts()
        self.repositories = Repositories(root)
        # Limits long requests in threads, so that threads remain for short ones.
        self.costly = asyncio.Semaphore(COSTLY)
        self.uploads = Uploads(Folder(root).below(UPLOADS_FOLDER), shares=4 if access is not None else 2)

    def reload(self) -> None:
        """Reload the users file. Raises `InvalidOption`, `StoreError`, which leave the users unchanged."""
        if self.access is not None:
            self.access.reload()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Respond to any request, and count it."""
        visit = Visit()
        self.counts.in_flight += 1
        try:
            response = await self._respond(request, visit)
        finally:
            self.counts.in_flight -= 1
        received = getattr(request.content, "total_bytes", 0)  # an empty body has none
        sent = 0 if request.method == "HEAD" else response.content_length or 0
        self.counts.responded(request.method, response.status, visit, received=received, sent=sent)
        return response

    async def _respond(self, request: web.Request, visit: Visit) -> web.StreamResponse:
        """The response; errors take the specification's form."""
        try:
            browsers.check_origin(request)
            if self.access is not None and request.path.startswith("/oauth2/"):
                return await self.access.oauth2(request)
            route = find_route(request.method, request.path)
            visit.endpoint = route.endpoint
            check_mount_source(request.query)
            route = replace(route, owner=await self._admit(request, route))
            await self._check_locks(request, route)
            handler = ENDPOINTS[route.endpoint].handlers[request.method]
            async with self.costly if route.is_costly(request.method) else nullcontext():
                return await handler(self, request, route)
        except Refused as refused:
            return await self._refuse(request, refused)
        except PeerGone:
            # No client receives this response; the bytes that arrived are kept for a client that resumes the
            # upload.
            return self._closing(request, Refused("BLOB_UPLOAD_INVALID", "the body broke off"))
        except StoreError as error:
            log.error("%s %s: %s", request.method, request.rel_url.raw_path, error)
            return self._closing(request, _without_paths(error))
        except ContentError as error:
            log.error("%s %s: %s", request.method, request.rel_url.raw_path, error)
            message = "the repository's content on the server is damaged; see the server's log"
            return await self._refuse(request, Refused("UNKNOWN", message))
        except Exception as error:  # a defect: one line in the log, the traceback at debug level
            log.error("%s %s: %s", request.method, request.rel_url.raw_path, repr(error))
            log.debug("traceback", exc_info=True)
            return self._closing(request, Refused("UNKNOWN", "internal error"))

    async def _admit(self, request: web.Request, route: Route) -> str:
        """The owner of the request's upload: a user, else an address. Raises `Refused`."""
        if self.access is not None:
            user = "" if route.is_own else await self.access.admit(request, route)
            return f"user {user}" if user else f"address {request.remote}"
        if self.anonymous is None and route.endpoint != "health":
            browsers.check_name(request)
        if self.anonymous == "read" and request.method not in ("GET", "HEAD"):
            raise Refused("DENIED", "this registry is read-only")
        return f"address {request.remote}"

    async def _check_locks(self, request: web.Request, route: Route) -> None:
        if route.name:
            repository = self.repositories.at(route.name)
            if locks.may_have_locks(repository.files.folder):
                tags = request.query.getall("tag", [])
                await in_thread(locks.check_locks, repository, request.method, route, tags)

    async def _refuse(self, request: web.Request, refused: Refused) -> web.Response:
        """The error response; the connection is kept if little of the body remains to be read."""
        if not request.can_read_body:
            return refused.response()
        if request.content_length is None or request.content_length > DRAINED:
            return self._closing(request, refused)
        try:
            await drain(request)
        except PeerGone:
            return self._closing(request, refused)
        return refused.response()

    @staticmethod
    def _closing(request: web.Request, refused: Refused) -> web.Response:
        response = refused.response()
        response.force_close()
        return response


def _without_paths(error: StoreError) -> Refused:
    """The error as clients see it; only the log names files of this machine."""
    if error.errno == errno.EXDEV:
        return Refused("DENIED", "the repository's folder on the server leads elsewhere")
    reason = os.strerror(error.errno) if error.errno else "see its log"
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return Refused("UNKNOWN", f"the server's storage failed: {reason}", status=507 if full else 500)


REGISTRY = web.AppKey("registry", Registry)


def make_app(root: Path, users: Path | None = None, anonymous: Anonymous | None = None) -> web.Application:
    """The registry over the layouts in folder `root`, which is created when missing.

    `users`: the users file (`acr.accounts`). Without it everyone has the rights in `anonymous`; None means
    all rights, for requests to loopback names. Raises OSError, `InvalidOption`.
    """
    registry = Registry(root, _access(users) if users is not None else None, anonymous)
    app = web.Application(handler_args={"auto_decompress": False, "read_bufsize": READ_BUFFER})
    app[REGISTRY] = registry
    app.router.add_route("*", "/{path:.*}", registry.handle)
    app.on_response_prepare.append(_name_the_api)
    app.cleanup_ctx.append(lambda app: _sweeping(registry.uploads))
    return app


def _access(users: Path) -> Access:
    from crossdock.embedded.acr.access import Access  # not loaded for registries without users

    return Access(users)


async def _name_the_api(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.extend(HEADERS)
    response.headers["Server"] = SERVER


async def _sweeping(uploads: Uploads) -> AsyncIterator[None]:
    task = asyncio.create_task(uploads.sweep())
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await uploads.close()
