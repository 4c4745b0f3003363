"""A Dask cluster as the place where units of work are done: workers found, units sent, failures told apart.

Nothing here knows what a unit is. Units hold values of flags, which may be secrets: they are arguments of
tasks, never keys, and a unit is logged by its number.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

from msgspec import Struct

from crossdock import __version__
from crossdock.errors import Advice, CrossdockError, InvalidOption
from crossdock.oci.text import quote
from crossdock.tasks import stop

U = TypeVar("U")
R = TypeVar("R")

CONNECT_S = 5.0
ANSWER_S = 5.0  # of all workers, to a question that none has to think about
SILENCE_S = 30.0  # a worker of a local cluster that says nothing for so long is given up
LOOK_S = 0.25  # a unit looks so often whether its run was cancelled
TRIES = 3  # of a unit whose worker died

_cancelled: set[str] = set()  # runs, in a worker


class WorkerLost(CrossdockError):
    """Workers died, one after the other, while they worked on a unit."""


class Cluster:
    """The workers of one run. Made by `open_cluster`."""

    def __init__(self, client: Any, run: str, silence: float, on_warning: Callable[[str], None]) -> None:
        self._client = client
        self._run = run
        self._warn = on_warning
        self._silence = silence
        self._told: set[str] = set()
        self._left_out: set[str] = set()

    async def check(self) -> None:
        """Find workers of this version. Raises `InvalidOption` when there is none."""
        await self._client.wait_for_workers(1, timeout=CONNECT_S)
        if not await self._workers():
            raise InvalidOption(
                f"no worker of the cluster has crossdock {__version__}",
                advice=Advice("same-version", f"install crossdock {__version__} where the workers run"),
            )

    async def _workers(self) -> dict[str, int]:
        """The workers that get work, and how many units each takes at once."""
        known: dict[str, tuple[int, float]] = await self._client.run_on_scheduler(_known)
        for worker, (_, silent_s) in list(known.items()):
            if silent_s > self._silence:
                del known[worker]
                await self._give_up(worker)
        new = [each for each in known if each not in self._told]
        versions = await self._ask(_version, new) if new else {}
        for worker, version in versions.items():
            self._told.add(worker)
            if version != __version__:
                self._left_out.add(worker)
                shown = version if isinstance(version, str) else "none"
                self._warn(
                    f"worker {worker} gets no work: its crossdock is {shown}, and this is {__version__}"
                )
        return {worker: threads for worker, (threads, _) in known.items() if worker not in self._left_out}

    async def _ask(self, what: Callable[[], Any], workers: list[str] | None = None) -> dict[str, Any]:
        """What workers answer at once; nothing when one of them says nothing."""
        try:
            asked = self._client.run(what, workers=workers, on_error="return")
            return dict(await asyncio.wait_for(asked, ANSWER_S))
        except TimeoutError:
            return {}

    async def _give_up(self, worker: str) -> None:
        """Have the scheduler forget a worker without a heartbeat, so that others do its units."""
        self._warn(f"worker {worker} is given up: it has said nothing for {self._silence:g} s")
        self._left_out.add(worker)
        await self._client.run_on_scheduler(_forget, worker=worker)

    async def slots(self) -> int:
        """How many units are worked on at once."""
        return max(1, sum((await self._workers()).values()))

    async def each(
        self, work: Callable[[U], R], units: Sequence[U]
    ) -> AsyncIterator[tuple[U, R | Exception]]:
        """Do `work`, a function of a module, on each unit, the first first, and tell each end.

        A unit whose worker died is done by another. Cancelling ends it on all workers.
        """
        pending = list(enumerate(units))
        futures: dict[asyncio.Future[Any], U] = {}
        try:
            while pending or futures:
                workers = await self._workers()
                while pending and len(futures) < max(1, sum(workers.values())):
                    number, unit = pending.pop(0)
                    future = self._client.submit(
                        work,
                        unit,
                        key=f"crossdock-{self._run}-{number}",
                        pure=False,
                        retries=0,
                        workers=list(workers),
                    )
                    futures[asyncio.ensure_future(_outcome(future))] = unit
                done, _ = await asyncio.wait(futures, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    yield futures.pop(each), each.result()
        finally:
            if futures:
                await asyncio.shield(self._ask(partial(_cancel, self._run)))
                await stop(*futures)


async def _outcome(future: Any) -> Any:
    """The result of a unit, or the error that it ended with."""
    try:
        return await future
    except Exception as error:
        if type(error).__name__ == "KilledWorker":
            return WorkerLost("the workers that had it died")
        return error


def cancellable(run: str, work: Coroutine[Any, Any, R]) -> R:
    """The result of `work`, in a worker's thread; it is cancelled when its run is."""

    async def watched() -> R:
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                if run in _cancelled:
                    task.cancel()
                await asyncio.wait({task}, timeout=LOOK_S)
        finally:
            await stop(task)
        return await task

    return asyncio.run(watched())


def _version() -> str:
    return __version__


def _known(dask_scheduler: Any) -> dict[str, tuple[int, float]]:
    """The threads of each worker, and how long it has said nothing."""
    now = time.time()
    return {
        address: (each.nthreads, now - each.last_seen) for address, each in dask_scheduler.workers.items()
    }


async def _forget(worker: str, dask_scheduler: Any) -> None:
    await dask_scheduler.remove_worker(worker, stimulus_id="crossdock-silent")


def _cancel(run: str) -> None:
    _cancelled.add(run)


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

    def check(self, *, secrets: bool) -> None:
        """Raise `InvalidOption` for an address that is none, and where secrets would travel unencrypted."""
        if self.address is None:
            return
        try:
            parts = urlsplit(self.address)
            port, host = parts.port, parts.hostname
        except ValueError:
            port = host = None
        if parts.scheme not in ("tcp", "tls") or not port or not host:
            raise InvalidOption(f"{quote(self.address)} is not tcp://HOST:PORT or tls://HOST:PORT")
        if secrets and parts.scheme == "tcp" and not _is_loopback(host):
            raise InvalidOption(
                f"credentials that were given here would go to {host} unencrypted",
                advice=Advice("use-tls", "use tls://, or give the workers credentials of their own"),
            )


@asynccontextmanager
async def open_cluster(
    place: ClusterPlace, run: str, on_warning: Callable[[str], None]
) -> AsyncIterator[Cluster]:
    """The cluster, while it is used. # network

    Raises `InvalidOption` when there is no scheduler at the address, or no worker that can be used.
    """
    distributed = require_dask()
    import dask

    settings = {
        "distributed.scheduler.worker-ttl": f"{place.silence}s",
        "distributed.scheduler.allowed-failures": TRIES,
        "distributed.comm.timeouts.connect": f"{CONNECT_S}s",
    }
    address = place.address
    async with AsyncExitStack() as stack:
        stack.enter_context(dask.config.set(settings))
        # It logs lost connections when workers come and go, which is told as far as it matters.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        if address is None:
            local = distributed.LocalCluster(
                n_workers=place.workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                asynchronous=True,
                silence_logs=logging.CRITICAL,
            )
            address = (await stack.enter_async_context(local)).scheduler_address
        security = None
        if place.ca_file or place.cert_file or place.key_file:
            security = distributed.Security(
                tls_ca_file=place.ca_file,
                tls_client_cert=place.cert_file,
                tls_client_key=place.key_file or place.cert_file,
                require_encryption=True,
            )
        try:
            client = await stack.enter_async_context(
                distributed.Client(
                    address, asynchronous=True, timeout=CONNECT_S, set_as_default=False, security=security
                )
            )
        except (OSError, ValueError, TypeError) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise InvalidOption(f"no Dask scheduler answers at {address}: {reason}") from error
        found = Cluster(client, run, place.silence, on_warning)
        try:
            await found.check()
        except TimeoutError as error:
            raise InvalidOption(f"the cluster at {address} has no workers") from error
        yield found


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


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
