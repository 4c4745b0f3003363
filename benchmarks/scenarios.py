"""The scenarios and the bars they are judged by, as data.

Sizes are bytes, times seconds. Every scenario has a quick and a full workload: the bars were set for the full
ones; the quick ones show within minutes whether something changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crossdock.options import CopyOptions

KiB, MiB, GiB = 1 << 10, 1 << 20, 1 << 30

Size = Literal["quick", "full"]
Measure = Literal["wall", "cpu", "user", "rss", "requested"]

# A bar compares with the fastest rival with its defaults, the fastest of all rivals, the best rival that
# hashes the bytes that it copies, one client by name (for regsync the best of its rows), or nothing (then
# `at_most` is absolute).
Against = Literal["as used", "any", "verifying", "oras", "regsync", "floor", "ssl", "nothing"]


@dataclass(frozen=True)
class Workload:
    """`images` images of `layers` layers of `layer_size` bytes; no two layers are equal.

    `rounds` runs of every client are measured after `discarded` ones. A `sparse` layer is zeros after its
    first MiB: an 8 GiB file that costs no memory to serve.
    """

    images: int
    layers: int
    layer_size: int
    rounds: int
    discarded: int = 1
    sparse: bool = False

    @property
    def layer_bytes(self) -> int:
        return self.images * self.layers * self.layer_size


@dataclass(frozen=True)
class Bar:
    """`measure` of `client` is at most `at_most` times that of `against`.

    `inverse`: shown the other way round, as at least 1 / `at_most` times better.
    """

    measure: Measure
    at_most: float
    against: Against = "nothing"
    client: str = "crossdock"
    inverse: bool = False


@dataclass(frozen=True)
class KernelBar:
    """In one group of kernel benchmarks, `by` takes at most `at_most` times what `against` takes per byte."""

    group: str
    by: str
    at_most: float
    against: str


@dataclass(frozen=True)
class Scenario:
    """One situation in which every client copies the same content."""

    name: str
    title: str
    quick: Workload
    full: Workload
    clients: tuple[str, ...]
    bars: tuple[Bar, ...]
    tls: bool = False
    source_rate: int = 0  # bytes per second of one source connection; 0: unlimited
    target_rate: int = 0  # bytes per second of one target connection
    round_trip_s: float = 0.0  # added to every round trip, on both sides
    warm: bool = False  # the target already has everything
    charts: tuple[Measure, ...] = ("wall", "cpu")
    reads: bool = False  # clients read the layer and discard it: no target

    def workload(self, size: Size) -> Workload:
        return self.quick if size == "quick" else self.full


ONE = ("crossdock", "crane", "regctl", "oras", "skopeo")
MANY = (
    "crossdock",
    "crane",
    "crane-16",
    "regctl",
    "regsync",
    "regsync-16",
    "regsync-16-16",
    "oras",
    "oras-16",
    "skopeo",
)

REQUESTED = Bar("requested", 1.05)
BUDGET = CopyOptions().memory


def _small(images: int, rounds: int) -> Workload:
    return Workload(images, 5, 64 * KiB, rounds)


SCENARIOS = (
    Scenario(
        "capped",
        "one layer, source capped at 25 MiB/s per connection",
        Workload(1, 1, 256 * MiB, rounds=1),
        Workload(1, 1, GiB, rounds=2),
        ONE,
        (Bar("wall", 1 / 12, "any", inverse=True), REQUESTED),
        source_rate=25 * MiB,
    ),
    Scenario(
        "layer",
        "one layer, plaintext",
        Workload(1, 1, 512 * MiB, rounds=3),
        Workload(1, 1, 2 * GiB, rounds=5),
        ("crossdock", "crossdock-target", *ONE[1:], "floor"),
        (
            Bar("wall", 1.05, "any"),
            Bar("cpu", 0.75, "verifying"),
            Bar("cpu", 1.15, "oras"),
            Bar("cpu", 0.9, "oras", client="crossdock-target"),
            Bar("cpu", 1.33, "floor"),
            REQUESTED,
        ),
    ),
    Scenario(
        "layer-tls",
        "one layer, TLS on both sides",
        Workload(1, 1, 512 * MiB, rounds=2),
        Workload(1, 1, 2 * GiB, rounds=5),
        ("crossdock", "crossdock-ssl", *ONE[1:]),
        (Bar("wall", 1.0, "any"), Bar("cpu", 0.75, "verifying"), Bar("cpu", 1.0, "oras"), REQUESTED),
        tls=True,
    ),
    Scenario(
        "read-tls",
        "one layer over TLS, only read, twelve times",
        Workload(1, 1, 256 * MiB, rounds=3),
        Workload(1, 1, GiB, rounds=5),
        ("rustls", "ssl", "curl"),
        (
            Bar("cpu", 1 / 1.25, "ssl", client="rustls", inverse=True),
            Bar("user", 1 / 1.5, "ssl", client="rustls", inverse=True),
        ),
        tls=True,
        charts=("cpu", "user"),
        reads=True,
    ),
    Scenario(
        "layers",
        "one image of 8 layers, plaintext",
        Workload(1, 8, 64 * MiB, rounds=3),
        Workload(1, 8, 256 * MiB, rounds=5),
        ONE,
        (Bar("wall", 0.95, "any"), Bar("cpu", 0.6, "verifying"), Bar("cpu", 0.9, "oras"), REQUESTED),
    ),
    Scenario(
        "small",
        "small images",
        _small(50, rounds=3),
        _small(200, rounds=5),
        MANY,
        (Bar("wall", 1.0, "regsync"), REQUESTED),
    ),
    Scenario(
        "small-far",
        "small images, 20 ms added to every round trip",
        _small(20, rounds=1),
        _small(200, rounds=2),
        tuple(name for name in MANY if name != "skopeo"),  # sequential, so it takes minutes
        (Bar("wall", 1 / 3, "as used", inverse=True), Bar("wall", 1 / 1.5, "any", inverse=True), REQUESTED),
        round_trip_s=0.020,
    ),
    Scenario(
        "again",
        "small images, nothing to do",
        _small(50, rounds=3),
        _small(200, rounds=5),
        MANY,
        (Bar("wall", 2.0, "regsync"), Bar("requested", 0.0)),
        warm=True,
    ),
    Scenario(
        "again-many",
        "many small images, nothing to do",
        _small(100, rounds=2),
        _small(2000, rounds=3),
        ("crossdock", "regsync", "regsync-16", "regsync-16-16"),
        (Bar("wall", 1.0, "regsync"), Bar("requested", 0.0)),
        warm=True,
    ),
    Scenario(
        "slow-target",
        "one layer, target capped at 200 MiB/s",
        Workload(1, 1, GiB, rounds=1, discarded=0, sparse=True),
        Workload(1, 1, 8 * GiB, rounds=1, discarded=0, sparse=True),
        ("crossdock", "crane", "oras"),
        (Bar("rss", BUDGET + 64 * MiB), REQUESTED),
        target_rate=200 * MiB,
        charts=("rss", "wall"),
    ),
)

KERNEL_BARS = (
    KernelBar("SHA-256, one stream", "compiled", 1.03, "hashlib (OpenSSL)"),
    KernelBar("SHA-256, several streams on one core", "2 at once", 1 / 1.8, "1 at once"),
    KernelBar("start of the command", "crossdock --version", 2.3, "python -c pass"),
)
