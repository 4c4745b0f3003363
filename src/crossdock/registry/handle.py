"""A repository handle: client, name, rights and listener of the requests about one repository."""

from __future__ import annotations

from collections.abc import Awaitable, Collection
from typing import TYPE_CHECKING, Self

from crossdock.errors import CrossdockError
from crossdock.registry.auth.authorization import Scope

if TYPE_CHECKING:
    from crossdock.registry.client import OnRetry, RegistryClient, Reply
    from crossdock.registry.memory import HostMemory
    from crossdock.transport.base import Headers
    from crossdock.url import Url


class Repository:
    """One repository of a registry, with the rights that its requests need.

    Many handles share a client, which somebody else closes. `on_retry` is called for the retries of this
    handle's requests.
    """

    def __init__(
        self, client: RegistryClient, path: str, scope: Scope, on_retry: OnRetry | None = None
    ) -> None:
        """`path`: the repository's name within the registry; empty for requests about the registry."""
        self.client = client
        self.path = path
        self.scope = scope
        self.on_retry = on_retry
        self.rank = 0
        """How many copies had claimed blobs at the registry when the one of this handle did."""

    @classmethod
    def to_read(cls, client: RegistryClient, path: str) -> Self:
        """A handle with the right to pull."""
        return cls(client, path, Scope.pull(path))

    @property
    def memory(self) -> HostMemory:
        """The memory about the registry."""
        return self.client.memory

    def request(
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
    ) -> Awaitable[Reply]:
        """As `RegistryClient.request`, with this repository's scope and listener. # network"""
        return self.client.request(
            method,
            target,
            scope=self.scope,
            headers=headers,
            body=body,
            ok=ok,
            limit=limit,
            timeout=timeout,
            retry=retry,
            on_retry=self.on_retry,
        )

    async def write(
        self,
        method: str,
        target: str,
        *,
        headers: Headers = (),
        body: bytes | None = None,
        ok: Collection[int] = (200,),
        retry: bool = True,
    ) -> Reply:
        """As `request`, for writes: a missing repository is created if that is wanted. # network

        Raises as `Creation.create` too.
        """
        creation = self.client.creation
        if creation is not None and not creation.knows(self.path):
            try:
                reply = await self.request(method, target, headers=headers, body=body, ok=ok, retry=False)
            except CrossdockError as error:
                if not await creation.create(self, error) and not (retry and error.retryable):
                    raise
            else:
                creation.took(self.path)
                return reply
        return await self.request(method, target, headers=headers, body=body, ok=ok, retry=retry)

    def note_retry(self, operation: str, error: BaseException) -> None:
        """Report a retry that `request` does not make itself, such as of an upload's request after a 503."""
        if self.on_retry is not None:
            self.on_retry(operation, str(error))
