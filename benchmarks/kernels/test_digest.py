"""SHA-256: one stream, several on one core, small blobs, export and import of the state."""

from __future__ import annotations

import hashlib
import random
from types import SimpleNamespace

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

MiB = 1 << 20
DATA = random.Random(1).randbytes(MiB)
PIECES = 16  # of one MiB, for each stream
STREAMS = [random.Random(number).randbytes(MiB) for number in range(4)]


def one_stream(make: type) -> bytes:
    hash_ = make()
    for _ in range(PIECES):
        hash_.update(DATA)
    digest: bytes = hash_.digest()
    return digest


@pytest.mark.benchmark(group="SHA-256, one stream")
def test_stream(benchmark: BenchmarkFixture, kernels: SimpleNamespace) -> None:
    benchmark.extra_info["bytes"] = PIECES * MiB
    if kernels.backend == "pure":  # the resumable twin is a thousand times slower, and only used for resuming
        benchmark(one_stream, lambda: kernels.Sha256(resumable=False))
    else:
        benchmark(one_stream, kernels.Sha256)


@pytest.mark.benchmark(group="SHA-256, one stream")
def test_stream_by_hashlib(benchmark: BenchmarkFixture) -> None:
    benchmark.extra_info.update(bytes=PIECES * MiB, by="hashlib (OpenSSL)")
    benchmark(one_stream, hashlib.sha256)


@pytest.mark.benchmark(group="SHA-256, several streams on one core")
@pytest.mark.parametrize("lanes", [1, 2, 3, 4])
def test_lanes(benchmark: BenchmarkFixture, compiled: SimpleNamespace, lanes: int) -> None:
    benchmark.extra_info.update(bytes=lanes * PIECES * MiB, by=f"{lanes} at once")

    def turn() -> list[str]:
        hashers = [compiled.Sha256() for _ in range(lanes)]
        for _ in range(PIECES):
            compiled.digest.update_many(hashers, STREAMS[:lanes])
        return [hasher.hexdigest() for hasher in hashers]

    assert benchmark(turn) == [hashlib.sha256(data * PIECES).hexdigest() for data in STREAMS[:lanes]]


@pytest.mark.benchmark(group="SHA-256, a manifest of 1 KiB")
def test_manifest(benchmark: BenchmarkFixture, kernels: SimpleNamespace) -> None:
    data = DATA[:1024]
    make = kernels.Sha256

    def whole() -> str:
        hash_ = make(resumable=False)
        hash_.update(data)
        text: str = hash_.hexdigest()
        return text

    assert benchmark(whole) == hashlib.sha256(data).hexdigest()


@pytest.mark.benchmark(group="SHA-256, export and import of the state")
def test_state(benchmark: BenchmarkFixture, kernels: SimpleNamespace) -> None:
    hash_ = kernels.Sha256()
    hash_.update(DATA[:1000])
    benchmark(lambda: kernels.Sha256(hash_.export_state()).length)
