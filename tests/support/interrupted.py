"""A copy of one large layer that is interrupted: two proxies that see every byte, flags for small chunks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from crossdock.imagebuilder import ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Seen
from support.command import MODULE, Crossdock, Running
from support.docker_registry import DockerRegistry, start_docker_registry
from support.images import Graph, assert_holds, one_layer_image, push
from support.process import ServerProcess, find_distribution, free_port, listening
from support.push import Remote

MIB = 1 << 20
CHUNK = 4 * MIB
LAYER = 22 * MIB + 12_345
RESUMING = ("--resume-above", "8MiB", "--upload-chunk", "4MiB")
QUIET = ("--progress", "none", "--output", "json")

TO_THE_BYTE = ("distribution-3", "embedded")  # sessions keep the bytes of a request that was cut
KINDS = ("docker-registry-2.8", *TO_THE_BYTE)


def start_target(kind: str, directory: Path, closing: ExitStack) -> str:
    """A registry of the kind; its ``host:port``."""
    if kind == "embedded":
        port = free_port()
        host = f"127.0.0.1:{port}"
        directory.mkdir(parents=True)
        argv = [*MODULE, "registry", "--root", str(directory / "root"), "--listen", host]
        server = ServerProcess(f"embedded :{port}", argv, directory / "log", lambda: listening(port))
        closing.callback(server.stop)
        return host
    program = find_distribution() if kind == "distribution-3" else None
    registry = start_docker_registry(directory, program=program)
    closing.callback(registry.stop)
    return registry.host


@dataclass
class Passage:
    """An image with one layer of `LAYER` bytes, on its way from one proxy to the other."""

    command: Crossdock
    source: FaultProxy
    target: FaultProxy
    repository: str
    graph: Graph
    layer: str
    state: Path

    @property
    def references(self) -> tuple[str, str]:
        """Source and target."""
        return f"{self.source.host}/{self.repository}:v1", f"{self.target.host}/{self.repository}:v1"

    @property
    def words(self) -> tuple[str, ...]:
        """The command line."""
        return "copy", *self.references, "--state", str(self.state), *RESUMING, *QUIET

    def start(self) -> Running:
        """Begin the copy."""
        return self.command.start(*self.words)

    def is_chunk(self, seen: Seen) -> bool:
        """A request with a part of the layer."""
        return seen.method == "PATCH" and f"/{self.repository}/blobs/uploads/" in seen.path

    def chunk_with(self, offset: int) -> Callable[[Seen], bool]:
        """Matches the request that carries the byte at `offset` of the layer."""

        def matches(seen: Seen) -> bool:
            if not self.is_chunk(seen):
                return False
            start, stop = span(seen)
            return start <= offset < stop

        return matches

    def is_commit(self, seen: Seen) -> bool:
        """The request that closes the layer's session."""
        encoded = self.layer.partition(":")[2]
        return seen.method == "PUT" and "/blobs/uploads/" in seen.path and encoded in seen.path

    def sent_again(self) -> int:
        """Bytes of the layer that the target was sent more than once."""
        self.target.settle()
        return sum(seen.received for seen in self.target.seen if self.is_chunk(seen)) - LAYER

    def read_again(self) -> int:
        """Bytes of the layer that the source has sent more than once."""
        self.source.settle()
        return sum(seen.sent for seen in self.source.seen if seen.is_blob_get(self.layer)) - LAYER

    def check(self) -> None:
        """Check that the target has everything, byte for byte, and that no one broke the rules of HTTP."""
        assert_holds(Remote(self.target.upstream), self.repository, "v1", self.graph)
        assert (self.source.violations, self.target.violations) == ([], [])


def span(seen: Seen) -> tuple[int, int]:
    """The half-open range of a chunk's request."""
    first, _, last = seen.headers["content-range"].partition("-")
    return int(first), int(last) + 1


def make_passage(
    command: Crossdock,
    source: DockerRegistry,
    target_host: str,
    repository: str,
    builder: ImageBuilder,
    state: Path,
    closing: ExitStack,
) -> Passage:
    """The image is in the source; nothing is planned yet."""
    image, layer = one_layer_image(builder, LAYER)
    graph = push(source.remote, repository, builder, image, "v1")
    before, behind = FaultProxy(source.host), FaultProxy(target_host)
    closing.callback(before.close)
    closing.callback(behind.close)
    return Passage(command, before, behind, repository, graph, layer.digest, state)
