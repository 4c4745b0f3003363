"""The table of all targets, with seeds to begin from and words that their grammars know."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from crossdock.oci import mediatype
from fuzz import documents, identities, migrations, wire

_DIGEST = "sha256:" + "ab" * 32
_OTHER = "sha256:" + "cd" * 32
_MOMENT = "2023-11-14T22:13:20.123Z"
_LAYER = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": _DIGEST, "size": 100}
_MANIFEST = {
    "schemaVersion": 2,
    "mediaType": mediatype.OCI_MANIFEST,
    "config": {"mediaType": mediatype.OCI_CONFIG, "digest": _OTHER, "size": 2},
    "layers": [_LAYER, {**_LAYER, "digest": _OTHER, "size": 2}],
    "subject": {"mediaType": mediatype.OCI_MANIFEST, "digest": _OTHER, "size": 2},
    "annotations": {"a": "b"},
}
_ENTRY = {"mediaType": mediatype.OCI_MANIFEST, "digest": _DIGEST, "size": 5}
_TAGGED = {**_ENTRY, "annotations": {"org.opencontainers.image.ref.name": "v1"}}
_INDEX = {
    "schemaVersion": 2,
    "mediaType": mediatype.OCI_INDEX,
    "manifests": [
        {**_TAGGED, "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}},
        {
            **_ENTRY,
            "digest": _OTHER,
            "platform": {"os": "windows", "architecture": "amd64", "os.version": "10"},
        },
    ],
}
_AUTHS = {"auths": {"registry.example:5000": {"auth": "dTpw"}}, "credHelpers": {"docker.io": "none"}}


@dataclass(frozen=True)
class Target:
    """One parser: ``run`` fails by an exception; ``words`` are spliced into ``seeds`` and each other."""

    run: Callable[[bytes], None]
    seeds: Sequence[bytes]
    words: Sequence[str] = ()


def _json(*documents: object) -> list[bytes]:
    return [json.dumps(document).encode() for document in documents]


_JSON_WORDS = (
    *(
        '"',
        "\\u0000",
        "\\ud800",
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "null",
        "true",
        "-1",
        "0.5",
        "1e400",
        "1" * 5000,
    ),
    *('"digest"', '"size"', '"mediaType"', '"manifests"', '"layers"', '"config"', '"blobs"', '"platform"'),
    *(
        '"annotations"',
        '"fsLayers"',
        '"schemaVersion"',
        '"auths"',
        '"auth"',
        '"token"',
        '"expires_in"',
        "NaN",
    ),
)
_URL_WORDS = (
    *(
        "http://",
        "https://",
        "//",
        "/",
        "..",
        "?",
        "#",
        "@",
        ":",
        "%",
        "%2e",
        "\\",
        "[",
        "]",
        "[::1]",
        "127.1",
    ),
    *(
        "0x7f000001",
        "localhost",
        "10.0.0.1",
        "registry.example",
        "auth.example",
        ":443",
        ":0",
        ":99999",
        "\t",
    ),
    *("X-Amz-Date=20240101T000000Z", "X-Amz-Expires=60", "&", "se=", "sig=", "Expires=", "[::ffff:10.0.0.1]"),
)

_YAML_WORDS = (
    *("\n", " ", "  ", ": ", "- ", "{", "}", "[", "]", ",", "'", '"', "#", "&a ", "*a", "!!", "|", ">", "~"),
    *(
        "off",
        "true",
        "null",
        "1",
        "0.5",
        "-1",
        "2026-01-31",
        "12:30",
        "90d",
        "5MiB",
        "${A}",
        "${",
        "$${",
        "\\1",
    ),
    *("/", "/(/", "/a/", "*", "?", "(", ")", "oci:", "a.example", "@sha256:", ":", '{{env "A"}}', "{{"),
    *(
        "source",
        "targets",
        "tags",
        "include",
        "exclude",
        "semver",
        "newest",
        "sync",
        "type",
        "image",
        "registry",
    ),
)

TARGETS: dict[str, Target] = {
    "reference": Target(
        documents.reference,
        [
            b"alpine",
            b"docker://registry.example:5000/team/app:v1",
            f"localhost/a/b_c__d--e.f@{_DIGEST}".encode(),
            b"[2001:db8::1]:5000/x:latest",
            f"oci:dir/sub:a/b@{_DIGEST}".encode(),
        ],
        [
            "/",
            ":",
            "@",
            ".",
            "_",
            "__",
            "--",
            "docker://",
            "oci:",
            "docker.io",
            "index.docker.io",
            _DIGEST,
            "[",
        ],
    ),
    "listing": Target(
        documents.listing,
        _json(
            {"manifests": [{"digest": _DIGEST, "tags": ["v1"], "imageSize": 1, "lastUpdateTime": _MOMENT}]},
            [
                {
                    "digest": _DIGEST,
                    "tags": [{"name": "v1"}],
                    "push_time": _MOMENT,
                    "accessories": [{"digest": _OTHER, "creation_time": _MOMENT}],
                }
            ],
            {"tags": [{"name": "v1", "manifest_digest": _DIGEST, "start_ts": 1}], "has_additional": True},
            {
                "manifest": {_DIGEST: {"tag": ["v1"], "timeUploadedMs": "1", "imageSizeBytes": "1"}},
                "child": [],
            },
            {"imageDetails": [{"imageDigest": _DIGEST, "imageTags": ["v1"], "imagePushedAt": 1.5}]},
        ),
        (*_JSON_WORDS, '"tags"', '"v1"', "9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00-23:59", _DIGEST),
    ),
    "manifest": Target(documents.manifest, _json(_MANIFEST, _INDEX), _JSON_WORDS),
    "layout": Target(
        documents.layout,
        [_json(_INDEX)[0] + b'\n{"imageLayoutVersion":"1.0.0"}'],
        (*_JSON_WORDS, "\n", "org.opencontainers.image.ref.name", "io.containerd.image.name"),
    ),
    "pairs": Target(
        documents.pairs,
        [b"a b\n# comment\n\nregistry.example/x:1\tb:2 # why\noci:dir:t c\r\n", b"\xef\xbb\xbfa b"],
        ["#", " ", "\n", "\t", "\v", "oci:", "../", ":", "@", _DIGEST, "a b\n"],
    ),
    "credentials": Target(
        documents.credentials, _json(_AUTHS), (*_JSON_WORDS, '"docker.io"', "dTpw", "/v1/")
    ),
    "token": Target(
        documents.token, _json({"token": "t", "access_token": "u", "expires_in": 60}), _JSON_WORDS
    ),
    "journal": Target(documents.journal, [documents.journal_seed()], ["\0", "\x01", "\xff"]),
    "challenge": Target(
        wire.challenge,
        [
            b'Bearer realm="https://auth.example/token",service="a, b",scope="repository:x:pull,push"',
            b'Negotiate YWJj==, Basic realm="a\\"b", charset=UTF-8, Digest',
        ],
        ["Bearer ", "Basic ", ",", "=", '"', "\\", '\\"', " ", "realm", "realm=", "==", "\t", "a=b", "\x85"],
    ),
    "content_range": Target(
        wire.content_range,
        [b"bytes 0-9/10", b"bytes 5-9/*", b"bytes */10", b"0-0", b"bytes=0-9", b"bytes=-5", b"bytes=5-"],
        ["bytes", " ", "=", "-", "/", "*", "0", "9" * 19, "9" * 20, "18446744073709551615", "\xb2"],
    ),
    "link": Target(
        wire.link,
        [b'</v2/team/app/tags/list?last=b&n=10>; rel="next"', b"<a>; rel=prev, <b>; x=\"y\"; rel='next'"],
        ["<", ">", ";", ",", '"', "\\", '\\"', "rel=", "next", "\n", " ", *_URL_WORDS[:8]],
    ),
    "location": Target(
        wire.location,
        [
            b"/v2/team/app/blobs/uploads/1?_state=a",
            b"https://storage.example/x?X-Amz-Date=20240101T000000Z&X-Amz-Expires=60#f",
            b"https://cdn.example:443/a?se=2024-01-01T00:00:00Z&sig=x",
        ],
        _URL_WORDS,
    ),
    "redaction": Target(
        wire.redaction,
        [b"GET https://u:p@h.example/a?X-Amz-Signature=1&n=2: failed", b"/v2/?_state=x"],
        _URL_WORDS,
    ),
    "rate_limit": Target(
        wire.rate_limit,
        [
            b"ratelimit-limit: 100;w=21600\nratelimit-remaining: 3;w=21600",
            b'ratelimit: "a";r=1;t=30\nratelimit-policy: "a";q=9;w=60',
            b"ratelimit: limit=9, remaining=3, reset=30",
            b"ratelimit-remaining: 0\nratelimit-reset: 1700000007",
        ],
        [";", ",", "=", ":", "\n", '"', "w=", "r=", "t=", "q=", "remaining", "9" * 13, "-1", " ", "\xb2"],
    ),
    "retry_header": Target(
        wire.retry_header,
        [b"120", b"1.5", b"Wed, 21 Oct 2099 07:28:00 GMT", b"Mon, 1 Jan 0001 00:00:00 +2359"],
        ["Wed, ", "31 Dec ", "9999", "0001", ":", "-", "+", "GMT", "-0000", "99999999999", "60", " "],
    ),
    "error_body": Target(
        wire.error_body,
        [
            b'{"errors":[{"code":"DENIED","message":"no\\u001b","detail":{}}]}',
            b"<html><title>502 Bad Gateway</title>",
            b"\xff\xfeplain",
        ],
        (*_JSON_WORDS, "<title>", "</title", "\x1b[", '"errors"', '"code"', '"message"', "\u2028"),
    ),
    "head": Target(
        wire.head,
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nX-A: b\r\nx-a: \xe9 \r\n\r\n",
            b"HTTP/1.0 206 \r\nTransfer-Encoding: chunked\r\nConnection: close, x\r\n\r\n",
        ],
        [
            "\r\n",
            "\r",
            "\n",
            ":",
            " ",
            "\t",
            "\0",
            "HTTP/1.1 ",
            "Content-Length: ",
            "5, 5",
            "chunked",
            "\r\n\r\n",
        ],
    ),
    "chunked_body": Target(
        wire.chunked_body,
        [b"5\r\nhello\r\n1;a=b\r\n!\r\n0\r\nX: y\r\n\r\nrest", b"0a \r\n0123456789\r\n000\r\n\r\n"],
        [
            "\r\n",
            "\n",
            "\r",
            "0",
            "0\r\n\r\n",
            "f",
            ";",
            "0x",
            "+1",
            "_",
            " ",
            "5\r\nhello\r\n",
            "fffffffffffffff",
        ],
    ),
    "upload": Target(
        wire.upload,
        [
            b"202 /u/1 0-0 0\n202 /u/2 0-8388607 0\n201",
            b"202\n413\n202 /u/2 0-4194303\n416 /u/2 0-99\n0\n404\n401",
            b"202 /u/1 0-0 5000000\n204 /u/2 0-0\n500\n200",
        ],
        [
            "\n",
            " ",
            "202",
            "201",
            "204",
            "404",
            "413",
            "416",
            "500",
            "0",
            "429",
            "401",
            "405",
            "0-0",
            "0-8388607",
        ],
    ),
    "access token": Target(
        identities.token,
        [
            identities.TOKEN,
            b'{"alg":"RS256","kid":"k1"}\n' + json.dumps(identities.GOOD).encode(),
            b'{"alg":"none"}\n{"iss":"https://login.example.com/T"}',
        ],
        (
            *_JSON_WORDS,
            ".",
            "=",
            "-",
            "\n",
            '"alg"',
            '"kid"',
            '"b64"',
            '"crit"',
            '"iss"',
            '"HS256"',
            '"ES256"',
        ),
    ),
    "claims": Target(
        identities.signed_claims,
        _json(identities.GOOD, {**identities.GOOD, "oid": "o", "appid": "a", "idtyp": "app", "scp": "s"}),
        (*_JSON_WORDS, '"aud"', '"exp"', '"nbf"', '"iat"', '"sub"', '"oid"', '"azp"', '"tid"', "Infinity"),
    ),
    "key set": Target(
        identities.key_set,
        _json(
            identities.KNOWN.keys,
            {"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "use": "sig"}]},
        ),
        (*_JSON_WORDS, '"kty"', '"RSA"', '"n"', '"e"', '"AQAB"', '"crv"', '"use"', '"alg"', '"keys"', '"d"'),
    ),
    "migration": Target(
        migrations.migration,
        [
            b"version: 1\nmirrors:\n- source: a.example/x\n  targets: [b.example]\n"
            b"  delete: {mode: off, grace: 0h}\n",
            b"version: 1\nlimits: {hours: '20:00-06:00', hosts: {a: {connections: 4}}}\n"
            b"mirrors:\n- {source: 'oci:d', targets: ['${A}/x'], tags: {semver: '>=1 <3', newest: 3}}\n",
            b"version: 1\nmirrors:\n- source: a.example\n  targets: [b.example]\n"
            b"  rename: [{match: '^lib-(.*)$', to: 'l/\\1'}]\n"
            b"  repositories: {include: ['/a(b|c)/', 'd*']}\n",
        ],
        _YAML_WORDS,
    ),
    "foreign": Target(
        migrations.foreign,
        [
            b"sync:\n"
            b"- {source: alpine, target: 'r:5000/a/alpine', type: repository, tags: {allow: ['3\\.1']}}\n"
            b"- {source: 'a:1', target: 'r:5000/b:1', type: image}\ncreds: [{registry: a, pass: sesame}]\n",
            b"defaults: {interval: 5m}\n"
            b"sync: [{source: '{{env \"A\"}}', target: b.example, type: registry}]\n",
            b"quay.io:\n  images: {a/b: [], c: ['1.0']}\n  images-by-tag-regex: {d: '^1'}\n"
            b"  images-by-semver: {e: '>= 3'}\n  credentials: {password: sesame}\n",
        ],
        _YAML_WORDS,
    ),
    "versions": Target(
        migrations.versions,
        [b">=1.2 <3\n1.2.3-rc.1", b"^1.2 || ~2.x\nv1", b"1.2 - 2.3, !=2.0\n2.0.1_7", b"*\n1"],
        [*" \n.-_+<>=^~|,xX*v", "||", "0", "18446744073709551616", "rc", "1.2.3", "\u0661"],
    ),
    "settings": Target(
        identities.settings,
        [
            b"identity:\n  tokens:\n  - {name: a, sha256: " + b"ab" * 32 + b"}\nlimits: {imports: 4}\n",
            b"principals:\n- id: a\n  roles:\n  - {actions: [read], registries: ['*']}\nkey_env: A\n",
            b"sources: {allow: [docker.io], private_addresses: [10.0.0.0/8]}\nstate: var\n",
            b"registries:\n- {name: a, login_server: 'a:1', tls: {ca: x}}\nhosts: {a: 'b:1'}\n",
        ],
        [
            *(
                "\n",
                " ",
                ":",
                "- ",
                "{",
                "}",
                "[",
                "]",
                "'",
                '"',
                "&a",
                "*a",
                "!!int",
                "<<",
                "? ",
                "|",
                "#",
                "\t",
                "%",
            ),
            *("null", "true", "1e3", "-1", "0", "\x00", "\ufeff", "---", "..."),
            *(
                "limits",
                "identity",
                "sources",
                "principals",
                "registries",
                "hosts",
                "memory",
                "256MiB",
                "::1/128",
            ),
        ],
    ),
}
