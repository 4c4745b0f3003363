"""Manifests: found, fetched, pushed; and the registry's own word about them."""

from __future__ import annotations

import json

import pytest

from crossdock.errors import (
    CrossdockError,
    Denied,
    DigestMismatch,
    InvalidManifest,
    LimitExceeded,
    NotFound,
    ProtocolError,
    RateLimited,
    ReadFailed,
    RegistryError,
    ServerBusy,
    SizeMismatch,
    Unauthorized,
    Unsupported,
    root_cause,
)
from crossdock.oci import mediatype
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from unit.registry.scripted_registry import Answer, Connect, ScriptedRegistry, Seen, describe

EMPTY_CONFIG = describe(b"{}", mediatype.OCI_EMPTY)


def document(**fields: object) -> bytes:
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": mediatype.OCI_MANIFEST,
            "config": EMPTY_CONFIG.to_json(),
            "layers": [],
            **fields,
        }
    ).encode()


DATA = document()
MANIFEST = describe(DATA, mediatype.OCI_MANIFEST)
TAG = "/v2/x/manifests/v1"
BY_DIGEST = f"/v2/x/manifests/{MANIFEST.digest}"


def named(data: bytes = DATA, media_type: str = mediatype.OCI_MANIFEST, **headers: str) -> dict[str, str]:
    return {
        "Content-Type": media_type,
        "Docker-Content-Digest": str(Digest.of(data)),
        "Content-Length": str(len(data)),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }


# -- resolve -----------------------------------------------------------------------------------------


async def test_a_tag_is_resolved_by_head_alone_with_the_full_accept_list(
    server: ScriptedRegistry, connect: Connect
) -> None:
    server.expect("HEAD", TAG, Answer(200, named()))
    assert await connect("source").resolve("v1") == MANIFEST
    accepted = server.seen[0].headers["accept"].split(", ")
    assert accepted == list(mediatype.MANIFEST_ACCEPT)


@pytest.mark.parametrize(
    "head",
    [
        Answer(400),
        Answer(403),
        Answer(404),
        Answer(405),
        Answer(500),
        Answer(200, {"Content-Type": mediatype.OCI_MANIFEST, "Content-Length": "5"}),
        Answer(200, named(Docker_Content_Digest="md5:abc")),
        Answer(200, named(media_type="text/html")),
        Answer(200, named(Content_Length="0")),
    ],
)
async def test_an_incomplete_head_is_followed_by_a_get(
    server: ScriptedRegistry, connect: Connect, head: Answer
) -> None:
    server.expect("HEAD", TAG, head)
    server.expect("GET", TAG, Answer(200, {"Content-Type": mediatype.OCI_MANIFEST}, DATA))
    assert await connect("source").resolve("v1") == MANIFEST


async def test_a_digest_that_leads_to_other_content_is_a_lie(
    server: ScriptedRegistry, connect: Connect
) -> None:
    other = document(annotations={"a": "b"})
    server.expect("HEAD", BY_DIGEST, Answer(200, named(other)))
    for _ in range(2):
        server.expect("GET", BY_DIGEST, Answer(200, named(other), other))
    with pytest.raises(DigestMismatch):
        await connect("source").resolve(MANIFEST.digest)


@pytest.mark.parametrize(
    ("status", "error"), [(401, Unauthorized), (403, Denied), (404, NotFound), (501, Unsupported)]
)
async def test_a_refusal_is_reported_as_it_is(
    server: ScriptedRegistry, connect: Connect, status: int, error: type[CrossdockError]
) -> None:
    async def registry(seen: Seen) -> Answer:
        return Answer(200) if seen.target == "/v2/" else Answer(status)

    server.handler = registry
    with pytest.raises(error, match="/v2/x/manifests/v1"):
        await connect("source").resolve("v1")


async def test_schema_1_is_refused_in_words(server: ScriptedRegistry, connect: Connect) -> None:
    server.expect("HEAD", TAG, Answer(200, named(media_type=mediatype.DOCKER_SCHEMA1_SIGNED)))
    schema1 = b'{"schemaVersion": 1, "fsLayers": []}'
    server.expect("GET", TAG, Answer(200, {"Content-Type": mediatype.DOCKER_SCHEMA1_SIGNED}, schema1))
    with pytest.raises(InvalidManifest, match="schema 1"):
        await connect("source").resolve("v1")


async def test_where_head_is_refused_it_is_not_asked_again(
    server: ScriptedRegistry, connect: Connect
) -> None:
    repository = connect("source")
    server.expect("HEAD", TAG, Answer(404))
    for _ in range(2):
        server.expect("GET", TAG, Answer(200, named(), DATA))
        assert await repository.resolve("v1") == MANIFEST


async def test_one_server_error_says_nothing_of_later_heads(
    server: ScriptedRegistry, connect: Connect
) -> None:
    repository = connect("source")
    server.expect("HEAD", TAG, Answer(500))
    server.expect("GET", TAG, Answer(200, named(), DATA))
    await repository.resolve("v1")
    server.expect("HEAD", TAG, Answer(200, named()))
    assert await repository.resolve("v1") == MANIFEST


async def test_a_refusal_of_head_and_get_is_reported_as_that_of_get(
    server: ScriptedRegistry, connect: Connect
) -> None:
    repository = connect("target")
    for _ in range(2):  # a missing tag says nothing of HEAD
        server.expect("HEAD", TAG, Answer(404))
        server.expect("GET", TAG, Answer(404, {}, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}'))
        with pytest.raises(NotFound, match="MANIFEST_UNKNOWN"):
            await repository.resolve("v1")


async def test_a_manifest_resolved_by_get_is_not_fetched_again(
    server: ScriptedRegistry, connect: Connect
) -> None:
    repository = connect("source")
    server.expect("HEAD", TAG, Answer(404))
    server.expect("GET", TAG, Answer(200, named(), DATA))
    assert await repository.fetch_manifest(await repository.resolve("v1")) == DATA


async def test_a_cache_that_serves_nothing_by_digest_is_asked_by_tag(
    server: ScriptedRegistry, connect: Connect
) -> None:
    repository = connect("source")
    server.expect("HEAD", TAG, Answer(200, named()))
    server.expect("GET", BY_DIGEST, Answer(404))
    server.expect("GET", TAG, Answer(200, named(), DATA))
    assert await repository.fetch_manifest(await repository.resolve("v1")) == DATA


async def test_a_stale_head_is_not_trusted_again(server: ScriptedRegistry, connect: Connect) -> None:
    repository = connect("source")
    stale = document(annotations={"a": "old"})
    server.expect("HEAD", TAG, Answer(200, named(stale)))
    server.expect("GET", f"/v2/x/manifests/{Digest.of(stale)}", Answer(404))
    server.expect("GET", TAG, Answer(200, named(), DATA))
    with pytest.raises(NotFound):
        await repository.fetch_manifest(await repository.resolve("v1"))
    server.expect("GET", TAG, Answer(200, named(), DATA))
    assert await repository.resolve("v1") == MANIFEST
    assert await repository.fetch_manifest(MANIFEST) == DATA


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 500, 501])
async def test_a_look_at_a_tag_that_is_refused_is_a_no(
    server: ScriptedRegistry, connect: Connect, status: int
) -> None:
    async def registry(seen: Seen) -> Answer:
        return Answer(200) if seen.target == "/v2/" else Answer(status)

    server.handler = registry
    assert await connect("target").look("v1") is None
    assert [seen.method for seen in server.seen if "/manifests/" in seen.target] == ["HEAD"]


@pytest.mark.parametrize(("status", "error"), [(429, RateLimited), (503, ServerBusy)])
async def test_a_look_that_is_put_off_is_not_an_answer(
    server: ScriptedRegistry, connect: Connect, status: int, error: type[CrossdockError]
) -> None:
    async def registry(seen: Seen) -> Answer:
        return Answer(status)

    server.handler = registry
    with pytest.raises(CrossdockError) as caught:
        await connect("target").look("v1")
    assert isinstance(root_cause(caught.value), error)


# -- fetch -------------------------------------------------------------------------------------------


async def test_a_manifest_is_fetched_by_digest_and_verified(
    server: ScriptedRegistry, connect: Connect
) -> None:
    server.expect("GET", BY_DIGEST, Answer(200, named(), DATA))
    assert await connect("source").fetch_manifest(MANIFEST) == DATA
    assert server.seen[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("served", "error"),
    [(DATA + b" ", SizeMismatch), (DATA.replace(b"{}", b"[]", 1)[:-1] + b" ", DigestMismatch)],
)
async def test_other_bytes_are_refused(
    server: ScriptedRegistry, connect: Connect, served: bytes, error: type[CrossdockError]
) -> None:
    for _ in range(2):
        server.expect("GET", BY_DIGEST, Answer(200, {"Content-Type": mediatype.OCI_MANIFEST}, served))
    with pytest.raises(error):
        await connect("source").fetch_manifest(MANIFEST)


@pytest.mark.parametrize("served", [DATA + b" ", DATA[:-1], DATA[:-1] + b" "])
async def test_bytes_that_are_wrong_once_are_requested_again(
    server: ScriptedRegistry, connect: Connect, served: bytes
) -> None:
    server.expect("GET", BY_DIGEST, Answer(200, {"Content-Type": mediatype.OCI_MANIFEST}, served))
    server.expect("GET", BY_DIGEST, Answer(200, {"Content-Type": mediatype.OCI_MANIFEST}, DATA))
    assert await connect("source").fetch_manifest(MANIFEST) == DATA


async def test_the_registrys_own_name_for_the_bytes_must_agree(
    server: ScriptedRegistry, connect: Connect
) -> None:
    headers = named(Docker_Content_Digest=str(Digest.of(b"other")))
    for _ in range(2):
        server.expect("GET", BY_DIGEST, Answer(200, headers, DATA))
    with pytest.raises(DigestMismatch, match="names the manifest"):
        await connect("source").fetch_manifest(MANIFEST)


async def test_its_name_by_another_algorithm_is_compared_with_the_bytes(
    server: ScriptedRegistry, connect: Connect
) -> None:
    headers = named(Docker_Content_Digest=str(Digest.of(DATA, "sha512")))
    server.expect("GET", BY_DIGEST, Answer(200, headers, DATA))
    assert await connect("source").fetch_manifest(MANIFEST) == DATA


async def test_a_wrong_length_of_a_head_does_not_matter_when_the_digest_is_right(
    server: ScriptedRegistry, connect: Connect
) -> None:
    server.expect("HEAD", TAG, Answer(200, named(Content_Length="7")))  # Harbor
    server.expect("GET", BY_DIGEST, Answer(200, named(), DATA))
    repository = connect("source")
    assert await repository.fetch_manifest(await repository.resolve("v1")) == DATA


async def test_a_manifest_over_the_limit_is_refused_before_and_while_reading(
    server: ScriptedRegistry, connect: Connect
) -> None:
    large = Descriptor(mediatype.OCI_MANIFEST, MANIFEST.digest, (4 << 20) + 1)
    with pytest.raises(LimitExceeded, match="4194304"):
        await connect("source").fetch_manifest(large)
    server.expect("GET", BY_DIGEST, Answer(200, {}, b" " * ((4 << 20) + 1)))
    with pytest.raises(LimitExceeded, match="4194304"):
        await connect("source").fetch_manifest(MANIFEST)


async def test_an_encoded_manifest_is_not_accepted(server: ScriptedRegistry, connect: Connect) -> None:
    answer = Answer(200, {**named(Content_Length="4"), "Content-Encoding": "gzip"}, b"\x1f\x8b..")
    for _ in range(3):
        server.expect("GET", BY_DIGEST, answer)
    with pytest.raises(CrossdockError, match="gzip") as refused:
        await connect("source").fetch_manifest(MANIFEST)
    assert isinstance(refused.value.__cause__, ProtocolError)


@pytest.mark.parametrize(("status", "expected"), [(200, True), (404, False), (405, False)])
async def test_a_manifest_exists(
    server: ScriptedRegistry, connect: Connect, status: int, expected: bool
) -> None:
    server.expect("HEAD", BY_DIGEST, Answer(status))
    assert await connect().has_manifest(MANIFEST) is expected


@pytest.mark.parametrize(("status", "expected"), [(404, True), (200, False), (403, False), (500, False)])
async def test_content_that_is_certainly_no_blob_was_pushed_as_a_manifest(
    server: ScriptedRegistry, connect: Connect, status: int, expected: bool
) -> None:
    # distribution 2.8 answers 200 to HEAD of a manifest by the digest of a blob
    server.expect("HEAD", f"/v2/x/blobs/{MANIFEST.digest}", Answer(status))
    assert await connect().is_pushed_manifest(MANIFEST) is expected


async def test_content_pushed_as_a_blob_is_not_a_manifest(server: ScriptedRegistry, connect: Connect) -> None:
    repository = connect()
    server.expect("HEAD", f"/v2/x/blobs/{MANIFEST.digest}", Answer(200, length=MANIFEST.size))
    assert await repository.has_blob(MANIFEST)
    assert not repository.knows_manifest(MANIFEST)
    assert not await repository.is_pushed_manifest(MANIFEST)


async def test_content_pushed_as_a_manifest_is_not_a_blob(server: ScriptedRegistry, connect: Connect) -> None:
    repository = connect()
    server.expect("PUT", BY_DIGEST, Answer(201, {"Docker-Content-Digest": MANIFEST.digest}))
    await repository.push_manifest(MANIFEST, DATA, None)
    assert repository.knows_manifest(MANIFEST)
    assert await repository.is_pushed_manifest(MANIFEST)
    assert not repository.knows_blob(MANIFEST)
    assert repository.other_repository(MANIFEST) is None


async def test_resolving_a_name_at_the_target_is_one_request(
    server: ScriptedRegistry, connect: Connect
) -> None:
    server.expect("GET", TAG, Answer(200, named(), DATA))
    server.expect("GET", BY_DIGEST, Answer(404))
    repository = connect()
    assert await repository.find_manifest("v1") == DATA
    assert await repository.find_manifest(MANIFEST.digest) is None


async def test_a_document_too_large_for_a_manifest_counts_as_none(
    server: ScriptedRegistry, connect: Connect
) -> None:
    server.expect("GET", TAG, Answer(200, {}, b"", length=(4 << 20) + 1, drop=True))
    assert await connect().find_manifest("v1") is None


# -- push --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202])
@pytest.mark.parametrize(("tag", "target"), [("v1", TAG), (None, BY_DIGEST)])
async def test_the_bytes_are_pushed_unchanged(
    server: ScriptedRegistry, connect: Connect, status: int, tag: str | None, target: str
) -> None:
    server.expect("PUT", target, Answer(status, {"Docker-Content-Digest": MANIFEST.digest}))
    await connect().push_manifest(MANIFEST, DATA, tag)
    assert server.seen[0].body == DATA
    assert server.seen[0].headers["content-type"] == mediatype.OCI_MANIFEST


async def test_a_target_that_made_something_else_of_it_is_caught(
    server: ScriptedRegistry, connect: Connect
) -> None:
    for _ in range(2):  # what happens once is damage on the way
        server.expect("PUT", TAG, Answer(201, {"Docker-Content-Digest": Digest.of(b"converted")}))
    with pytest.raises(DigestMismatch) as changed:
        await connect().push_manifest(MANIFEST, DATA, "v1")
    assert "byte-exact" in str(changed.value.advice)


@pytest.mark.parametrize(
    "damaged",
    [
        Answer(201, {"Docker-Content-Digest": Digest.of(b"with a wrong bit")}),
        Answer(400, {}, b'{"errors":[{"code":"DIGEST_INVALID"}]}'),
        Answer(400, {}, b'{"errors":[{"code":"MANIFEST_INVALID"}]}'),
    ],
    ids=["kept", "of a digest", "of a tag"],
)
async def test_a_manifest_that_was_damaged_on_the_way_is_pushed_again(
    server: ScriptedRegistry, connect: Connect, damaged: Answer
) -> None:
    """Where the target kept it, the tag stands for the wrong bytes until then."""
    server.expect("PUT", TAG, damaged)
    server.expect("PUT", TAG, Answer(201, {"Docker-Content-Digest": MANIFEST.digest}))
    await connect().push_manifest(MANIFEST, DATA, "v1")


@pytest.mark.parametrize("found", [DATA, b"another", None], ids=["it", "another", "none"])
async def test_a_push_without_an_answer_worked_if_the_tag_leads_to_it(
    server: ScriptedRegistry, connect: Connect, found: bytes | None
) -> None:
    server.expect("PUT", TAG, None)
    server.expect("GET", TAG, Answer(404) if found is None else Answer(200, {}, found))
    push = connect(retries=0).push_manifest(MANIFEST, DATA, "v1")
    if found == DATA:
        await push
    else:
        with pytest.raises(ReadFailed):
            await push


async def test_a_refused_type_says_so(server: ScriptedRegistry, connect: Connect) -> None:
    server.expect("PUT", TAG, Answer(415))
    with pytest.raises(Unsupported):
        await connect().push_manifest(MANIFEST, DATA, "v1")


@pytest.mark.parametrize(
    "data",
    [
        document(mediaType=mediatype.DOCKER_MANIFEST),
        json.dumps({"schemaVersion": 2, "mediaType": mediatype.DOCKER_LIST, "manifests": []}).encode(),
    ],
)
async def test_a_target_for_oci_manifests_alone_is_reported_with_what_to_do(
    server: ScriptedRegistry, connect: Connect, data: bytes
) -> None:
    media_type = json.loads(data)["mediaType"]
    server.expect("PUT", TAG, Answer(415, {}, b'{"errors":[{"code":"MANIFEST_INVALID"}]}'))
    with pytest.raises(Unsupported) as refused:
        await connect().push_manifest(describe(data, media_type), data, "v1")
    assert "docker2s2" in str(refused.value.advice)


@pytest.mark.parametrize(
    ("status", "codes"),
    [(500, ["UNKNOWN", "MANIFEST_BLOB_UNKNOWN"]), (400, ["MANIFEST_INVALID"])],
    ids=["distribution", "zot"],
)
async def test_layers_by_url_that_the_target_refuses_are_not_pushed_again(
    server: ScriptedRegistry, connect: Connect, status: int, codes: list[str]
) -> None:
    layer = {**EMPTY_CONFIG.to_json(), "urls": ["https://layers.invalid/base.tar"]}
    data = document(layers=[layer])
    body = json.dumps({"errors": [{"code": code} for code in codes]}).encode()
    server.expect("PUT", TAG, Answer(status, {}, body))
    with pytest.raises(RegistryError) as refused:
        await connect().push_manifest(describe(data, mediatype.OCI_MANIFEST), data, "v1")
    assert not refused.value.retryable
    assert "validation.manifests.urls" in str(refused.value.advice)


@pytest.mark.parametrize(
    "answer", [Answer(201), Answer(400, {}, b'{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}')]
)
async def test_a_push_for_whose_blobs_another_client_races_is_repeated_once(
    server: ScriptedRegistry, connect: Connect, answer: Answer
) -> None:
    codes = [{"code": "DIGEST_INVALID"}, {"code": "MANIFEST_BLOB_UNKNOWN"}]
    server.expect("PUT", TAG, Answer(400, {}, json.dumps({"errors": codes}).encode()))
    server.expect("PUT", TAG, answer)
    push = connect().push_manifest(MANIFEST, DATA, "v1")
    if answer.status == 201:
        await push
    else:
        with pytest.raises(RegistryError):
            await push


# -- other digests than sha256 -----------------------------------------------------------------------

SHA512 = describe(DATA, mediatype.OCI_MANIFEST, "sha512")
TAGGED_AT_ONCE = f"/v2/x/manifests/{SHA512.digest}?tag=v1"


@pytest.mark.parametrize("tags", ["v1", "other, v1"])
async def test_a_sha512_manifest_is_pushed_by_digest_and_tagged_at_once(
    server: ScriptedRegistry, connect: Connect, tags: str
) -> None:
    named_so = {"Docker-Content-Digest": str(SHA512.digest), "OCI-Tag": tags}
    server.expect("PUT", TAGGED_AT_ONCE, Answer(201, named_so))
    await connect().push_manifest(SHA512, DATA, "v1")
    assert server.seen[0].body == DATA


@pytest.mark.parametrize("answer", [Answer(201), Answer(400), Answer(404), Answer(414)])
async def test_a_registry_that_tags_nothing_by_digest_gets_the_tag_by_default(
    server: ScriptedRegistry, connect: Connect, answer: Answer
) -> None:
    server.expect("PUT", TAGGED_AT_ONCE, answer)
    server.expect("PUT", TAG, Answer(201, {"Docker-Content-Digest": str(MANIFEST.digest)}))
    await connect().push_manifest(SHA512, DATA, "v1")
    assert [seen.body for seen in server.seen] == [DATA, DATA]
