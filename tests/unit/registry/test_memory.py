"""The memory about a host before and after its first uploads."""

from __future__ import annotations

import pytest

from crossdock.errors import InvalidOption
from crossdock.inventory.read import schema
from crossdock.options import ChunkLimits
from crossdock.protocol.upload import Upload, UploadRules
from crossdock.registry.dialects import DIALECTS, Dialect, dialect_of
from crossdock.registry.memory import HostMemory

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
        ("gcr.io", GiB, UploadRules(may_chunk=False)),
        ("notghcr.io", GiB, UploadRules()),
        ("notgcr.io", GiB, UploadRules()),
        ("azurecr.io.example", GiB, UploadRules()),
    ],
)
def test_dialects_go_by_the_hosts_name(host: str, size: int, expected: UploadRules) -> None:
    assert HostMemory(dialect_of(host)).rules_for(size) == expected


@pytest.mark.parametrize(
    "host",
    [
        "1.dkr.ecr.eu-west-1.amazonaws.com",
        "1.dkr.ecr-fips.us-east-1.amazonaws.com:443",
        "1.dkr.ecr.cn-north-1.amazonaws.com.cn",
        "1.dkr-ecr.eu-west-1.on.aws",
        "public.ecr.aws",
    ],
)
def test_ecr_is_sent_one_put_and_its_chunks_stay_in_its_limits(host: str) -> None:
    rules = HostMemory(dialect_of(host)).rules_for(GiB)
    assert (rules.chunked, rules.chunk_size, rules.trust_range, rules.last_in_put) == (
        False,
        10 * MiB,
        False,
        True,
    )
    huge = 50 * GiB
    assert -(-huge // HostMemory(dialect_of(host)).rules_for(huge).chunk_size) <= 4200


@pytest.mark.parametrize(
    "host", ["s3.eu-west-1.amazonaws.com", "1.dkr.ecr.eu-west-1.amazonaws.com.example", "x.public.ecr.aws"]
)
def test_other_hosts_of_its_domains_are_not_ecr(host: str) -> None:
    assert dialect_of(host) == DIALECTS["standard"]


def test_the_row_of_a_dialect_says_all_of_it() -> None:
    """Its hosts, and the size of its requests, which needs no other field to hold."""
    dialects = {"standard": Dialect(), "own": Dialect(hosts=("own.test",), chunks=ChunkLimits(most=10 * MiB))}
    own = HostMemory(dialect_of("own.test:5000", dialects=dialects))
    assert own.rules_for(10 * MiB) == UploadRules(chunk_size=10 * MiB)
    assert own.rules_for(300 * MiB) == UploadRules(chunked=True, may_put=False, chunk_size=10 * MiB)
    assert dialect_of("other.test", dialects=dialects) == Dialect()


def learned(size: int = GiB, **facts: object) -> HostMemory:
    memory = HostMemory(Dialect())
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


def test_refused_chunks_are_not_retried() -> None:
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
def test_a_resumable_upload_is_sent_in_chunks(host: str, wanted: int, chunk: int) -> None:
    memory = HostMemory(dialect_of(host))
    assert memory.may_resume
    rules = memory.rules_for(GiB, wanted)
    assert (rules.chunked, rules.chunk_size) == (True, chunk)


@pytest.mark.parametrize("host", ["ghcr.io", "gcr.io", "europe-docker.pkg.dev", "public.ecr.aws"])
def test_where_nothing_can_be_resumed_the_way_stays_as_it_is(host: str) -> None:
    memory = HostMemory(dialect_of(host))
    assert not memory.may_resume
    assert memory.rules_for(GiB, 64 * MiB) == memory.rules_for(GiB)


def test_a_resumable_upload_obeys_the_learned_chunk_size() -> None:
    assert learned(chunk_lowered=True, chunk_size=8 * MiB).rules_for(GiB, 64 * MiB).chunk_size == 8 * MiB
    assert not learned(chunks_refused=True).may_resume


def test_a_range_that_stands_still_is_remembered() -> None:
    assert not learned(trust_range=False).rules_for(1).trust_range


def test_an_upload_that_taught_nothing_changes_nothing() -> None:
    assert learned().rules_for(GiB) == UploadRules()


@pytest.mark.parametrize("size", [11 * MiB, 100 * MiB, 300 * MiB, GiB, 50 * GiB])
@pytest.mark.parametrize("wanted", [None, MiB, 7 * MiB, 64 * MiB])
def test_limits_on_chunks_hold_for_blobs_of_any_size(size: int, wanted: int | None) -> None:
    limits = ChunkLimits(least=5 * MiB, most=10 * MiB, multiple=MiB)
    rules = HostMemory(Dialect(chunks=limits)).rules_for(size, wanted)
    assert (rules.chunked, rules.may_put) == (True, False)
    assert 5 * MiB <= rules.chunk_size <= 10 * MiB
    assert rules.chunk_size % MiB == 0


def test_a_blob_within_one_chunk_goes_in_one_put() -> None:
    rules = HostMemory(Dialect(chunks=ChunkLimits(most=10 * MiB))).rules_for(10 * MiB)
    assert (rules.chunked, rules.may_put) == (False, True)


def test_a_maximum_holds_for_a_blob_in_one_post() -> None:
    assert not HostMemory(Dialect(chunks=ChunkLimits(most=MiB // 2))).may_post_whole(MiB)


def test_a_dialect_is_chosen_by_name_and_its_limits_replaced() -> None:
    assert dialect_of("registry.example", "ecr") == DIALECTS["ecr"]
    limits = ChunkLimits(least=5 * MiB, most=10 * MiB)
    own = dialect_of("registry.example", "", limits)
    assert (own.chunks, own.single_put, own.may_chunk) == (limits, 10 * MiB, True)
    with pytest.raises(InvalidOption, match="no upload dialect 'none'; known are standard, "):
        dialect_of("registry.example", "none")


@pytest.mark.parametrize(
    "limits",
    [
        {"least": 6, "most": 5},
        {"most": 5, "multiple": 6},
        {"least": 5, "most": 7, "multiple": 4},
        {"multiple": 0},
    ],
)
def test_limits_that_nothing_meets_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(InvalidOption):
        ChunkLimits(**limits)


def test_the_inventory_names_every_dialect() -> None:
    assert schema()["$defs"]["upload"]["properties"]["dialect"]["enum"] == list(DIALECTS)
