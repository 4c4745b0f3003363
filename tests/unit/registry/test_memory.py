"""What is known of a host before and after its first uploads."""

from __future__ import annotations

import pytest

from crossdock.protocol.upload import Upload, UploadRules
from crossdock.registry.memory import ECR_CHUNKS, HostMemory

MiB = 1 << 20
GiB = 1 << 30


@pytest.mark.parametrize(
    ("host", "size", "expected"),
    [
        ("registry.example:5000", GiB, UploadRules()),
        ("ghcr.io", 10 * GiB, UploadRules(may_chunk=False)),
        ("GHCR.io:443", GiB, UploadRules(may_chunk=False)),
        ("eu.gcr.io", GiB, UploadRules(may_chunk=False)),
        ("europe-docker.pkg.dev", GiB, UploadRules(may_chunk=False)),
        ("name.azurecr.io", 20_000_000, UploadRules(chunk_size=16 * MiB)),
        ("name.azurecr.io", 20_000_001, UploadRules(chunked=True, may_put=False, chunk_size=16 * MiB)),
        ("notghcr.io", GiB, UploadRules()),
        ("azurecr.io.example", GiB, UploadRules()),
    ],
)
def test_dialects_go_by_the_hosts_name(host: str, size: int, expected: UploadRules) -> None:
    assert HostMemory(host).rules_for(size) == expected


@pytest.mark.parametrize(
    "host", ["1.dkr.ecr.eu-west-1.amazonaws.com", "1.dkr.ecr.cn-north-1.amazonaws.com.cn", "public.ecr.aws"]
)
def test_ecr_is_sent_one_put_and_its_chunks_stay_in_its_limits(host: str) -> None:
    rules = HostMemory(host).rules_for(GiB)
    assert (rules.chunked, rules.chunk_size, rules.trust_range, rules.last_in_put) == (
        False,
        10 * MiB,
        False,
        True,
    )
    huge = 50 * GiB
    assert -(-huge // HostMemory(host).rules_for(huge).chunk_size) <= ECR_CHUNKS


def learned(size: int = GiB, **facts: object) -> HostMemory:
    memory = HostMemory("registry.example")
    upload = Upload("sha256:" + "0" * 64, size, memory.rules_for(size), retries=0)
    for name, value in facts.items():
        setattr(upload, name, value)
    memory.learn(upload)
    return memory


def test_a_413_is_a_limit_of_size_only() -> None:
    memory = learned(put_refused=413, chunk_lowered=True, chunk_size=16 * MiB)
    assert memory.rules_for(GiB) == UploadRules(chunked=True, may_put=False, chunk_size=16 * MiB)
    assert not memory.rules_for(GiB - 1).chunked


@pytest.mark.parametrize("status", [405, 411, 400])
def test_another_refusal_is_of_the_way_itself(status: int) -> None:
    memory = learned(put_refused=status)
    assert memory.rules_for(1).chunked
    assert not memory.rules_for(0).chunked


def test_refused_chunks_are_not_tried_again() -> None:
    assert not learned(chunks_refused=True).rules_for(GiB).may_chunk


@pytest.mark.parametrize(
    ("host", "wanted", "chunk"),
    [
        ("registry.example", 64 * MiB, 64 * MiB),
        ("registry.example", 256 * MiB, 256 * MiB),
        ("registry.example", MiB, MiB),
        ("name.azurecr.io", 64 * MiB, 16 * MiB),  # larger requests get 413
        ("name.azurecr.io", 4 * MiB, 4 * MiB),
    ],
)
def test_what_is_to_be_resumable_goes_up_in_chunks(host: str, wanted: int, chunk: int) -> None:
    memory = HostMemory(host)
    assert memory.may_resume
    rules = memory.rules_for(GiB, wanted)
    assert (rules.chunked, rules.chunk_size) == (True, chunk)


@pytest.mark.parametrize("host", ["ghcr.io", "gcr.io", "europe-docker.pkg.dev", "public.ecr.aws"])
def test_where_nothing_can_be_resumed_the_way_stays_as_it_is(host: str) -> None:
    memory = HostMemory(host)
    assert not memory.may_resume
    assert memory.rules_for(GiB, 64 * MiB) == memory.rules_for(GiB)


def test_what_is_to_be_resumable_keeps_to_what_was_learned() -> None:
    assert learned(chunk_lowered=True, chunk_size=8 * MiB).rules_for(GiB, 64 * MiB).chunk_size == 8 * MiB
    assert not learned(chunks_refused=True).may_resume


def test_a_range_that_stands_still_is_remembered() -> None:
    assert not learned(trust_range=False).rules_for(1).trust_range


def test_an_upload_that_taught_nothing_changes_nothing() -> None:
    assert learned().rules_for(GiB) == UploadRules()
