"""One API that lists the manifests of a repository, and the requests to it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection
from typing import TYPE_CHECKING

from msgspec import Struct

from crossdock.registry.handle import Repository
from crossdock.registry.pages import Page

if TYPE_CHECKING:
    from crossdock.registry.client import Reply
    from crossdock.transport.base import Headers
    from crossdock.url import Url


class Api(Struct, frozen=True, kw_only=True):
    """One listing API: how to walk it, and which fields it has."""

    name: str  # for the log
    walk: Callable[[Asked], AsyncGenerator[Page, None]]
    """The pages of a repository's list, whose entries are `content.ManifestRow`. Raises as `pages.pages`."""
    has: Callable[[str], bool] = lambda path: True
    """Whether a repository can have such a name there."""
    knows: Callable[[bytes], bool] = lambda body: False
    """Whether the body of a 404 is this API's for a repository that is not there."""
    shows_untagged: bool = True
    comes_with_names: bool = False  # the list of repositories may have brought it
    shows_attached: bool = True  # tags that are made of digests are among its tags


class Asked(Repository):
    """The requests to such an API about one repository, within the registry's gate."""

    def __init__(self, repository: Repository, *, retries: bool = True) -> None:
        """Start with the rights of `repository`; the API may change `scope` and `authorization`."""
        super().__init__(repository.client, repository.path, repository.scope, repository.on_retry)
        self.retries = retries
        self.authorization: str | None = None
        """Sent in place of the registry's own, unless it is empty; None: the registry's own by `scope`."""
        self.not_found = b""  # the body of a 404
        self.sees_all = True  # nothing without a tag is hidden

    async def request(
        self,
        method: str,
        target: str | Url,
        *,
        headers: Headers = (),
        body: bytes | None = None,
        ok: Collection[int] = (200,),
        limit: int | None = None,
        timeout: float | None = None,
        retry: bool = True,
    ) -> Reply:
        """As `Repository.request`. # network"""
        own = (("Authorization", self.authorization),) if self.authorization else ()
        reply = await self.client.request(
            method,
            target,
            scope=self.scope if self.authorization is None else None,
            headers=(*own, *headers),
            body=body,
            ok=(*ok, 404),
            limit=limit,
            timeout=timeout,
            retry=retry and self.retries,
            on_retry=self.on_retry,
        )
        if reply.status == 404 and 404 not in ok:
            self.not_found = reply.body
            raise self.client.error_from(404, reply.headers, reply.body, method, reply.url)
        return reply
