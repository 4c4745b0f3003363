"""The distribution specification, request by request: the embedded registry and docker-registry 2.8.2.

The embedded registry stands in for real ones in other tests, so it must behave as they do: every row and
every test here runs on both. Where 2.8.2 differs, the row has the difference in `docker`.
"""

from __future__ import annotations

import hashlib
import http.client
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from conformance.subject import Subject
from crossdock.imagebuilder import DOCKER_LIST, OCI_INDEX, OCI_MANIFEST, Content, ImageBuilder
from support.push import Reply, sha256

OCTETS = {"Content-Type": "application/octet-stream"}
DATA = bytes(range(256)) * 40  # 10 240 bytes
MISSING = "sha256:" + "0" * 64
BROKEN = (0, "")  # 2.8.2 sends a 416 whose body is shorter than its Content-Length
CODES_OF_THE_SPEC = {
    "BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN", "SIZE_INVALID", "UNSUPPORTED",
}  # fmt: skip


def codes(reply: Reply) -> list[str]:
    return [error["code"] for error in reply.json()["errors"]]


def with_digest(location: str, digest: str) -> str:
    return f"{location}{'&' if '?' in location else '?'}digest={digest}"


def push(registry: Subject, name: str, builder: ImageBuilder, *contents: Content, tag: str = "") -> None:
    """Push every blob of the builder, then the manifests in order, the last one under `tag`."""
    for digest in builder.digests():
        registry.remote.push_blob(name, builder.read(digest))
    for content in contents:
        reference = tag if content is contents[-1] else ""
        registry.remote.push_manifest(name, builder.read(content), content.media_type, reference)


# -- single requests ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One request to a repository that holds blob `DATA`, image `v1` and index `multi` of two images."""

    title: str
    method: str
    path: str  # {name}, {blob}, {image}, {index}, {child}, {missing}
    status: int
    code: str = ""
    sends: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    gives: dict[str, str] = field(default_factory=dict)  # headers of the response
    docker: tuple[int, str] | None = None  # its status and code where docker-registry 2.8.2 deviates


ROWS = [
    Row("end-1 says that the API is spoken", "GET", "/v2/", 200),
    Row("end-2 gives a blob with its digest", "GET", "/v2/{name}/blobs/{blob}", 200,
        gives={"docker-content-digest": "{blob}", "content-length": "10240", "accept-ranges": "bytes"}),
    Row("end-2 HEAD gives size and digest of a blob", "HEAD", "/v2/{name}/blobs/{blob}", 200,
        gives={"docker-content-digest": "{blob}", "content-length": "10240"}),
    Row("an unknown blob", "GET", "/v2/{name}/blobs/{missing}", 404, "BLOB_UNKNOWN"),
    Row("HEAD of an unknown blob", "HEAD", "/v2/{name}/blobs/{missing}", 404),
    Row("a digest that is too short", "GET", "/v2/{name}/blobs/sha256:abc", 400, "DIGEST_INVALID"),
    Row("a digest of an unknown algorithm", "GET", "/v2/{name}/blobs/md5:d41d8cd98f00b204e9800998ecf8427e",
        400, "DIGEST_INVALID"),
    Row("end-3 gives a manifest by tag", "GET", "/v2/{name}/manifests/v1", 200,
        gives={"content-type": OCI_MANIFEST, "docker-content-digest": "{image}"}),
    Row("end-3 gives a manifest by digest", "GET", "/v2/{name}/manifests/{image}", 200,
        gives={"content-type": OCI_MANIFEST, "docker-content-digest": "{image}"}),
    Row("end-3 gives an index by tag", "GET", "/v2/{name}/manifests/multi", 200,
        gives={"content-type": OCI_INDEX, "docker-content-digest": "{index}"}),
    Row("a child of an index by digest", "GET", "/v2/{name}/manifests/{child}", 200,
        gives={"content-type": OCI_MANIFEST, "docker-content-digest": "{child}"}),
    Row("end-3 HEAD gives type, size and digest", "HEAD", "/v2/{name}/manifests/v1", 200,
        gives={"content-type": OCI_MANIFEST, "docker-content-digest": "{image}", "content-length": "{size}"}),
    Row("an unknown tag", "GET", "/v2/{name}/manifests/v9", 404, "MANIFEST_UNKNOWN"),
    Row("an unknown manifest", "GET", "/v2/{name}/manifests/{missing}", 404, "MANIFEST_UNKNOWN"),
    # 2.8.2 keeps blobs and manifests in one place, and stumbles when it parses the blob.
    Row("a blob is no manifest", "GET", "/v2/{name}/manifests/{blob}", 404, "MANIFEST_UNKNOWN",
        docker=(500, "UNKNOWN")),
    Row("HEAD of an unknown tag", "HEAD", "/v2/{name}/manifests/v9", 404),
    Row("an unknown repository's manifest", "GET", "/v2/conf/nothing/manifests/v1", 404, "NAME_UNKNOWN",
        docker=(404, "MANIFEST_UNKNOWN")),
    # 2.8.2 has no tag or name grammar beyond its routes: a name that does not match is a 404 page.
    Row("a tag that is none", "GET", "/v2/{name}/manifests/-v1", 400, "TAG_INVALID", docker=(404, "")),
    Row("a name that is none", "GET", "/v2/{name}/UPPER/manifests/v1", 400, "NAME_INVALID", docker=(404, "")),
    Row("a name that climbs", "GET", "/v2/%2e%2e/%2e%2e/etc/manifests/v1", 400, "NAME_INVALID",
        docker=(301, "")),
    Row("an address outside the API", "GET", "/v3/", 404, "UNSUPPORTED", docker=(404, "")),
    Row("a method that is none here", "POST", "/v2/{name}/tags/list", 405, "UNSUPPORTED", body=b"",
        docker=(405, "")),
    Row("a method that is none for manifests", "PATCH", "/v2/{name}/manifests/v1", 405, "UNSUPPORTED",
        body=b"", docker=(405, "")),
    # 2.8.2 wants its own `_state` in the address before it looks.
    Row("an unknown upload", "GET", "/v2/{name}/blobs/uploads/6b1f4c0e-0000-4000-8000-000000000000",
        404, "BLOB_UPLOAD_UNKNOWN",
        docker=(404, "BLOB_UPLOAD_INVALID")),
    Row("an unknown upload's chunk", "PATCH", "/v2/{name}/blobs/uploads/6b1f4c0e-0000-4000-8000-000000000000",
        404, "BLOB_UPLOAD_UNKNOWN", sends=OCTETS, body=b"x",
        docker=(404, "BLOB_UPLOAD_INVALID")),
    Row("an unknown upload's end", "DELETE", "/v2/{name}/blobs/uploads/6b1f4c0e-0000-4000-8000-000000000000",
        404, "BLOB_UPLOAD_UNKNOWN",
        docker=(404, "BLOB_UPLOAD_INVALID")),
    Row("a range", "GET", "/v2/{name}/blobs/{blob}", 206, sends={"Range": "bytes=1-3"},
        gives={"content-range": "bytes 1-3/10240", "content-length": "3"}),
    Row("an open range", "GET", "/v2/{name}/blobs/{blob}", 206, sends={"Range": "bytes=10000-"},
        gives={"content-range": "bytes 10000-10239/10240", "content-length": "240"}),
    Row("a suffix range", "GET", "/v2/{name}/blobs/{blob}", 206, sends={"Range": "bytes=-40"},
        gives={"content-range": "bytes 10200-10239/10240", "content-length": "40"}),
    Row("a range past the end is cut", "GET", "/v2/{name}/blobs/{blob}", 206,
        sends={"Range": "bytes=10230-99999"}, gives={"content-range": "bytes 10230-10239/10240"}),
    Row("a range behind the end", "GET", "/v2/{name}/blobs/{blob}", 416, sends={"Range": "bytes=10240-10250"},
        gives={"content-range": "bytes */10240"}, docker=BROKEN),
    # RFC 9110 lets a server ignore a header that it does not understand; Go's refuses it.
    Row("a range in another unit is ignored", "GET", "/v2/{name}/blobs/{blob}", 200,
        sends={"Range": "lines=1-2"}, docker=BROKEN),
    Row("several ranges are answered with everything", "GET", "/v2/{name}/blobs/{blob}", 200,
        sends={"Range": "bytes=0-1,5-6"}, docker=(206, "")),
    Row("an If-Range that does not hold gives everything", "GET", "/v2/{name}/blobs/{blob}", 200,
        sends={"Range": "bytes=1-3", "If-Range": '"other"'}),
    Row("an unchanged blob", "GET", "/v2/{name}/blobs/{blob}", 304, sends={"If-None-Match": '"{blob}"'}),
    Row("an unchanged manifest", "GET", "/v2/{name}/manifests/v1", 304, sends={"If-None-Match": '"{image}"'}),
    Row("a manifest without a word", "PUT", "/v2/{name}/manifests/bad", 400, "MANIFEST_INVALID",
        sends={"Content-Type": OCI_MANIFEST}, body=b""),
    Row("a manifest that is no JSON", "PUT", "/v2/{name}/manifests/bad", 400, "MANIFEST_INVALID",
        sends={"Content-Type": OCI_MANIFEST}, body=b"no json"),
    Row("a manifest of a type that is none", "PUT", "/v2/{name}/manifests/bad", 415, "MANIFEST_INVALID",
        sends={"Content-Type": "text/plain"}, body=b"{}", docker=(400, "MANIFEST_INVALID")),
    Row("a manifest under another digest", "PUT", "/v2/{name}/manifests/{missing}", 400, "DIGEST_INVALID",
        sends={"Content-Type": OCI_INDEX},
        body=b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'),
    Row("an upload with a digest that is none", "POST", "/v2/{name}/blobs/uploads/?digest=sha256:abc", 400,
        "DIGEST_INVALID", sends=OCTETS, body=b"x", docker=(202, "")),  # 2.8.2: no single POST, so a session
    Row("an upload of an unknown algorithm", "POST", "/v2/{name}/blobs/uploads/?digest-algorithm=md5", 400,
        "DIGEST_INVALID", body=b"", docker=(202, "")),  # specification 1.1, which 2.8.2 is older than
    Row("a page that is no number", "GET", "/v2/{name}/tags/list?n=x", 400, "PAGINATION_NUMBER_INVALID",
        docker=(200, "")),
    Row("tags of an unknown repository", "GET", "/v2/conf/nothing/tags/list", 404, "NAME_UNKNOWN"),
    Row("referrers of a digest that is none", "GET", "/v2/{name}/referrers/abc", 400, "DIGEST_INVALID",
        docker=(404, "")),  # 2.8.2 has no referrers API
    Row("referrers of an unknown manifest", "GET", "/v2/{name}/referrers/{missing}", 200,
        gives={"content-type": OCI_INDEX}, docker=(404, "")),
    Row("referrers in an unknown repository", "GET", "/v2/conf/nothing/referrers/{missing}", 200,
        gives={"content-type": OCI_INDEX}, docker=(404, "")),
    Row("the end of an unknown blob", "DELETE", "/v2/{name}/blobs/{missing}", 404, "BLOB_UNKNOWN"),
    Row("the end of an unknown manifest", "DELETE", "/v2/{name}/manifests/{missing}", 404,
        "MANIFEST_UNKNOWN"),
    # "A registry MAY implement tag deletion": 2.8.2 does not, and wants a digest there.
    Row("the end of an unknown tag", "DELETE", "/v2/{name}/manifests/v9", 404, "MANIFEST_UNKNOWN",
        docker=(400, "DIGEST_INVALID")),
]  # fmt: skip


@pytest.fixture(scope="session")
def prepared() -> dict[str, dict[str, str]]:
    """The contents of the rows' repository, by registry; filled by the first row."""
    return {}


def prepare(registry: Subject, prepared: dict[str, dict[str, str]]) -> dict[str, str]:
    if registry.kind not in prepared:
        name = "conf/rows"
        builder = ImageBuilder(seed=11)
        image = builder.image([builder.random_layer(2000)])
        children = [
            builder.image([builder.random_layer(3000)], f"linux/{arch}") for arch in ("arm64", "s390x")
        ]
        index = builder.index(children)
        push(registry, name, builder, image, tag="v1")
        push(registry, name, builder, *children, index, tag="multi")
        prepared[registry.kind] = {
            "name": name, "blob": registry.remote.push_blob(name, DATA), "missing": MISSING,
            "image": image.digest, "size": str(image.size),
            "index": index.digest, "child": children[0].digest,
        }  # fmt: skip
    return prepared[registry.kind]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.title)
def test_request(registry: Subject, prepared: dict[str, dict[str, str]], row: Row) -> None:
    known = prepare(registry, prepared)
    sends = {key: value.format(**known) for key, value in row.sends.items()}
    if row.docker == BROKEN and not registry.is_embedded:
        with pytest.raises(http.client.IncompleteRead):
            registry.request(row.method, row.path.format(**known), row.body, sends)
        return
    reply = registry.request(row.method, row.path.format(**known), row.body, sends)
    status, code = row.status, row.code
    if row.docker is not None and not registry.is_embedded:
        status, code = row.docker
    assert reply.status == status, reply
    if code:
        assert codes(reply)[0] == code
    if row.docker is None or registry.is_embedded:
        found = {key: reply.headers.get(key) for key in row.gives}
        assert found == {key: value.format(**known) for key, value in row.gives.items()}
        assert "docker-distribution-api-version" in reply.headers
    if registry.is_embedded and status >= 400 and row.method != "HEAD":
        assert set(codes(reply)) <= CODES_OF_THE_SPEC | {"TAG_INVALID", "PAGINATION_NUMBER_INVALID"}
        assert reply.headers["content-type"].startswith("application/json")


# -- pulling -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        (None, 0, 10240),
        ("bytes=0-0", 0, 1),
        ("bytes=-7", 10233, 10240),
        ("bytes=4096-8191", 4096, 8192),
    ],
)
def test_the_bytes_of_a_range_are_those_of_the_blob(
    registry: Subject, name: str, header: str | None, start: int, stop: int
) -> None:
    digest = registry.remote.push_blob(name, DATA)
    reply = registry.request("GET", f"/v2/{name}/blobs/{digest}", headers={"Range": header} if header else {})
    assert reply.body == DATA[start:stop]


def test_a_large_blob_comes_back_as_it_went(registry: Subject, name: str) -> None:
    data = hashlib.shake_256(b"large").digest(9_000_001)
    digest = registry.remote.push_blob(name, data)
    assert registry.remote.blob(name, digest) == data


def test_a_manifest_comes_back_byte_for_byte(registry: Subject, name: str) -> None:
    builder = ImageBuilder(seed=1)
    config = builder.blob(b"{}", "application/vnd.oci.image.config.v1+json")
    data = json.dumps(
        {"layers": [], "config": config.document(), "mediaType": OCI_MANIFEST, "schemaVersion": 2, "x": "é"},
        indent=7,
    ).encode()
    registry.remote.push_blob(name, b"{}")
    registry.remote.push_manifest(name, data, OCI_MANIFEST, "v1")
    assert registry.remote.manifest(name, "v1").body == data
    assert registry.remote.manifest(name, sha256(data)).body == data


# -- pushing blobs -----------------------------------------------------------------------------------


def test_an_upload_in_one_put(registry: Subject, name: str) -> None:
    location = registry.open_upload(name)
    done = registry.request("PUT", with_digest(location, sha256(DATA)), DATA, OCTETS)
    assert done.status == 201
    assert done.headers["docker-content-digest"] == sha256(DATA)
    assert registry.request("GET", done.headers["location"]).body == DATA


def test_an_upload_in_one_post(registry: Subject, name: str) -> None:
    reply = registry.request("POST", f"/v2/{name}/blobs/uploads/?digest={sha256(DATA)}", DATA, OCTETS)
    if not registry.is_embedded:
        assert (
            reply.status == 202
        )  # "Registries that do not support single request monolithic uploads SHOULD return 202"
        return
    assert reply.status == 201
    assert registry.request("GET", reply.headers["location"]).body == DATA


def test_an_upload_in_chunks(registry: Subject, name: str) -> None:
    location = registry.open_upload(name)
    for start in range(0, len(DATA), 4000):
        chunk = DATA[start : start + 4000]
        headers = {**OCTETS, "Content-Range": f"{start}-{start + len(chunk) - 1}"}
        reply = registry.request("PATCH", location, chunk, headers)
        assert (reply.status, reply.headers["range"]) == (202, f"0-{start + len(chunk) - 1}")
        location = reply.headers["location"]
        status = registry.request("GET", location)
        assert (status.status, status.headers["range"]) == (204, f"0-{start + len(chunk) - 1}")
        assert "location" in status.headers
    assert registry.request("PUT", with_digest(location, sha256(DATA)), b"").status == 201
    assert registry.remote.blob(name, sha256(DATA)) == DATA


def test_the_last_chunk_may_come_with_the_put(registry: Subject, name: str) -> None:
    location = registry.open_upload(name)
    reply = registry.request("PATCH", location, DATA[:6000], {**OCTETS, "Content-Range": "0-5999"})
    headers = {**OCTETS, "Content-Range": f"6000-{len(DATA) - 1}"}
    done = registry.request("PUT", with_digest(reply.headers["location"], sha256(DATA)), DATA[6000:], headers)
    assert done.status == 201
    assert registry.remote.blob(name, sha256(DATA)) == DATA


def test_a_patch_without_content_range_appends(registry: Subject, name: str) -> None:
    location = registry.open_upload(name)
    for part in (DATA[:5000], DATA[5000:]):
        reply = registry.request("PATCH", location, part, OCTETS)
        assert reply.status == 202
        location = reply.headers["location"]
    assert registry.request("PUT", with_digest(location, sha256(DATA)), b"").status == 201


def test_a_streamed_patch_has_no_length(registry: Subject, name: str) -> None:
    location = registry.open_upload(name)
    path = location.removeprefix(f"http://{registry.host}")
    connection = http.client.HTTPConnection(registry.host, timeout=30)
    pieces = (DATA[start : start + 1000] for start in range(0, len(DATA), 1000))
    connection.request("PATCH", path, body=pieces, headers=OCTETS, encode_chunked=True)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    assert (answer.status, answer.headers["Range"]) == (202, f"0-{len(DATA) - 1}")
    assert registry.request("PUT", with_digest(answer.headers["Location"], sha256(DATA)), b"").status == 201


@pytest.mark.parametrize("start", [0, 3000, 9000])
def test_a_chunk_out_of_order_is_refused_with_416_and_the_session_lives(
    registry: Subject, name: str, start: int
) -> None:
    location = registry.open_upload(name)
    location = registry.request("PATCH", location, DATA[:4000], OCTETS).headers["location"]
    headers = {**OCTETS, "Content-Range": f"{start}-{start + 99}"}
    refused = registry.request("PATCH", location, DATA[start : start + 100], headers)
    if not registry.is_embedded:
        # 2.8.2 does not look at Content-Range: it appends, and the digest is wrong in the end.
        assert (refused.status, refused.headers["range"]) == (202, "0-4099")
        return
    assert refused.status == 416
    assert (refused.headers["range"], refused.headers["location"]) == ("0-3999", location)
    status = registry.request("GET", location)
    assert (status.status, status.headers["range"]) == (204, "0-3999")
    rest = registry.request("PUT", with_digest(status.headers["location"], sha256(DATA)), DATA[4000:], OCTETS)
    assert rest.status == 201


def test_a_last_chunk_out_of_order_is_refused_with_416(registry: Subject, name: str) -> None:
    location = registry.open_upload(name)
    location = registry.request("PATCH", location, DATA[:4000], OCTETS).headers["location"]
    headers = {**OCTETS, "Content-Range": f"5000-{len(DATA) - 1}"}
    reply = registry.request("PUT", with_digest(location, sha256(DATA)), DATA[5000:], headers)
    # 2.8.2 does not look at a PUT's Content-Range and finds the digest wrong.
    assert reply.status == (416 if registry.is_embedded else 400)


def test_a_wrong_digest_ends_the_upload(registry: Subject, name: str) -> None:
    location = registry.open_upload(name)
    reply = registry.request("PUT", with_digest(location, MISSING), DATA, OCTETS)
    assert (reply.status, codes(reply)) == (400, ["DIGEST_INVALID"])
    assert registry.request("GET", location).status == 404
    assert not registry.remote.has_blob(name, MISSING)
    assert not registry.remote.has_blob(name, sha256(DATA))


def test_the_put_needs_a_digest(registry: Subject, name: str) -> None:
    reply = registry.request("PUT", registry.open_upload(name), DATA, OCTETS)
    assert (reply.status, codes(reply)) == (400, ["DIGEST_INVALID"])


def test_a_cancelled_upload_is_gone(registry: Subject, name: str) -> None:
    location = registry.open_upload(name)
    location = registry.request("PATCH", location, DATA, OCTETS).headers["location"]
    assert registry.request("DELETE", location).status == 204
    assert registry.request("GET", location).status == 404


def test_an_upload_belongs_to_its_repository(registry: Subject, name: str) -> None:
    location = registry.open_upload(name)
    reply = registry.request("GET", location.replace(name, f"{name}-other"))
    assert reply.status == 404


def test_a_sha512_blob(registry: Subject, name: str) -> None:
    digest = "sha512:" + hashlib.sha512(DATA).hexdigest()
    location = registry.open_upload(name, "?digest-algorithm=sha512")
    done = registry.request("PUT", with_digest(location, digest), DATA, OCTETS)
    assert done.status == 201
    answered = done.headers["docker-content-digest"]
    assert answered == (digest if registry.is_embedded else sha256(DATA))  # 2.8.2 stores all under sha256
    assert registry.remote.blob(name, answered) == DATA


def test_an_empty_blob(registry: Subject, name: str) -> None:
    assert registry.remote.blob(name, registry.remote.push_blob(name, b"")) == b""


def test_a_blob_may_be_pushed_twice(registry: Subject, name: str) -> None:
    for _ in range(2):
        assert registry.remote.push_blob(name, DATA) == sha256(DATA)


# -- mounting ----------------------------------------------------------------------------------------


def test_a_mount_of_a_known_blob_needs_no_upload(registry: Subject, name: str) -> None:
    digest = registry.remote.push_blob(f"{name}/origin", DATA)
    path = f"/v2/{name}/copy/blobs/uploads/?mount={digest}&from={name}/origin"
    reply = registry.request("POST", path, b"")
    assert (reply.status, reply.headers["docker-content-digest"]) == (201, digest)
    assert registry.request("GET", reply.headers["location"]).body == DATA
    assert registry.request("POST", path, b"").status == 201


@pytest.mark.parametrize("query", ["&from={name}/origin", "&from={name}/nothing", ""])
def test_a_mount_that_cannot_be_opens_an_upload(registry: Subject, name: str, query: str) -> None:
    registry.remote.push_blob(f"{name}/origin", DATA)
    path = f"/v2/{name}/copy/blobs/uploads/?mount={sha256(b'other')}{query.format(name=name)}"
    reply = registry.request("POST", path, b"")
    assert reply.status == 202
    done = registry.request("PUT", with_digest(reply.headers["location"], sha256(b"other")), b"other", OCTETS)
    assert done.status == 201


def test_deleting_the_origin_leaves_what_was_mounted(registry: Subject, name: str) -> None:
    digest = registry.remote.push_blob(f"{name}/origin", DATA)
    registry.request("POST", f"/v2/{name}/copy/blobs/uploads/?mount={digest}&from={name}/origin", b"")
    assert registry.request("DELETE", f"/v2/{name}/origin/blobs/{digest}").status == 202
    assert registry.remote.blob(f"{name}/copy", digest) == DATA


# -- pushing manifests -------------------------------------------------------------------------------


def test_a_pushed_manifest_is_named_and_located(registry: Subject, name: str) -> None:
    builder = ImageBuilder(seed=2)
    image = builder.image([])
    push(registry, name, builder)
    headers = {"Content-Type": OCI_MANIFEST}
    for reference in ("v1", image.digest):
        reply = registry.request("PUT", f"/v2/{name}/manifests/{reference}", builder.read(image), headers)
        assert (reply.status, reply.headers["docker-content-digest"]) == (201, image.digest)
        assert registry.request("GET", reply.headers["location"]).body == builder.read(image)


def test_a_manifest_before_its_blobs_is_refused(registry: Subject, name: str) -> None:
    builder = ImageBuilder(seed=3)
    image = builder.image([builder.random_layer(100), builder.random_layer(200)])
    reply = registry.request(
        "PUT", f"/v2/{name}/manifests/v1", builder.read(image), {"Content-Type": OCI_MANIFEST}
    )
    assert reply.status == 400
    assert codes(reply) == ["MANIFEST_BLOB_UNKNOWN"] * 3
    assert registry.request("GET", f"/v2/{name}/manifests/v1").status == 404


@pytest.mark.parametrize("flavour", ["oci", "docker"])
def test_an_index_before_its_children_is_refused(registry: Subject, name: str, flavour: Any) -> None:
    builder = ImageBuilder(seed=4)
    index = builder.index([builder.image([], flavour=flavour)], flavour=flavour)
    media_type = OCI_INDEX if flavour == "oci" else DOCKER_LIST
    reply = registry.request(
        "PUT", f"/v2/{name}/manifests/v1", builder.read(index), {"Content-Type": media_type}
    )
    assert (reply.status, codes(reply)) == (400, ["MANIFEST_BLOB_UNKNOWN"])


def test_a_blob_with_the_bytes_of_a_manifest_is_not_a_manifest(registry: Subject, name: str) -> None:
    builder = ImageBuilder(seed=4)
    child = builder.image([])
    index = builder.index([child])
    registry.remote.push_blob(name, builder.read(child))
    path = f"/v2/{name}/manifests/"
    if (
        not registry.is_embedded
    ):  # distribution 2 serves it; the copies of such content are made safe for that
        assert registry.request("GET", path + child.digest).status == 200
        return
    assert registry.request("GET", path + child.digest).status == 404
    reply = registry.request("PUT", path + "v1", builder.read(index), {"Content-Type": OCI_INDEX})
    assert (reply.status, codes(reply)) == (400, ["MANIFEST_BLOB_UNKNOWN"])
    assert registry.request("GET", path + child.digest).status == 404


def test_a_type_that_contradicts_the_document_is_refused(registry: Subject, name: str) -> None:
    builder = ImageBuilder(seed=5)
    image = builder.image([])
    push(registry, name, builder)
    reply = registry.request(
        "PUT", f"/v2/{name}/manifests/v1", builder.read(image), {"Content-Type": OCI_INDEX}
    )
    assert (reply.status, codes(reply)) == (400, ["MANIFEST_INVALID"])


def test_a_manifest_of_4_mib_is_taken_and_a_larger_one_is_too_large(registry: Subject, name: str) -> None:
    builder = ImageBuilder(seed=6)
    config = builder.blob(b"{}", "application/vnd.oci.image.config.v1+json")
    push(registry, name, builder)

    def manifest(size: int) -> bytes:
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": config.document(),
            "layers": [],
            "x": "",
        }
        return json.dumps({**document, "x": "x" * (size - len(json.dumps(document)))}).encode()

    data = manifest(4 << 20)
    assert len(data) == 4 << 20
    assert registry.remote.push_manifest(name, data, OCI_MANIFEST, "v1") == sha256(data)
    too_large = registry.request(
        "PUT", f"/v2/{name}/manifests/v2", manifest((4 << 20) + 1), {"Content-Type": OCI_MANIFEST}
    )
    assert too_large.status == (413 if registry.is_embedded else 400)  # 2.8.2: MANIFEST_INVALID


def test_a_tag_moves(registry: Subject, name: str) -> None:
    builder = ImageBuilder(seed=7)
    images = [builder.image([], annotations={"n": n}) for n in "12"]
    for image in images:
        push(registry, name, builder, image, tag="v1")
    assert registry.remote.manifest(name, "v1").headers["docker-content-digest"] == images[1].digest
    assert registry.remote.manifest(name, images[0].digest).status == 200


def test_several_tags_in_one_push(embedded: Subject, name: str) -> None:
    builder = ImageBuilder(seed=7)
    image = builder.image([])
    push(embedded, name, builder)
    path = f"/v2/{name}/manifests/{image.digest}?tag=1.2.3&tag=1.2&tag=latest"
    reply = embedded.request("PUT", path, builder.read(image), {"Content-Type": OCI_MANIFEST})
    assert (reply.status, reply.headers["oci-tag"]) == (201, "1.2.3, 1.2, latest")
    assert embedded.remote.tags(name) == ["1.2", "1.2.3", "latest"]


# -- referrers ---------------------------------------------------------------------------------------


def test_a_subject_need_not_exist(registry: Subject, name: str) -> None:
    builder = ImageBuilder(seed=8)
    absent = Content(OCI_MANIFEST, MISSING, 10)
    signature = builder.artifact("application/vnd.example.signature", subject=absent)
    push(registry, name, builder)
    reply = registry.request(
        "PUT",
        f"/v2/{name}/manifests/{signature.digest}",
        builder.read(signature),
        {"Content-Type": OCI_MANIFEST},
    )
    assert reply.status == 201
    assert reply.headers.get("oci-subject") == (MISSING if registry.is_embedded else None)


def test_referrers_are_listed_with_type_and_annotations(embedded: Subject, name: str) -> None:
    builder = ImageBuilder(seed=9)
    image = builder.image([])
    sbom = builder.artifact("application/vnd.example.sbom", subject=image, annotations={"format": "json"})
    signature = builder.artifact("application/vnd.example.signature", subject=image)
    document = json.loads(builder.read(builder.image([])))
    helm = builder.manifest({**document, "subject": image.document()})
    push(embedded, name, builder, image, tag="v1")
    push(embedded, name, builder, sbom, signature, helm)
    found = embedded.request("GET", f"/v2/{name}/referrers/{image.digest}")
    assert found.headers["content-type"] == OCI_INDEX
    assert "oci-filters-applied" not in found.headers
    by_digest = {entry["digest"]: entry for entry in found.json()["manifests"]}
    assert by_digest == {
        sbom.digest: {"mediaType": OCI_MANIFEST, "digest": sbom.digest, "size": sbom.size,
                      "artifactType": "application/vnd.example.sbom", "annotations": {"format": "json"}},
        signature.digest: {"mediaType": OCI_MANIFEST, "digest": signature.digest, "size": signature.size,
                           "artifactType": "application/vnd.example.signature"},
        helm.digest: {"mediaType": OCI_MANIFEST, "digest": helm.digest, "size": helm.size,
                      "artifactType": document["config"]["mediaType"]},
    }  # fmt: skip
    filtered = embedded.request(
        "GET", f"/v2/{name}/referrers/{image.digest}?artifactType=application/vnd.example.sbom"
    )
    assert filtered.headers["oci-filters-applied"] == "artifactType"
    assert [entry["digest"] for entry in filtered.json()["manifests"]] == [sbom.digest]
    embedded.request("DELETE", f"/v2/{name}/manifests/{sbom.digest}")
    after = embedded.request("GET", f"/v2/{name}/referrers/{image.digest}").json()["manifests"]
    assert sbom.digest not in [entry["digest"] for entry in after]


# -- lists -------------------------------------------------------------------------------------------


def test_tags_come_sorted_and_in_pages(embedded: Subject, name: str) -> None:
    builder = ImageBuilder(seed=10)
    image = builder.image([])
    for tag in ("b", "a", "B", "c"):
        push(embedded, name, builder, image, tag=tag)
    listed = embedded.request("GET", f"/v2/{name}/tags/list")
    assert listed.json() == {"name": name, "tags": ["B", "a", "b", "c"]}
    assert "link" not in listed.headers
    seen: list[str] = []
    path = f"/v2/{name}/tags/list?n=3"
    while path:
        page = embedded.request("GET", path)
        seen += page.json()["tags"]
        link = page.headers.get("link", "")
        assert not link or link.endswith('>; rel="next"')
        path = link[1:].partition(">")[0]
    assert seen == ["B", "a", "b", "c"]
    none = embedded.request("GET", f"/v2/{name}/tags/list?n=0")
    assert (none.json()["tags"], none.headers.get("link")) == ([], None)
    assert embedded.request("GET", f"/v2/{name}/tags/list?last=a").json()["tags"] == ["b", "c"]
    assert embedded.request("GET", f"/v2/{name}/tags/list?n=1&last=aa").json()["tags"] == ["b"]


def test_all_tags_are_listed(registry: Subject, name: str) -> None:
    builder = ImageBuilder(seed=10)
    image = builder.image([])
    for tag in ("v2", "v1", "_x"):
        push(registry, name, builder, image, tag=tag)
    assert sorted(registry.request("GET", f"/v2/{name}/tags/list").json()["tags"]) == ["_x", "v1", "v2"]


def test_the_catalog_lists_repositories_in_pages(registry: Subject, name: str) -> None:
    builder = ImageBuilder(seed=10)
    image = builder.image([])
    wanted = [f"{name}/{part}" for part in ("a", "a/b", "c")]
    for each in wanted:
        push(registry, each, builder, image, tag="v1")
    seen: list[str] = []
    path = "/v2/_catalog?n=2"
    while path:
        page = registry.request("GET", path)
        seen += page.json()["repositories"]
        path = page.headers.get("link", "")[1:].partition(">")[0]
    assert [each for each in seen if each in wanted] == wanted
    assert len(seen) == len(set(seen))


# -- deleting ----------------------------------------------------------------------------------------


def test_a_deleted_manifest_is_gone_with_its_tags(registry: Subject, name: str) -> None:
    builder = ImageBuilder(seed=12)
    image, other = (builder.image([], annotations={"n": n}) for n in "12")
    for content, tag in ((image, "v1"), (image, "v2"), (other, "v3")):
        push(registry, name, builder, content, tag=tag)
    assert registry.request("DELETE", f"/v2/{name}/manifests/{image.digest}").status == 202
    for reference in ("v1", "v2", image.digest):
        assert registry.remote.manifest(name, reference).status == 404
    assert registry.remote.manifest(name, "v3").status == 200
    assert registry.remote.tags(name) == ["v3"]
    push(registry, name, builder, image, tag="v1")
    assert registry.remote.manifest(name, "v1").status == 200


def test_a_deleted_index_leaves_its_children(registry: Subject, name: str) -> None:
    builder = ImageBuilder(seed=13)
    child = builder.image([])
    index = builder.index([child])
    push(registry, name, builder, child, index, tag="v1")
    assert registry.request("DELETE", f"/v2/{name}/manifests/{index.digest}").status == 202
    assert registry.remote.manifest(name, index.digest).status == 404
    assert registry.remote.manifest(name, child.digest).body == builder.read(child)


def test_a_deleted_tag_leaves_its_manifest(embedded: Subject, name: str) -> None:
    builder = ImageBuilder(seed=14)
    image = builder.image([])
    for tag in ("v1", "v2"):
        push(embedded, name, builder, image, tag=tag)
    for tag, left in (("v1", ["v2"]), ("v2", [])):
        assert embedded.request("DELETE", f"/v2/{name}/manifests/{tag}").status == 202
        assert embedded.remote.tags(name) == left
    assert embedded.remote.manifest(name, image.digest).status == 200


def test_a_deleted_blob_is_gone(registry: Subject, name: str) -> None:
    digest = registry.remote.push_blob(name, DATA)
    assert registry.request("DELETE", f"/v2/{name}/blobs/{digest}").status == 202
    assert registry.request("GET", f"/v2/{name}/blobs/{digest}").status == 404
    assert registry.remote.push_blob(name, DATA) == digest
    assert registry.remote.blob(name, digest) == DATA
