"""Runs one cell of the grid with the library, on a new event loop, and counts leftovers."""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import trustme
import uvloop

import crossdock
from crossdock.cli.failure import error_text
from crossdock.errors import CopyError, root_cause
from crossdock.imagebuilder import ImageBuilder
from crossdock.options import CopyOptions, NetworkOptions, RegistryOptions
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Fault, Seen, redirect
from grid.cells import Cell, Fails
from grid.faults import LARGE, PART, WAIT_S, Subject, fault, is_from_storage
from support.docker_registry import DockerRegistry
from support.images import Graph, assert_holds, push

BOUND_S = 120.0  # of one copy, on a machine that is busy with other things
SILENT = ("stall", "throttle")  # faults that only a time-out ends
_SECRET = re.compile(r"not-to-be-logged|_state=(?!…)|[?&](token|sig)=(?!…)|Bearer \S{20}")


@dataclass(frozen=True)
class Run:
    """A cell, with its fault happening once or for ever."""

    cell: Cell
    persists: bool

    def __str__(self) -> str:
        return f"{self.cell}, {'always' if self.persists else 'once'}"

    @property
    def expected(self) -> str:
        """The class of the error that ends the copy; empty: none does."""
        outcome = self.cell.outcome
        return outcome.kind if isinstance(outcome, Fails) and (self.persists or outcome.at_once) else ""

    @property
    def repository(self) -> str:
        """A name at the target that no other run has."""
        return "grid/" + re.sub(r"[^a-z0-9]+", "-", str(self).lower())


@dataclass
class Bench:
    """Shared by all runs: two registries, the image in the source, the previous image in the target."""

    source: DockerRegistry
    target: DockerRegistry
    home: Path
    authority: trustme.CA
    subject: Subject
    graph: Graph
    builder: ImageBuilder
    before: str = field(default="")

    @property
    def repository(self) -> str:
        """Where the source has the image."""
        return "grid/image"

    def server_tls(self) -> ssl.SSLContext:
        """For a proxy that speaks TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("127.0.0.1").configure_cert(context)
        return context

    def run(self, run: Run) -> None:
        """Run the cell. Raises `AssertionError` if it does not behave as expected."""
        with ExitStack() as stack:
            Attempt(self, run, stack).check()


def make_bench(
    source: DockerRegistry, target: DockerRegistry, home: Path, authority: trustme.CA, realm: str
) -> Bench:
    """Push the image."""
    builder = ImageBuilder(seed=5)
    large, small = builder.random_layer(LARGE), builder.random_layer(40_000)
    image = builder.image([large, small])
    graph = push(source.remote, "grid/image", builder, builder.index([image]), "v1")
    data = {digest: builder.read(digest) for digest in (*graph.blobs, *graph.manifests)}
    data["v1"] = data[graph.root]
    authority.cert_pem.write_to_path(str(home / "ca.pem"))
    subject = Subject(large.digest, small.digest, image.digest, data, realm)
    return Bench(source, target, home, authority, subject, graph, builder)


class Attempt:
    """One copy between two proxies."""

    def __init__(self, bench: Bench, run: Run, stack: ExitStack) -> None:
        self.bench = bench
        self.cell, self.run = run.cell, run
        self.stack = stack
        self.proxies: list[FaultProxy] = []
        self.source = self._proxy(bench.source, "source")
        self.target = self._proxy(bench.target, "target")
        self.faulty = self.source if self.cell.side == "source" else self.target
        self.fault = self._plan()
        self.before = self._tag_before()
        self.home = bench.home / run.repository.replace("/", "-")
        self.home.mkdir()

    def check(self) -> None:
        """Copy, and check the outcome."""
        error: BaseException | None = None
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            try:
                result = runner.run(self._copy())
            except (crossdock.CrossdockError, asyncio.CancelledError) as raised:
                error = raised
        assert self.fault.reached.is_set(), "the fault never happened"
        remote = self.bench.target.remote
        if error is None:
            assert not self.run.expected, f"the copy succeeded, with {result.retries} retries"
            assert result.digest == self.bench.graph.root
            assert_holds(remote, self.run.repository, "v1", self.bench.graph)
        else:
            self._judge(error)
            assert remote.tags(self.run.repository) == ["v1"]
            assert hashlib.sha256(remote.manifest(self.run.repository, "v1").body).hexdigest() == self.before
        assert list(self.home.iterdir()) == [], "files are left"
        self._check_sessions()
        self._check_requests()

    # -- before --------------------------------------------------------------------------------------------

    def _proxy(self, registry: DockerRegistry, side: str, hostname: str = "127.0.0.1") -> FaultProxy:
        secure = self.cell.side == side and (self.cell.place == "TLS" or self.cell.fault == "no close_notify")
        tls = self.bench.server_tls() if secure else None
        proxy = FaultProxy(registry.host, tls=tls, hostname=hostname)
        self.stack.callback(proxy.close)
        self.proxies.append(proxy)
        return proxy

    def _plan(self) -> Fault:
        cell, subject = self.cell, self.bench.subject
        at_storage = is_from_storage(cell)
        if at_storage or cell.fault == "redirect":
            registry = self.bench.source if cell.side == "source" else self.bench.target
            elsewhere = self._proxy(registry, "", "localhost")
            subject = replace(subject, elsewhere=elsewhere.url)
        planned = fault(cell, subject, persists=self.run.persists)
        if at_storage:
            digest = subject.small if cell.place == "head" else subject.large
            self.source.add(
                Fault(lambda seen: seen.is_blob_get(digest), times=None, answer=redirect(elsewhere.url))
            )
            return elsewhere.add(planned)
        return self.faulty.add(planned)

    def _tag_before(self) -> str:
        """Give the tag to another image; the SHA-256 of its manifest."""
        image = self.bench.builder.image([])
        push(self.bench.target.remote, self.run.repository, self.bench.builder, image, "v1")
        return image.digest.partition(":")[2]

    # -- the copy ------------------------------------------------------------------------------------------

    def _options(self) -> CopyOptions:
        silent = self.cell.fault in SILENT
        network = NetworkOptions(
            connect_timeout=4.0 if silent else 10.0,
            timeout=2.5 if silent else 10.0,
            commit_timeout=4.0 if silent else 20.0,
            retries=1 if self.run.expected else 3,
            connections=4,
        )
        return CopyOptions(
            source=self._side(self.source),
            target=self._side(self.target),
            network=network,
            chunk_size=PART,
            memory=4 << 20,
            resume_above=0 if self.cell.in_chunks else 1 << 30,
            upload_chunk=PART,
            environ={"HOME": str(self.home)},
        )

    def _side(self, proxy: FaultProxy) -> RegistryOptions:
        if proxy.tls is None:
            return RegistryOptions(plain_http=True)
        return RegistryOptions(ca_file=self.bench.home / "ca.pem")

    async def _copy(self) -> crossdock.CopyResult:
        """The copy; whatever comes of it, nothing of it is left on this loop."""
        options = self._options()
        words = (
            f"{self.source.host}/{self.bench.repository}:v1",
            f"{self.target.host}/{self.run.repository}:v1",
        )
        try:
            async with crossdock.Session(options) as session:
                workshop = (await session.shared()).workshop
                idle = asyncio.all_tasks()
                copying = asyncio.ensure_future(session.copy(*words))
                if self.cell.fault == "cancellation":
                    loop = asyncio.get_running_loop()
                    self.fault.when_reached = lambda: loop.call_soon_threadsafe(copying.cancel)
                try:
                    async with asyncio.timeout(BOUND_S):
                        return await copying
                finally:
                    supply = workshop.supply
                    assert asyncio.all_tasks() == idle, "tasks are left"
                    assert supply.budget.free == supply.budget.slots, "slots are left"
                    assert supply.permits.used == 0, "permits are left"
        finally:  # a session keeps idle connections until its end
            assert self._sockets() == [], "sockets are left"

    def _sockets(self) -> list[str]:
        """Connections to the proxies that this process holds, from the kernel's table."""
        ports = {f":{proxy.port:04X}" for proxy in self.proxies}
        rows = [row.split() for row in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
        return [row[1] for row in rows if row[2][8:] in ports and row[9] != "0"]

    # -- after ---------------------------------------------------------------------------------------------

    def _judge(self, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError):
            assert self.run.expected == "Cancelled"
            return
        line, *advice = error_text(error).splitlines()
        kind = type(root_cause(error)).__name__
        assert kind in self.run.expected.split("|"), f"{kind}: {line}"
        assert isinstance(error, CopyError), line
        assert error.side == self.cell.side, line
        assert f" {self.cell.side} {self.faulty.host}/" in line, line
        assert "@sha256:" in line or ":v1" in line, line
        assert advice, f"no next step: {line}"
        assert not _SECRET.search(line), line

    def _check_sessions(self) -> None:
        """No upload session is open that the client knew and did not delete."""
        dropped = [seen.path for seen in self.target.seen if seen.method == "DELETE"]
        folder = self.bench.target.storage / "repositories" / self.run.repository / "_uploads"
        kept = [path.parent.name for path in folder.glob("*/startedat")]
        forgotten = [name for name in kept if not any(name in path for path in dropped)]
        timeout_s = self._options().network.timeout
        lost = sum(_loses_session(seen, timeout_s) for seen in self.target.seen)
        assert len(forgotten) <= lost, f"{lost} may be left, but {self._log_of(forgotten)}"

    def _log_of(self, sessions: list[str]) -> str:
        log = self.bench.target.process.log.read_text(errors="replace").splitlines()
        lines = [line[:300] for line in log if any(name in line for name in sessions)]
        return "\n".join([f"{len(sessions)} sessions are:", *lines])

    def _check_requests(self) -> None:
        for proxy in self.proxies:
            assert proxy.violations == []
        for proxy in self.proxies[2:]:
            assert not any("authorization" in seen.headers for seen in proxy.seen)
        if self.cell.fault == "429":
            self._check_wait()

    def _check_wait(self) -> None:
        """No request is repeated before the first 429's wait is over; running requests may still arrive."""
        matching = [seen for seen in self.faulty.seen if self.fault.matches(seen)]
        first = next(seen.at for seen in matching if seen.status == 429)
        early = [seen for seen in matching if seen.at < first + WAIT_S]
        asked = Counter((seen.method, seen.path, seen.range) for seen in early)
        # An upload's POST names no blob, and each blob has one.
        once = {question: len(self.bench.graph.blobs) if question[0] == "POST" else 1 for question in asked}
        assert asked <= Counter(once), f"it did not wait: {asked}"


def _loses_session(seen: Seen, timeout_s: float) -> bool:
    """Whether the client cannot know the session: its Location did not arrive, or the session was reported
    lost."""
    if seen.is_upload_start():
        return seen.ended != "whole" or seen.ended_at - seen.at > timeout_s / 2  # may have come too late
    return "/blobs/uploads/" in seen.path and seen.status == 404
