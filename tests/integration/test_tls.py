"""TLS: private authorities, client certificates, and never plain where TLS was meant."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from crossdock.imagebuilder import ImageBuilder
from crossdock_testing.tokens import TokenServer
from support import nginx
from support.command import NOT_FOUND, SOURCE, TARGET, USAGE, Crossdock
from support.docker_registry import DockerRegistry
from support.images import Graph, assert_holds, one_layer_image, push

pytestmark = pytest.mark.real


@dataclass
class Authority:
    """A private certificate authority and its certificates, as files."""

    ca: trustme.CA
    folder: Path

    @property
    def ca_file(self) -> Path:
        """Its root certificate."""
        path = self.folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(path))
        return path

    def issue(self, *names: str) -> tuple[Path, Path]:
        """A certificate for these names and its key."""
        leaf = self.ca.issue_cert(*names)
        certificate, key = self.folder / f"{names[0]}.pem", self.folder / f"{names[0]}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(str(key))
        return certificate, key

    def context(self, client: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """A client context of the suite's own, with a client certificate and key when given."""
        context = ssl.create_default_context(cafile=str(self.ca_file))
        if client:
            context.load_cert_chain(client[0], client[1])
        return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A private authority."""
    folder = tmp_path / "pki"
    folder.mkdir()
    return Authority(trustme.CA(), folder)


@pytest.fixture
def secure(authority: Authority, new_registry: Callable[..., DockerRegistry]) -> DockerRegistry:
    """A docker-registry that speaks TLS with a certificate of the private authority."""
    certificate, key = authority.issue("127.0.0.1", "localhost")
    tls = {"certificate": str(certificate), "key": str(key)}
    return new_registry("secure", http={"tls": tls}, tls=authority.context())


@pytest.fixture
def mutual(authority: Authority, new_registry: Callable[..., DockerRegistry]) -> DockerRegistry:
    """A docker-registry that demands a client certificate of the same authority."""
    certificate, key = authority.issue("127.0.0.1", "localhost")
    tls = {"certificate": str(certificate), "key": str(key), "clientcas": [str(authority.ca_file)]}
    context = authority.context(authority.issue("suite@example.org"))
    return new_registry("mutual", http={"tls": tls}, tls=context)


@pytest.fixture
def image(source: DockerRegistry, repository: str, builder: ImageBuilder) -> Graph:
    """An image with a layer of many chunks, in the plain source."""
    content, _ = one_layer_image(builder, 5_000_000)
    return push(source.remote, repository, builder, content, "v1")


SMALL_CHUNKS = ("--chunk-size", "512KiB", "--connections", "4")


def test_a_given_ca_is_trusted_on_both_sides(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    secure: DockerRegistry,
    authority: Authority,
    repository: str,
    image: Graph,
) -> None:
    up = f"{source.host}/{repository}:v1", f"{secure.host}/{repository}:v1"
    crossdock.copy(*up, *SMALL_CHUNKS, "--dest-ca", authority.ca_file)
    assert_holds(secure.remote, repository, "v1", image)
    down = f"{secure.host}/{repository}:v1", f"{target.host}/{repository}:v1"
    result = crossdock.copy(*down, *SMALL_CHUNKS, "--src-ca", authority.ca_file)
    assert result["bytes_moved"] == image.blob_bytes
    assert_holds(target.remote, repository, "v1", image)


@pytest.mark.parametrize("side", ["source", "target"])
def test_an_unknown_authority_is_refused_and_never_spoken_to_in_plain(
    side: str,
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    secure: DockerRegistry,
    repository: str,
    image: Graph,
) -> None:
    closed = f"{secure.host}/{repository}:v1"
    pair = (closed, f"{target.host}/{repository}:v1")
    if side == "target":
        pair = (f"{source.host}/{repository}:v1", closed)
    mark = secure.mark()
    line = crossdock.fail_copy(
        *pair, "--retries", "1", code=SOURCE if side == "source" else TARGET, naming=[side, closed]
    )
    assert "certificate" in line.lower()
    assert "-ca" in line, "the next step is to name the authority"
    assert secure.accesses(mark) == []
    assert target.remote.tags(repository) == []


def test_a_certificate_for_another_name_is_refused(
    crossdock: Crossdock,
    authority: Authority,
    new_registry: Callable[..., DockerRegistry],
    source: DockerRegistry,
    repository: str,
    image: Graph,
) -> None:
    certificate, key = authority.issue("registry.example.org")
    tls = {"certificate": str(certificate), "key": str(key)}
    wrong = new_registry("wrong", http={"tls": tls})
    crossdock.fail_copy(
        f"{source.host}/{repository}:v1",
        f"{wrong.host}/{repository}:v1",
        *("--dest-ca", authority.ca_file, "--retries", "1"),
        code=TARGET,
        naming=["target", wrong.host],
    )
    assert wrong.accesses() == []


def test_a_given_ca_means_https_even_on_loopback(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    authority: Authority,
    repository: str,
    image: Graph,
) -> None:
    """A plain registry behind a reference with a CA: refused, not downgraded."""
    mark = target.mark()
    crossdock.fail_copy(
        f"{source.host}/{repository}:v1",
        f"{target.host}/{repository}:v1",
        *("--dest-ca", authority.ca_file, "--retries", "1"),
        code=TARGET,
        naming=["target", target.host],
    )
    assert [a for a in target.accesses(mark) if a.status < 400] == []


def test_plain_http_and_a_ca_contradict_each_other(
    crossdock: Crossdock,
    authority: Authority,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
) -> None:
    done = crossdock(
        *("copy", f"{source.host}/{repository}:v1", f"{target.host}/{repository}:v1"),
        *("--dest-ca", authority.ca_file, "--dest-plain-http"),
    )
    assert done.code == USAGE, str(done)


def test_requested_plain_http_never_tries_tls(
    crossdock: Crossdock, secure: DockerRegistry, target: DockerRegistry, repository: str
) -> None:
    done = crossdock(
        *("copy", f"{secure.host}/{repository}:v1", f"{target.host}/{repository}:v1", "--src-plain-http"),
        *("--progress", "none", "--retries", "0"),
    )
    assert done.code == SOURCE, str(done)
    assert "source" in done.error


def test_a_client_certificate_is_shown_when_given(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    mutual: DockerRegistry,
    authority: Authority,
    repository: str,
    image: Graph,
) -> None:
    certificate, key = authority.issue("ann@example.org")
    ca = authority.ca_file
    up = f"{source.host}/{repository}:v1", f"{mutual.host}/{repository}:v1"
    flags = ("--dest-ca", ca, "--dest-cert", certificate, "--dest-key", key)
    crossdock.copy(*up, *SMALL_CHUNKS, *flags)
    assert_holds(mutual.remote, repository, "v1", image)
    both = authority.folder / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    down = f"{mutual.host}/{repository}:v1", f"{target.host}/{repository}:v1"
    crossdock.copy(*down, "--src-ca", ca, "--src-cert", both)
    assert_holds(target.remote, repository, "v1", image)


def test_a_missing_client_certificate_is_one_line(
    crossdock: Crossdock,
    source: DockerRegistry,
    mutual: DockerRegistry,
    authority: Authority,
    repository: str,
    image: Graph,
) -> None:
    done = crossdock(
        *("copy", f"{source.host}/{repository}:v1", f"{mutual.host}/{repository}:v1"),
        *("--dest-ca", authority.ca_file, "--progress", "none", "--retries", "1"),
    )
    assert done.code in (3, TARGET), str(done)
    assert "target" in done.error
    assert mutual.host in done.error
    assert mutual.remote.tags(repository) == []


@pytest.mark.parametrize("tool", ["containers", "docker"])
def test_certs_d_is_read(
    tool: str,
    crossdock: Crossdock,
    source: DockerRegistry,
    mutual: DockerRegistry,
    authority: Authority,
    repository: str,
    image: Graph,
) -> None:
    folder = crossdock.home / ".config" / tool / "certs.d" / mutual.host
    folder.mkdir(parents=True)
    certificate, key = authority.issue("ann@example.org")
    (folder / "ca.crt").write_bytes(authority.ca_file.read_bytes())
    (folder / "client.cert").write_bytes(certificate.read_bytes())
    (folder / "client.key").write_bytes(key.read_bytes())
    crossdock.copy(f"{source.host}/{repository}:v1", f"{mutual.host}/{repository}:v1")
    assert_holds(mutual.remote, repository, "v1", image)


def test_localhost_by_name_works_plain_and_with_tls(
    crossdock: Crossdock,
    source: DockerRegistry,
    secure: DockerRegistry,
    authority: Authority,
    repository: str,
    image: Graph,
) -> None:
    words = f"localhost:{source.port}/{repository}:v1", f"localhost:{secure.port}/{repository}:v1"
    crossdock.copy(*words, "--dest-ca", authority.ca_file)
    assert_holds(secure.remote, repository, "v1", image)


def test_a_tls_front_before_a_plain_registry(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    authority: Authority,
    repository: str,
    image: Graph,
    tmp_path: Path,
    closing: ExitStack,
) -> None:
    certificate, key = authority.issue("127.0.0.1")
    front = nginx.start_tls_front(tmp_path / "nginx", f"http://{target.host}", certificate, key)
    closing.callback(front.stop)
    words = f"{source.host}/{repository}:v1", f"{front.host}/{repository}:v1"
    crossdock.copy(*words, *SMALL_CHUNKS, "--dest-ca", authority.ca_file)
    assert_holds(target.remote, repository, "v1", image)


def test_on_loopback_a_tls_registry_may_redirect_to_a_plain_port(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    authority: Authority,
    repository: str,
    image: Graph,
    tmp_path: Path,
    closing: ExitStack,
) -> None:
    certificate, key = authority.issue("127.0.0.1")
    front, behind = nginx.start_redirector(
        tmp_path / "nginx",
        f"http://{source.host}",
        source.storage,
        tls=f"ssl_certificate {certificate}; ssl_certificate_key {key};",
    )
    closing.callback(front.stop)
    closing.callback(behind.stop)
    env = {"CROSSDOCK_SOURCE_USERNAME": "ann", "CROSSDOCK_SOURCE_PASSWORD": "hush-hush"}
    words = f"{front.host}/{repository}:v1", f"{target.host}/{repository}:v1"
    crossdock.copy(*words, *SMALL_CHUNKS, "--src-ca", authority.ca_file, env=env)
    assert_holds(target.remote, repository, "v1", image)
    assert {str(entry["authorization"]) for entry in behind.accesses()} == {""}


def test_on_loopback_a_tls_registry_may_name_a_plain_token_realm(
    crossdock: Crossdock,
    source: DockerRegistry,
    authority: Authority,
    new_registry: Callable[..., DockerRegistry],
    repository: str,
    image: Graph,
    tmp_path: Path,
    closing: ExitStack,
) -> None:
    server = closing.enter_context(TokenServer(users={"ann": "hush-hush"}))
    certificate, key = authority.issue("127.0.0.1")
    closed = new_registry(
        "closed",
        http={"tls": {"certificate": str(certificate), "key": str(key)}},
        auth=server.registry_auth(tmp_path),
        tls=authority.context(),
        bearer=lambda: server.mint([f"repository:{repository}:pull"]),
    )
    words = f"{source.host}/{repository}:v1", f"{closed.host}/{repository}:v1"
    flags = ("--dest-ca", authority.ca_file, "--dest-creds-stdin")
    crossdock.copy(*words, *flags, stdin="ann:hush-hush\n")
    assert_holds(closed.remote, repository, "v1", image)


def test_inspect_and_tags_take_a_ca(
    crossdock: Crossdock, secure: DockerRegistry, authority: Authority, repository: str, builder: ImageBuilder
) -> None:
    graph = push(secure.remote, repository, builder, builder.helm_chart(), "v1")
    ca = authority.ca_file
    assert graph.root in crossdock.ok("inspect", f"{secure.host}/{repository}:v1", "--src-ca", ca).stdout
    assert crossdock.ok("tags", f"{secure.host}/{repository}", "--src-ca", ca).stdout == "v1\n"
    crossdock.fail("tags", f"{secure.host}/{repository}/none", "--src-ca", ca, code=NOT_FOUND)


def test_a_ca_file_that_is_none_is_named(
    crossdock: Crossdock, source: DockerRegistry, target: DockerRegistry, repository: str, tmp_path: Path
) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("not a certificate")
    done = crossdock(
        *("copy", f"{source.host}/{repository}:v1", f"{target.host}/{repository}:v1"),
        *("--src-ca", junk, "--progress", "none"),
    )
    assert done.code == USAGE, str(done)
    assert str(junk) in done.error
