"""SHA-256: one stream, against hashlib; small blobs; the state exported and taken up again."""

from __future__ import annotations

import hashlib
import random
from types import SimpleNamespace

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

MiB = 1 << 20
DATA = random.Random(1).randbytes(MiB)


def one_stream(make: type, pieces: int) -> bytes:
    hash_ = make()
    for _ in range(pieces):
        hash_.update(DATA)
    digest: bytes = hash_.digest()
    return digest


@pytest.mark.benchmark(group="sha256: one stream of 16 MiB")
def test_stream(benchmark: BenchmarkFixture, kernels: SimpleNamespace) -> None:
    if kernels.backend == "pure":  # the resumable twin is a thousand times slower; this is how it is used
        benchmark(one_stream, lambda: kernels.Sha256(resumable=False), 16)
    else:
        benchmark(one_stream, kernels.Sha256, 16)


@pytest.mark.benchmark(group="sha256: one stream of 16 MiB")
def test_stream_by_hashlib(benchmark: BenchmarkFixture) -> None:
    benchmark(one_stream, hashlib.sha256, 16)


@pytest.mark.benchmark(group="sha256: a manifest of 1 KiB")
def test_manifest(benchmark: BenchmarkFixture, kernels: SimpleNamespace) -> None:
    data = DATA[:1024]
    make = kernels.Sha256

    def whole() -> str:
        hash_ = make(resumable=False)
        hash_.update(data)
        text: str = hash_.hexdigest()
        return text

    assert benchmark(whole) == hashlib.sha256(data).hexdigest()


@pytest.mark.benchmark(group="sha256: export and import of the state")
def test_state(benchmark: BenchmarkFixture, kernels: SimpleNamespace) -> None:
    hash_ = kernels.Sha256()
    hash_.update(DATA[:1000])
    benchmark(lambda: kernels.Sha256(hash_.export_state()).length)
