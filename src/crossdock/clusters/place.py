"""The Dask cluster to use, and the connection to it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from crossdock.errors import Advice, InvalidOption
from crossdock.oci.text import quote
from crossdock.options import CopyOptions
from crossdock.protocol.redirect import is_loopback

CONNECT_S = 5.0
SILENCE_S = 30.0
_LOCAL = {
    # The server has Dask's modules once for all workers, which then start in a tenth of the time.
    "distributed.worker.multiprocessing-method": "forkserver",
    # A hundred times a second Dask would look at their stacks, for a dashboard that they do not have.
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.monitor-interval": "1s",
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "5s",
}
"""Dask's settings of workers that are processes of this machine."""


class ClusterPlace(Struct, frozen=True, kw_only=True):
    """The cluster to use: that of the scheduler at `address`, or one of `workers` processes of this machine.

    A worker that says nothing for `silence` seconds is given up. The files are for TLS; without them the
    settings of Dask itself hold.
    """

    address: str | None = None
    workers: int = 1
    silence: float = SILENCE_S
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    def check(self, options: CopyOptions) -> None:
        """Raise `InvalidOption` without Dask, for a wrong address, or secrets that would travel in plain.

        No I/O.
        """
        require_dask()
        files = self.ca_file or self.cert_file or self.key_file
        if self.address is None:
            if files:
                raise InvalidOption(
                    "certificates are for the address of a cluster: local workers make their own"
                )
            return
        if self._scheme == "tcp" and files:
            raise InvalidOption(f"certificates are for tls://, and the address is {quote(self.address)}")
        given = options.source.credentials or options.target.credentials
        if given is not None and not self.is_private:
            raise InvalidOption(
                f"credentials that were given here would go to {self._host} unencrypted",
                advice=Advice("use-tls", "use tls://, or give the workers credentials of their own"),
            )

    @property
    def is_private(self) -> bool:
        """Whether messages stay here or are encrypted. Raises `InvalidOption` for a wrong address."""
        return self.address is None or self._scheme == "tls" or is_loopback(self._host)

    @property
    def _scheme(self) -> str:
        return self._parts()[0]

    @property
    def _host(self) -> str:
        return self._parts()[1]

    def _parts(self) -> tuple[str, str]:
        assert self.address is not None
        try:
            parts = urlsplit(self.address)
            port, host = parts.port, parts.hostname
        except ValueError:
            port = host = None
        if not port or not host or parts.scheme not in ("tcp", "tls"):
            raise InvalidOption(f"{quote(self.address)} is not tcp://HOST:PORT or tls://HOST:PORT")
        return parts.scheme, host


@asynccontextmanager
async def connected(place: ClusterPlace) -> AsyncIterator[tuple[Any, str]]:
    """A client of the cluster, and its address. # network

    Raises `InvalidOption` when there is no scheduler at the address.
    """
    distributed = require_dask()
    import dask

    settings = {
        "distributed.scheduler.worker-ttl": f"{place.silence}s",
        "distributed.comm.timeouts.connect": f"{CONNECT_S}s",
    }
    async with AsyncExitStack() as stack:
        stack.enter_context(dask.config.set(settings))
        # It logs lost connections when workers come and go; those that matter are reported anyway.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        address, security = place.address, None
        if address is None:
            stack.enter_context(dask.config.set(_LOCAL))
            # Without certificates anybody on this machine could send the workers code.
            security = distributed.Security.temporary()
            local = distributed.LocalCluster(
                n_workers=place.workers,
                threads_per_worker=1,
                processes=True,
                protocol="tls",
                host="127.0.0.1",
                security=security,
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": False},
                memory_limit=None,  # `CopyOptions.memory` bounds what a worker takes
                asynchronous=True,
                silence_logs=logging.CRITICAL,
            )
            address = (await stack.enter_async_context(local)).scheduler_address
        elif place.ca_file or place.cert_file or place.key_file:
            security = distributed.Security(
                tls_ca_file=place.ca_file,
                tls_client_cert=place.cert_file,
                tls_client_key=place.key_file or place.cert_file,
                require_encryption=True,
            )
        client = distributed.Client(
            address, asynchronous=True, timeout=CONNECT_S, set_as_default=False, security=security
        )
        try:
            await stack.enter_async_context(client)
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise InvalidOption(f"no Dask scheduler answers at {address}: {reason}") from error
        yield client, address


def require_dask() -> Any:
    """The module `distributed`. Raises `InvalidOption` without it."""
    try:
        import distributed
    except ImportError as error:
        raise InvalidOption(
            "clusters need Dask, which is not installed",
            advice=Advice("install-extra", "pip install crossdock[dask]"),
        ) from error
    return distributed
