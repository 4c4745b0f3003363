"""The memory about a host before and after its first uploads."""

from __future__ import annotations

import pytest

from crossdock.errors import InvalidOption
from crossdock.options import ChunkLimits
from crossdock.protocol.upload import Upload, UploadRules
from crossdock.registry.kinds import UNKNOWN, Kind, Kinds
from crossdock.registry.memory import HostMemory, learned_from

MiB = 1 << 20
GiB = 1 << 30


def memory_of(host: str) -> HostMemory:
    return HostMemory(Kinds().named(Kinds().of_host(host) or UNKNOWN))


def limited(**values: object) -> HostMemory:
    """Of a registry whose uploads an inventory limits."""
    return HostMemory(Kinds().named(UNKNOWN, {f"upload.{name}": value for name, value in values.items()}))


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
def test_kinds_go_by_the_hosts_name(host: str, size: int, expected: UploadRules) -> None:
    assert memory_of(host).rules_for(size) == expected


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
    rules = memory_of(host).rules_for(GiB)
    assert (rules.chunked, rules.chunk_size, rules.trust_range, rules.last_in_put) == (
        False,
        10 * MiB,
        False,
        True,
    )
    huge = 50 * GiB
    assert -(-huge // memory_of(host).rules_for(huge).chunk_size) <= 4200


@pytest.mark.parametrize(
    "host", ["s3.eu-west-1.amazonaws.com", "1.dkr.ecr.eu-west-1.amazonaws.com.example", "x.public.ecr.aws"]
)
def test_other_hosts_of_its_domains_are_not_ecr(host: str) -> None:
    assert not Kinds().of_host(host)


def test_the_row_of_a_kind_says_all_of_it() -> None:
    """Its hosts, and the size of its requests, which needs no other value to hold."""
    kinds = Kinds({"own": {"hosts": ["own.test"], "upload.max_chunk": "10MiB"}})
    assert (kinds.of_host("own.test:5000"), kinds.of_host("other.test")) == ("own", "")
    own = HostMemory(kinds.named("own"))
    assert own.rules_for(10 * MiB) == UploadRules(chunk_size=10 * MiB, most_chunk=10 * MiB)
    assert own.rules_for(300 * MiB) == UploadRules(
        chunked=True, may_put=False, chunk_size=10 * MiB, most_chunk=10 * MiB
    )


def learned(size: int = GiB, **facts: object) -> HostMemory:
    memory = HostMemory(Kind())
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
def test_what_is_to_be_resumable_goes_up_in_chunks(host: str, wanted: int, chunk: int) -> None:
    memory = memory_of(host)
    assert memory.may_resume
    rules = memory.rules_for(GiB, wanted)
    assert (rules.chunked, rules.chunk_size) == (True, chunk)


@pytest.mark.parametrize("host", ["ghcr.io", "gcr.io", "europe-docker.pkg.dev", "public.ecr.aws"])
def test_where_nothing_can_be_resumed_the_way_stays_as_it_is(host: str) -> None:
    memory = memory_of(host)
    assert not memory.may_resume
    assert memory.rules_for(GiB, 64 * MiB) == memory.rules_for(GiB)


def test_what_is_to_be_resumable_keeps_to_what_was_learned() -> None:
    assert learned(chunk_lowered=True, chunk_size=8 * MiB).rules_for(GiB, 64 * MiB).chunk_size == 8 * MiB
    assert not learned(chunks_refused=True).may_resume


def test_a_range_that_stands_still_is_remembered() -> None:
    assert not learned(trust_range=False).rules_for(1).trust_range


def test_an_upload_that_taught_nothing_changes_nothing() -> None:
    assert learned().rules_for(GiB) == UploadRules()


@pytest.mark.parametrize("size", [11 * MiB, 100 * MiB, 300 * MiB, GiB, 50 * GiB])
@pytest.mark.parametrize("wanted", [None, MiB, 7 * MiB, 64 * MiB])
def test_limits_on_chunks_hold_for_blobs_of_any_size(size: int, wanted: int | None) -> None:
    memory = limited(min_chunk="5MiB", max_chunk="10MiB", chunk_multiple="1MiB")
    rules = memory.rules_for(size, wanted)
    assert (rules.chunked, rules.may_put) == (True, False)
    assert 5 * MiB <= rules.chunk_size <= 10 * MiB
    assert rules.chunk_size % MiB == 0


def test_a_blob_within_one_chunk_goes_in_one_put() -> None:
    rules = limited(max_chunk=10 * MiB).rules_for(10 * MiB)
    assert (rules.chunked, rules.may_put) == (False, True)


def test_a_maximum_holds_for_a_blob_in_one_post() -> None:
    assert not limited(max_chunk=MiB // 2).may_post_whole(MiB)


@pytest.mark.parametrize("kind", [UNKNOWN, "ecr", "ghcr", "acr"])
@pytest.mark.parametrize("size", [10 * MiB + 1, 300 * MiB, 40 * GiB])
@pytest.mark.parametrize("wanted", [None, MiB, 64 * MiB])
def test_a_chunk_of_the_inventory_is_exact(kind: str, size: int, wanted: int | None) -> None:
    memory = HostMemory(Kinds().named(kind, {"upload.chunk": "10MiB"}))
    rules = memory.rules_for(size, wanted)
    assert (rules.chunked, rules.may_put, rules.chunk_size, rules.most_chunk) == (
        True,
        False,
        10 * MiB,
        10 * MiB,
    )
    upload = Upload("sha256:" + "0" * 64, size, rules, retries=0)
    assert upload.boundary == 10 * MiB
    assert not memory.rules_for(10 * MiB).chunked


def test_a_kind_is_chosen_by_name_and_its_limits_replaced() -> None:
    own = Kinds().named("ghcr", {"upload.min_chunk": "5MiB", "upload.max_chunk": "10MiB"})
    limits = ChunkLimits(least=5 * MiB, most=10 * MiB)
    assert (own.upload.limits, own.upload.single_put, own.upload.chunks) == (limits, 10 * MiB, True)
    with pytest.raises(InvalidOption, match="no kind of registry 'none'; known are crossdock, ecr, "):
        Kinds().named("none")
    with pytest.raises(InvalidOption, match="is like itself"):
        Kinds({"a": {"like": "b"}, "b": {"like": "a"}}).named("a")


def test_what_a_process_learned_is_known_to_the_next() -> None:
    told: dict[str, object] = {}
    memory = HostMemory(Kind(), on_learned=told.__setitem__)
    upload = Upload("sha256:" + "0" * 64, GiB, memory.rules_for(GiB), retries=0)
    upload.put_refused, upload.chunk_lowered, upload.chunk_size = 413, True, 16 * MiB
    memory.learn(upload)
    memory.learn(upload)
    assert told == {"max_put": GiB - 1, "chunk": 16 * MiB}
    known = learned_from({**told, "ranges": "upside down", "of a later version": 1})
    rules = HostMemory(Kind(), learned=known).rules_for(GiB)
    assert (rules.chunked, rules.chunk_size) == (True, 16 * MiB)
    assert HostMemory(Kind(), learned=known).has_ranges


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
