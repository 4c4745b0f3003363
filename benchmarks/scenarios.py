"""The scenarios and the bars they are judged by, as data.

Sizes are bytes, times seconds. Every scenario has a quick and a full workload: the full ones are what the
bars were set for; the quick ones say within minutes whether something moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

KiB, MiB, GiB = 1 << 10, 1 << 20, 1 << 30

Size = Literal["quick", "full"]
Measure = Literal["wall", "cpu", "rss", "requested"]

# Whom a bar compares with: the fastest rival as its users run it, the fastest of all rivals, the best rival
# that hashes what it copies, one client by name, or nobody (then `at_most` is an absolute value).
Against = Literal["as used", "any", "verifying", "oras", "regsync-16", "floor", "nobody"]


@dataclass(frozen=True)
class Workload:
    """`images` images of `layers` layers of `layer_size` bytes; no two layers are equal.

    `rounds` runs of every client are measured, after `discarded` ones. A `sparse` layer is zeros after its
    first MiB: an 8 GiB file that costs no disk to serve.
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
    """`measure` of `client` is at most `at_most` times that of `against`."""

    measure: Measure
    at_most: float
    against: Against = "nobody"
    client: str = "crossdock"


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
    source_rate: int = 0  # bytes a second of one source connection; 0: as fast as it goes
    target_rate: int = 0  # bytes a second of one target connection
    round_trip_s: float = 0.0  # added to every round trip, on both sides
    warm: bool = False  # the target has everything already
    on_disk: bool = False  # the target's storage is too large for memory

    def workload(self, size: Size) -> Workload:
        return self.quick if size == "quick" else self.full


ONE = ("crossdock", "crossdock-target", "crane", "regctl", "oras", "skopeo")
MANY = ("crossdock", "crane", "crane-16", "regctl", "regsync", "regsync-16", "oras", "skopeo")

REQUESTED = Bar("requested", 1.05)
BUDGET = 256 * MiB  # crossdock's default for --memory


def _small(images: int, rounds: int) -> Workload:
    return Workload(images, 5, 64 * KiB, rounds)


SCENARIOS = (
    Scenario(
        "capped",
        "one layer, source capped at 25 MiB/s a connection",
        Workload(1, 1, 256 * MiB, rounds=2),
        Workload(1, 1, GiB, rounds=3),
        ("crossdock", "crane", "regctl", "oras", "skopeo"),
        (Bar("wall", 1 / 12, "any"), REQUESTED),
        source_rate=25 * MiB,
    ),
    Scenario(
        "layer",
        "one layer, plaintext",
        Workload(1, 1, 512 * MiB, rounds=4),
        Workload(1, 1, 2 * GiB, rounds=5),
        (*ONE, "floor"),
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
        Workload(1, 1, 512 * MiB, rounds=4),
        Workload(1, 1, 2 * GiB, rounds=5),
        ONE,
        (Bar("wall", 1.0, "any"), Bar("cpu", 0.75, "verifying"), Bar("cpu", 1.0, "oras"), REQUESTED),
        tls=True,
    ),
    Scenario(
        "layers",
        "one image of 8 layers, plaintext",
        Workload(1, 8, 64 * MiB, rounds=4),
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
        (Bar("wall", 1.0, "regsync-16"), REQUESTED),
    ),
    Scenario(
        "small-far",
        "small images, 20 ms added to every round trip",
        _small(20, rounds=2),
        _small(200, rounds=5),
        tuple(name for name in MANY if name != "skopeo"),  # one after another: minutes
        (Bar("wall", 1 / 3, "as used"), Bar("wall", 1 / 1.5, "any"), REQUESTED),
        round_trip_s=0.020,
    ),
    Scenario(
        "again",
        "small images, nothing to do",
        _small(50, rounds=3),
        _small(200, rounds=5),
        MANY,
        (Bar("wall", 2.0, "regsync-16"), Bar("requested", 0.0)),
        warm=True,
    ),
    Scenario(
        "again-many",
        "many small images, nothing to do",
        _small(100, rounds=2),
        _small(2000, rounds=3),
        ("crossdock", "regsync", "regsync-16"),
        (Bar("wall", 1.0, "regsync-16"), Bar("requested", 0.0)),
        warm=True,
    ),
    Scenario(
        "slow-target",
        "one layer, target capped at 200 MiB/s",
        Workload(1, 1, GiB, rounds=1, discarded=0, sparse=True),
        Workload(1, 1, 8 * GiB, rounds=1, discarded=0, sparse=True),
        ("crossdock", "crane", "regctl", "oras", "skopeo"),
        (Bar("rss", BUDGET + 64 * MiB), REQUESTED),
        target_rate=200 * MiB,
        on_disk=True,
    ),
)
