"""HTTP as proxies and balancers before registries leave it: whole copies, as a user runs them."""

from __future__ import annotations

import gzip
import random
import ssl
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme

from crossdock.imagebuilder import ImageBuilder
from support import nginx
from support.command import SOURCE, TARGET, USAGE, Crossdock
from support.docker_registry import DockerRegistry
from support.forwarding import ForwardingProxy
from support.images import assert_holds, push
from support.process import free_port
from support.scripted import LAYER, Reply, Request, ScriptedRegistry

LAYERS = (b"one" * 3000, random.Random(1).randbytes(3 << 20), b"two")
RANGED = ("--chunk-size", "256KiB", "--memory", "4MiB")
CHUNKED = ("--resume-above", "0", "--upload-chunk", "256KiB")

Start = Callable[..., ScriptedRegistry]


@pytest.fixture
def odd(closing: ExitStack) -> Start:
    """Starts registries that a test bends."""

    return lambda *hooks, **options: ScriptedRegistry(closing, *hooks, **options)


@pytest.fixture
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "registry.example.test").configure_cert(context)
    return context


@pytest.fixture
def ca(authority: trustme.CA, tmp_path: Path) -> Path:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return tmp_path / "ca.pem"


def copied(
    crossdock: Crossdock, source: ScriptedRegistry, target: ScriptedRegistry, *flags: str | Path, **how: Any
) -> None:
    """An image goes from one to the other and is right to the byte."""
    digest = source.image("a/b", "v1", layers=LAYERS)["digest"]
    crossdock.copy(f"{source.host}/a/b:v1", f"{target.host}/a/b:v1", "--retries", "1", *flags, **how)
    assert target.has("a/b", "v1", digest)


# -- what is named by http:// behind TLS -------------------------------------------------------------------


@pytest.mark.parametrize("named", ["http://{host}", "http://127.0.0.1", "https://127.0.0.1", "//{host}"])
@pytest.mark.parametrize("flags", [(), CHUNKED], ids=["whole", "in chunks"])
def test_locations_of_a_registry_behind_tls_stay_on_https(
    crossdock: Crossdock, odd: Start, server_tls: ssl.SSLContext, ca: Path, named: str, flags: tuple[str, ...]
) -> None:
    def after(request: Request, reply: Reply) -> None:
        if reply.status == 202:
            reply.headers["Location"] = named.format(host=target.host) + reply.headers["Location"]

    target = odd(None, after, tls=server_tls)
    copied(crossdock, odd(), target, "--dest-ca", ca, *flags)


def test_redirects_and_links_of_a_registry_behind_tls_stay_on_https(
    crossdock: Crossdock, odd: Start, server_tls: ssl.SSLContext, ca: Path
) -> None:
    def before(request: Request) -> Reply | None:
        if request.path.endswith("/tags/list"):
            last = "last" in request.query
            link = {} if last else {"Link": f'<http://{source.host}/v2/a/b/tags/list?last=b>; rel="next"'}
            return Reply.json({"name": "a/b", "tags": ["c"] if last else ["a", "b"]}, **link)
        if "/blobs/" in request.path and "moved" not in request.query:
            return Reply(307, headers={"Location": f"http://127.0.0.1{request.path}?moved=1"})
        return None

    source = odd(before, tls=server_tls)
    copied(crossdock, source, odd(), "--src-ca", ca)
    done = crossdock.ok("tags", "--ca", ca, f"{source.host}/a/b")
    assert done.stdout.split() == ["a", "b", "c"]


def test_a_plain_address_of_another_service_is_still_refused(
    crossdock: Crossdock, odd: Start, server_tls: ssl.SSLContext, ca: Path, tmp_path: Path
) -> None:
    def after(request: Request, reply: Reply) -> None:
        if reply.status == 202:
            reply.headers["Location"] = "http://registry.example.test:5000" + reply.headers["Location"]

    source, target = odd(), odd(None, after, tls=server_tls)
    source.image("a/b", "v1")
    hosts = tmp_path / "hosts.yaml"
    hosts.write_text(f"hosts:\n  registry.example.test: {target.host}\n")
    crossdock.fail_copy(
        f"{source.host}/a/b:v1",
        "registry.example.test/a/b:v1",
        *("--dest-ca", ca, "--inventory", hosts),
        code=TARGET,
        naming=["redirects to plain HTTP at http://registry.example.test:5000"],
    )


@pytest.mark.real
@pytest.mark.parametrize("host", ["$http_host", "$host"], ids=["port kept", "port lost"])
def test_a_registry_behind_nginx_that_says_nothing_of_tls(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    authority: trustme.CA,
    ca: Path,
    tmp_path: Path,
    closing: ExitStack,
    host: str,
) -> None:
    """Without X-Forwarded-Proto distribution writes ``Location: http://…``."""
    image = builder.image([builder.random_layer(3_000_000), builder.random_layer(10_000)])
    graph = push(source.remote, repository, builder, image, "v1")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
    port = free_port()
    block = f"""
    server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {certificate}; ssl_certificate_key {key};
        location / {{ proxy_pass http://{target.host}; proxy_set_header Host {host};
                      proxy_set_header X-Forwarded-Proto ""; }} }}"""
    front = nginx.start_nginx(tmp_path / "nginx", block, (port,))
    closing.callback(front.stop)
    flags = ("--dest-ca", ca, "--resume-above", "1MiB", "--upload-chunk", "1MiB")
    crossdock.copy(f"{source.host}/{repository}:v1", f"{front.host}/{repository}:v1", *flags)
    assert_holds(target.remote, repository, "v1", graph)


# -- redirected writes -------------------------------------------------------------------------------------

WRITES: dict[str, Callable[[Request], bool]] = {
    "POST": lambda request: request.method == "POST",
    "PATCH": lambda request: request.method == "PATCH",
    "PUT blob": lambda request: request.method == "PUT" and "/uploads/" in request.path,
    "PUT manifest": lambda request: request.method == "PUT" and "/manifests/" in request.path,
}


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("what", WRITES)
def test_a_redirected_write_goes_where_it_leads(
    crossdock: Crossdock, odd: Start, what: str, status: int
) -> None:
    def before(request: Request) -> Reply | None:
        if WRITES[what](request) and "moved" not in request.query:
            joint = "&" if "?" in request.target else "?"
            return Reply(status, headers={"Location": f"{request.target}{joint}moved=1"})
        return None

    target = odd(before)
    copied(crossdock, odd(), target, *(CHUNKED if what == "PATCH" else ()))
    assert any("moved" in request.query for request in target.seen)


@pytest.mark.parametrize("flags", [(), ("--verify", "target"), ("--verify", "reread")], ids=" ".join)
def test_a_large_body_that_is_redirected_late_is_read_again(
    crossdock: Crossdock, odd: Start, flags: tuple[str, ...]
) -> None:
    """The registry accepts the whole body before it redirects; with ``target`` the bytes were only in the
    kernel."""
    source = odd()
    digest = source.image("a/b", "v1", layers=(random.Random(2).randbytes(12 << 20),))["digest"]

    def before(request: Request) -> Reply | None:
        if WRITES["PUT blob"](request) and "moved" not in request.query:
            return Reply(308, headers={"Location": f"{request.target}&moved=1"})
        return None

    target = odd(before)
    crossdock.copy(f"{source.host}/a/b:v1", f"{target.host}/a/b:v1", "--retries", "0", *RANGED, *flags)
    assert target.has("a/b", "v1", digest)


@pytest.mark.parametrize("what", ["POST", "PUT blob", "PUT manifest"])
def test_a_write_redirected_to_another_host_carries_no_credentials(
    crossdock: Crossdock, odd: Start, what: str
) -> None:
    def before(request: Request) -> Reply | None:
        if "authorization" not in request.headers:
            return Reply(401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        if WRITES[what](request):
            return Reply(307, headers={"Location": f"http://localhost:{elsewhere.port}{request.target}"})
        return None

    source, elsewhere, target = odd(), odd(), odd(before)
    elsewhere.blobs, elsewhere.manifests = target.blobs, target.manifests  # two doors of one registry
    elsewhere._uploads = target._uploads
    copied(crossdock, source, target, "--dest-creds-stdin", stdin="ann:s3cret\n")
    assert elsewhere.seen
    assert all("authorization" not in request.headers for request in elsewhere.seen)


@pytest.mark.parametrize("what", WRITES)
def test_writes_redirected_in_circles_or_by_other_statuses_end_in_words(
    crossdock: Crossdock, odd: Start, what: str
) -> None:
    def circle(request: Request) -> Reply | None:
        return Reply(307, headers={"Location": request.target}) if WRITES[what](request) else None

    def login(request: Request) -> Reply | None:
        return Reply(302, headers={"Location": "/login?token=s3cret"}) if WRITES[what](request) else None

    source = odd()
    source.image("a/b", "v1", layers=LAYERS[1:2])
    for before, words in ((circle, "more than 10 redirects"), (login, "redirected to /login?token=…")):
        target = odd(before)
        line = crossdock.fail_copy(
            f"{source.host}/a/b:v1",
            f"{target.host}/a/b:v1",
            *(CHUNKED if what == "PATCH" else ()),
            code=TARGET,
            naming=[words],
        )
        assert "s3cret" not in line
        assert ("a/b", "v1") not in target.manifests


# -- content codings ---------------------------------------------------------------------------------------

PLACES: dict[str, Callable[[Request], bool]] = {
    "manifest": lambda request: "/manifests/" in request.path,
    "token": lambda request: request.path == "/token",
    "layer": lambda request: "/blobs/" in request.path,
    "list": lambda request: request.path.endswith("/tags/list"),
}
CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "UTF-8": bytes,
}


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("place", ["manifest", "token", "layer"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_a_body_compressed_by_a_proxy_is_decoded(
    crossdock: Crossdock, odd: Start, coding: str, place: str, chunked: bool
) -> None:
    def before(request: Request) -> Reply | None:
        if place == "token" and request.path == "/token":
            return Reply.json({"token": "t"})
        if place == "token" and request.headers.get("authorization") != "Bearer t":
            return Reply(
                401, headers={"WWW-Authenticate": f'Bearer realm="http://{source.host}/token",service="r"'}
            )
        return None

    def after(request: Request, reply: Reply) -> None:
        if PLACES[place](request) and request.method == "GET" and reply.status in (200, 206):
            reply.body = CODINGS[coding](reply.body)
            reply.headers["Content-Encoding"] = coding
            reply.chunked = chunked

    source = odd(before, after)
    copied(crossdock, source, odd(), *RANGED)


def test_a_compressed_layer_is_one_stream(crossdock: Crossdock, odd: Start) -> None:
    def after(request: Request, reply: Reply) -> None:
        if PLACES["layer"](request) and request.method == "GET" and reply.status in (200, 206):
            reply.body = gzip.compress(reply.body)
            reply.headers["Content-Encoding"] = "gzip"

    source = odd(None, after)
    digest = source.image("a/b", "v1", layers=LAYERS[1:2])["digest"]
    target = odd()
    result = crossdock.copy(f"{source.host}/a/b:v1", f"{target.host}/a/b:v1", *RANGED, "--verify", "reread")
    assert target.has("a/b", "v1", digest)
    whole = [
        request for request in source.seen if PLACES["layer"](request) and "range" not in request.headers
    ]
    assert len(whole) == 2  # the config and the layer
    assert result["retries"] == 0


def test_a_layer_that_is_a_gzip_file_is_not_unpacked(crossdock: Crossdock, odd: Start) -> None:
    layer = gzip.compress(LAYERS[1])

    def after(request: Request, reply: Reply) -> None:
        if PLACES["layer"](request):
            reply.headers["Content-Encoding"] = "gzip"  # as storage does that knows the file's type
            reply.chunked = True

    source, target = odd(None, after), odd()
    digest = source.image("a/b", "v1", layers=(layer,), layer_type=f"{LAYER}+gzip")["digest"]
    crossdock.copy(f"{source.host}/a/b:v1", f"{target.host}/a/b:v1")
    assert target.has("a/b", "v1", digest)


@pytest.mark.parametrize("place", ["manifest", "layer"])
def test_a_bomb_is_an_error(crossdock: Crossdock, odd: Start, place: str) -> None:
    def after(request: Request, reply: Reply) -> None:
        if PLACES[place](request) and request.method == "GET":
            reply.body = gzip.compress(bytes(64 << 20))
            reply.headers["Content-Encoding"] = "gzip"

    source, target = odd(None, after), odd()
    source.image("a/b", "v1", layers=LAYERS[1:2])
    words = f"{source.host}/a/b:v1", f"{target.host}/a/b:v1"
    done = crossdock("copy", *words, "--retries", "1", "--progress", "none")
    assert done.code in (SOURCE, 7), str(done)
    assert done.error, str(done)
    assert target.manifests == {}


# -- framing and statuses ----------------------------------------------------------------------------------


def test_a_length_beside_chunks_counts_for_nothing(crossdock: Crossdock, odd: Start) -> None:
    def after(request: Request, reply: Reply) -> None:
        if request.method == "GET" and reply.status in (200, 206):
            reply.headers["Content-Length"] = str(len(reply.body) + 7)
            reply.chunked = True

    copied(crossdock, odd(None, after), odd(), *RANGED)


def test_203_and_204_are_successes(crossdock: Crossdock, odd: Start) -> None:
    def read(request: Request, reply: Reply) -> None:
        if request.method in ("GET", "HEAD") and reply.status == 200:
            reply.status = 203

    def written(request: Request, reply: Reply) -> None:
        if request.method == "PUT":
            reply.status = 204

    copied(crossdock, odd(None, read), odd(None, written))


@pytest.mark.parametrize("status", [201, 226, 300])
def test_no_line_holds_bytes_of_a_layer(crossdock: Crossdock, odd: Start, status: int) -> None:
    def after(request: Request, reply: Reply) -> None:
        if PLACES["layer"](request) and request.method == "GET":
            reply.status = status

    source, target = odd(None, after), odd()
    source.image("a/b", "v1", layers=(b"secret words of a layer " * 100,))
    line = crossdock.fail_copy(
        f"{source.host}/a/b:v1", f"{target.host}/a/b:v1", code=SOURCE, naming=[f": {status}"]
    )
    assert "secret" not in line


# -- cookies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [(), CHUNKED], ids=["whole", "in chunks"])
def test_a_balancer_that_keeps_uploads_by_a_cookie(
    crossdock: Crossdock, odd: Start, flags: tuple[str, ...]
) -> None:
    def before(request: Request) -> Reply | None:
        is_session = "/blobs/uploads/" in request.path and request.method != "POST"
        if is_session and "LB=one" not in request.headers.get("cookie", ""):
            return Reply.error(404, "BLOB_UPLOAD_UNKNOWN")
        return None

    def after(request: Request, reply: Reply) -> None:
        if request.method == "POST":
            reply.headers |= {"Set-Cookie": "LB=one; Path=/; HttpOnly", "set-cookie": "other=s3cret"}

    target = odd(before, after)
    copied(crossdock, odd(), target, *flags)
    others = [request for request in target.seen if "/blobs/uploads/" not in request.path]
    assert all("cookie" not in request.headers for request in others)
    kept = [path for path in crossdock.home.rglob("*") if path.is_file()]
    assert all(b"s3cret" not in path.read_bytes() for path in kept)


# -- proxies on the way ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["socks5", "socks5h", "https", "http"])
def test_a_registry_is_reached_through_a_proxy_of_every_kind(
    crossdock: Crossdock,
    odd: Start,
    server_tls: ssl.SSLContext,
    ca: Path,
    closing: ExitStack,
    kind: str,
) -> None:
    """The name is one that the proxy alone knows. The other side is on loopback and needs no proxy."""
    source, target = odd(tls=server_tls), odd()
    digest = source.image("a/b", "v1", layers=LAYERS)["digest"]
    speaks = "socks5" if kind.startswith("socks5") else "connect"
    proxy = ForwardingProxy(source.port, speaks, server_tls if kind == "https" else None)
    closing.callback(proxy.close)
    result = crossdock.copy(
        "registry.example.test/a/b:v1",
        f"{target.host}/a/b:v1",
        *("--src-ca", ca, *RANGED),
        env={"HTTPS_PROXY": f"{kind}://{proxy.host}"},
    )
    assert target.has("a/b", "v1", digest)
    assert result["retries"] == 0
    assert set(proxy.asked) == {"registry.example.test:443"}


@pytest.mark.parametrize(
    "environment",
    [
        {"HTTPS_PROXY": "socks5://127.0.0.1:1", "HTTP_PROXY": "https://127.0.0.1:1"},
        {"https_proxy": "quic://proxy.example.test", "http_proxy": "::", "no_proxy": "*"},
        {"HTTP_PROXY": "http://127.0.0.1:99999", "HTTPS_PROXY": "ftp://x"},
    ],
)
def test_a_proxy_that_is_not_needed_is_not_an_error(
    crossdock: Crossdock, odd: Start, environment: dict[str, str | None]
) -> None:
    copied(crossdock, odd(), odd(), env=environment)


@pytest.mark.parametrize("value", ["quic://u:s3cret@proxy.example.test", "socks4://u:s3cret@127.0.0.1"])
def test_a_proxy_that_is_needed_and_not_spoken_is_a_matter_of_usage(
    crossdock: Crossdock, odd: Start, value: str
) -> None:
    line = crossdock.fail_copy(
        "registry.example.test/a/b:v1",
        f"{odd().host}/a/b:v1",
        code=USAGE,
        naming=["HTTPS_PROXY is not the address of a proxy"],
        env={"HTTPS_PROXY": value},
    )
    assert "s3cret" not in line


# -- hosts that are not there, and few files ---------------------------------------------------------------


@pytest.mark.parametrize("command", ["copy", "tags", "inspect"])
def test_a_host_that_does_not_exist_is_one_line_at_once(
    crossdock: Crossdock, odd: Start, command: str
) -> None:
    words = [f"{odd().host}/a/b:v1"] if command == "copy" else []
    reference = "registyr.invalid/a/b" if command == "tags" else "registyr.invalid/a/b:v1"
    line = crossdock.fail(
        command, reference, *words, "--timeout", "60s", code=SOURCE, naming=["registyr.invalid could not be"]
    )
    assert "spelling" in line
    assert "tries" not in line


def test_a_closed_port_is_tried_twice(crossdock: Crossdock, odd: Start) -> None:
    closed = f"127.0.0.1:{free_port()}"
    target = odd()
    done = crossdock("copy", f"{closed}/a/b:v1", f"{target.host}/a/b:v1", "--progress", "plain")
    assert done.code == SOURCE, str(done)
    assert done.stderr.count("retrying") == 1
    assert "0 of 0 blobs" not in done.stderr
    done = crossdock(
        "copy", f"{closed}/a/b:v1", f"{target.host}/a/b:v1", "--progress", "plain", "--retries", "2"
    )
    assert done.stderr.count("retrying") == 2


@pytest.mark.parametrize("to", ["a registry", "one layout", "layouts"])
def test_few_file_descriptors_mean_fewer_connections(
    crossdock: Crossdock, odd: Start, tmp_path: Path, to: str
) -> None:
    source, target = odd(), odd()
    tags = [f"v{number}" for number in range(30)]
    blobs = [bytes((number,)) * 3000 for number in range(12)]
    images = {tag: source.image("a/b", tag, layers=(tag.encode() * 100, *blobs)) for tag in tags}
    places = {"a registry": f"{target.host}/a/b", "one layout": f"oci:{tmp_path}/layout"}
    place = places.get(to, f"oci:{tmp_path}/of-{{tag}}")
    pairs = tmp_path / "pairs"
    pairs.write_text("".join(f"{source.host}/a/b:{tag} {place.format(tag=tag)}:{tag}\n" for tag in tags))
    limited = ("bash", "-c", 'ulimit -n 40; exec "$@"', "bash")
    done = crossdock.ok("copy", "--from-file", pairs, prefix=limited)
    assert "copied 30 of 30" in done.stdout
    if to == "a registry":
        assert all(target.has("a/b", tag, image["digest"]) for tag, image in images.items())
