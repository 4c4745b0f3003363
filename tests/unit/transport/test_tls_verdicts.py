"""Which servers are accepted and refused, with which message: the same for both engines, with nginx."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from crossdock.errors import TransportError
from crossdock.options import NetworkOptions
from crossdock.transport.base import TlsSettings
from crossdock.transport.client import HttpClient
from crossdock.transport.connect import Resolver
from support.nginx import Nginx, start_nginx
from support.process import free_port
from unit.transport.engines import ENGINES, use_engine
from unit.transport.wire import Memory, request_to

pytestmark = pytest.mark.real

HOST = "registry.crossdock.example"
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed448.Ed448PrivateKey


@dataclass
class Issued:
    """A certificate with its key; `chain` is sent with it."""

    certificate: x509.Certificate
    key: Key
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> bytes:
        return b"".join(
            one.public_bytes(serialization.Encoding.PEM) for one in (self.certificate, *self.chain)
        )

    def key_pem(self, form: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8) -> bytes:
        return self.key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def issue(
    name: str,
    names: tuple[str, ...] = (),
    by: Issued | None = None,
    *,
    authority: bool = False,
    key: Key | None = None,
    begin: datetime.datetime = NOW - 10 * DAY,
    end: datetime.datetime = NOW + 10 * DAY,
    usage: x509.ObjectIdentifier | None = None,
) -> Issued:
    """A certificate for `names`, signed `by` another one or self-signed."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
    signer = by or Issued(None, key)  # type: ignore[arg-type]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), critical=False
        )
    )
    if authority:
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        rights = dict.fromkeys(
            ["content_commitment", "key_encipherment", "data_encipherment", "key_agreement"], False
        )
        made = made.add_extension(
            x509.KeyUsage(
                digital_signature=True, key_cert_sign=True, crl_sign=True,
                encipher_only=False, decipher_only=False, **rights,
            ),
            critical=True,
        )  # fmt: skip
    if names:
        made = made.add_extension(
            x509.SubjectAlternativeName([alternative(one) for one in names]), critical=not name
        )
    if usage:
        made = made.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return Issued(made.sign(signer.key, hashes.SHA256()), key)


def alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


ROOT = issue("Root", authority=True)
MIDDLE = issue("Middle", by=ROOT, authority=True)
STRANGER = issue("Stranger", authority=True)
SELF = issue("registry", (HOST,), authority=True)
SELF_LEAF = issue("registry", (HOST,))
RSA = rsa.generate_private_key(65537, 2048)


def chained(leaf: Issued, *chain: Issued) -> Issued:
    return Issued(leaf.certificate, leaf.key, tuple(one.certificate for one in chain))


@dataclass
class Case:
    """A server, the client's trust, and the expected result: "" or words of the refusal."""

    server: Issued
    refusal: str
    host: str = HOST
    trusted: tuple[Issued, ...] = (ROOT,)
    directives: str = ""
    engine: str = "rustls"  # that has the last word when rustls is installed


CBC = "ssl_protocols TLSv1.2; ssl_ciphers ECDHE-ECDSA-AES128-SHA256;"
CASES = {
    "given CA": Case(issue("", (HOST,), ROOT), ""),
    "given CA, TLS 1.2": Case(issue("", (HOST,), ROOT), "", directives="ssl_protocols TLSv1.2;"),
    "RSA key": Case(issue("", (HOST,), ROOT, key=RSA), ""),
    "RSA key, TLS 1.2": Case(issue("", (HOST,), ROOT, key=RSA), "", directives="ssl_protocols TLSv1.2;"),
    "intermediate is sent": Case(chained(issue("", (HOST,), MIDDLE), MIDDLE), ""),
    "intermediate is missing": Case(issue("", (HOST,), MIDDLE), "unable to get local issuer"),
    "intermediate is given with its root": Case(issue("", (HOST,), MIDDLE), "", trusted=(ROOT, MIDDLE)),
    # Accepted from Python 3.13 on (partial chains), refused before: equal to `ssl` in both.
    "intermediate is given alone": Case(
        issue("", (HOST,), MIDDLE),
        "" if ssl.create_default_context().verify_flags & 0x80000 else "unable to get",
        trusted=(MIDDLE,),
    ),
    "self-signed CA is its own certificate": Case(SELF, "", trusted=(SELF,)),
    "self-signed leaf is its own certificate": Case(SELF_LEAF, "", trusted=(SELF_LEAF,)),
    "self-signed, not given": Case(SELF, "self-signed certificate"),
    "self-signed, another of the same name given": Case(
        SELF, "", trusted=(SELF, issue("registry", (HOST,), authority=True))
    ),
    "self-signed, wrong host": Case(SELF, "mismatch", host="other.example", trusted=(SELF,)),
    "self-signed, expired": (
        lambda old: Case(old, "expired", trusted=(old,))
    )(issue("registry", (HOST,), authority=True, end=NOW - DAY)),
    "unknown CA": Case(issue("", (HOST,), STRANGER), "unable to get local issuer"),
    "unknown CA, sent along": Case(
        chained(issue("", (HOST,), STRANGER), STRANGER), "self-signed certificate in"
    ),
    "signed by a leaf": Case(
        (lambda leaf: chained(issue("", (HOST,), leaf), leaf))(issue("leaf", (HOST,), ROOT)), "invalid CA"
    ),
    "expired": Case(issue("", (HOST,), ROOT, end=NOW - DAY), "expired"),
    "not yet valid": Case(issue("", (HOST,), ROOT, begin=NOW + DAY), "not yet valid"),
    "wrong host": Case(issue("", ("other.example",), ROOT), "Hostname mismatch"),
    "common name alone": Case(issue(HOST, (), ROOT), ""),
    "common name beside another name": Case(issue(HOST, ("other.example",), ROOT), "mismatch"),
    "wildcard": Case(issue("", ("*.crossdock.example",), ROOT), ""),
    "wildcard over two labels": Case(issue("", ("*.crossdock.example",), ROOT), "mismatch", host=f"a.{HOST}"),
    "wildcard in a label": Case(issue("", ("reg*.crossdock.example",), ROOT), "mismatch"),
    "name in capitals": Case(issue("", ("REGISTRY.Crossdock.example",), ROOT), ""),
    "address": Case(issue("", ("127.0.0.1",), ROOT), "", host="127.0.0.1"),
    "other address": Case(issue("", ("127.0.0.2",), ROOT), "mismatch", host="127.0.0.1"),
    "address as a name": Case(issue("127.0.0.1", (HOST,), ROOT), "mismatch", host="127.0.0.1"),
    "certificate of a client": Case(
        issue("", (HOST,), ROOT, usage=ExtendedKeyUsageOID.CLIENT_AUTH), "unsuitable certificate purpose"
    ),
    "RSA key of 1024 bits": Case(
        issue("", (HOST,), ROOT, key=rsa.generate_private_key(65537, 1024)), "key too weak",
        directives="ssl_ciphers DEFAULT@SECLEVEL=0;",
    ),
    "suite that rustls lacks": Case(issue("", (HOST,), ROOT), "", directives=CBC, engine="ssl"),
    "suite that rustls lacks, unknown CA": Case(
        issue("", (HOST,), STRANGER), "unable to get local issuer", directives=CBC, engine="ssl"
    ),
    # OpenSSL's servers want the curve of their key among the groups that the client offers.
    "group that rustls lacks": Case(
        issue("", (HOST,), ROOT, key=ec.generate_private_key(ec.SECP521R1())), "", engine="ssl"
    ),
    "key that rustls lacks": Case(
        issue("", (HOST,), ROOT, key=ed448.Ed448PrivateKey.generate()), "", engine="ssl"
    ),
    "TLS 1.1": Case(
        issue("", (HOST,), ROOT), "protocol version",
        directives="ssl_protocols TLSv1.1; ssl_ciphers ALL@SECLEVEL=0;", engine="ssl",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """The ports of one nginx that plays all cases."""
    folder = tmp_path_factory.mktemp("verdicts")
    ports, blocks = {}, []
    for number, (name, case) in enumerate(CASES.items()):
        ports[name] = free_port()
        blocks.append(server(folder / f"{number}.pem", ports[name], case.server, case.directives))
    nginx = start_nginx(folder / "nginx", "\n".join(blocks), tuple(ports.values()))
    yield ports
    nginx.stop()


def server(file: Path, port: int, shown: Issued, directives: str) -> str:
    file.write_bytes(shown.key_pem() + shown.pem)
    return f"""
    server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {file}; ssl_certificate_key {file}; {directives}
        location / {{ return 200 "$ssl_server_name;$ssl_client_serial"; }} }}"""


@pytest.fixture(autouse=True)
def every_name_is_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(self: Resolver, host: str, port: int) -> object:
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))]

    monkeypatch.setattr(Resolver, "_look_up", look_up)


def trusting(*trusted: Issued) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(cadata="".join(one.pem.decode() for one in trusted))
    return context


async def answer(host: str, port: int, settings: ssl.SSLContext | TlsSettings) -> tuple[str, str]:
    """The server's response, and the engine that received it."""
    client = HttpClient(NetworkOptions(), lambda *place: settings, lambda *origin: None)
    try:
        exchange = await client.send(request_to("GET", f"https://{host}:{port}/"))
        engine = type(exchange._connection._engine).__name__.removesuffix("Engine").lower()  # type: ignore[attr-defined]
        head = await exchange.response()
        sink = Memory(head.content_length or 0)
        await exchange.receive(sink)
        return f"{head.status} {bytes(sink.content).decode()}", engine
    finally:
        await client.close()


@pytest.mark.parametrize("name", CASES)
async def test_both_engines_give_the_same_verdict_in_the_same_words(
    name: str, servers: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    verdicts = {}
    for engine in reversed(ENGINES):
        use_engine(engine, monkeypatch)
        try:
            said, by = await answer(case.host, servers[name], trusting(*case.trusted))
            assert by == (case.engine if engine == "rustls" else "ssl")
            verdicts[engine] = "accepted", said
        except TransportError as error:
            verdicts[engine] = str(error), str(error.advice)
    assert verdicts["rustls"] == verdicts["ssl"]
    verdict, said = verdicts["ssl"]
    if case.refusal:
        assert case.refusal in verdict
    else:
        # No name is announced for an address (RFC 6066 3).
        assert (verdict, said) == ("accepted", f"200 {HOST if case.host == HOST else ''};")


PKCS8, TRADITIONAL = serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL
PAIRS = {
    "EC, PKCS#8": (issue("client", by=ROOT), PKCS8),
    "EC, SEC1": (issue("client", by=ROOT), TRADITIONAL),
    "RSA, PKCS#8": (issue("client", by=ROOT, key=RSA), PKCS8),
    "RSA, PKCS#1": (issue("client", by=ROOT, key=RSA), TRADITIONAL),
    "intermediate in the file": (chained(issue("client", by=MIDDLE), MIDDLE), PKCS8),
}


@pytest.fixture(scope="module", params=["TLSv1.2", "TLSv1.3"])
def wants_certificate(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Nginx]:
    """A server that answers 400 to clients without a certificate of ROOT."""
    folder = tmp_path_factory.mktemp("mutual")
    (folder / "root.pem").write_bytes(ROOT.pem)
    port = free_port()
    asks = f"""ssl_protocols {request.param}; ssl_verify_depth 3;
        ssl_verify_client on; ssl_client_certificate {folder}/root.pem;"""
    block = server(folder / "own.pem", port, issue("", (HOST,), ROOT, key=RSA), asks)
    nginx = start_nginx(folder / "nginx", block, (port,))
    yield nginx
    nginx.stop()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", PAIRS)
async def test_a_client_certificate_is_shown_by_both_engines(
    name: str, engine: str, wants_certificate: Nginx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_engine(engine, monkeypatch)
    issued, form = PAIRS[name]
    pair = tmp_path / "client.pem", tmp_path / "client.key"
    pair[0].write_bytes(issued.pem)
    pair[1].write_bytes(issued.key_pem(form))
    context = trusting(ROOT)
    context.load_cert_chain(*pair)
    serial = f"{issued.certificate.serial_number:X}".zfill(40)
    port = wants_certificate.ports[0]
    said, by = await answer(HOST, port, TlsSettings(context, (pair,)))
    assert (said.split(";")[1].zfill(40), by) == (serial, engine)
    # A context alone may hold a certificate that only `ssl` can show: it is shown.
    said, by = await answer(HOST, port, context)
    assert (said.split(";")[1].zfill(40), by) == (serial, "ssl")


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_client_without_a_certificate_is_told_so(
    engine: str, wants_certificate: Nginx, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_engine(engine, monkeypatch)
    said, by = await answer(HOST, wants_certificate.ports[0], TlsSettings(trusting(ROOT), ()))
    assert said.startswith("400 ")
    assert "No required SSL certificate was sent" in said
    assert by == engine


async def test_a_chain_that_openssl_would_complete_is_left_to_it(
    wants_certificate: Nginx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = issue("client", by=MIDDLE)
    pair = tmp_path / "client.pem", tmp_path / "client.key"
    pair[0].write_bytes(issued.pem)
    pair[1].write_bytes(issued.key_pem())
    context = trusting(ROOT, MIDDLE)
    context.load_cert_chain(*pair)
    said, by = await answer(HOST, wants_certificate.ports[0], TlsSettings(context, (pair,)))
    assert said.startswith(f"200 {HOST};")
    assert by == "ssl"


@pytest.fixture(params=["SSL_CERT_FILE", "SSL_CERT_DIR"])
def root_of_the_system(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL finds ROOT by default. A directory is not read before a certificate is needed."""
    file = tmp_path / "root.pem"
    file.write_bytes(ROOT.pem)
    if request.param == "SSL_CERT_DIR":
        openssl = ["openssl", "x509", "-noout", "-hash", "-in", str(file)]
        name = subprocess.run(openssl, capture_output=True, text=True, check=True).stdout.strip()
        file.rename(tmp_path / f"{name}.0")
    monkeypatch.setenv(request.param, str(tmp_path if request.param == "SSL_CERT_DIR" else file))


@pytest.mark.usefixtures("root_of_the_system")
async def test_the_roots_of_the_system_are_those_of_openssl(
    servers: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {}
    for engine in reversed(ENGINES):
        use_engine(engine, monkeypatch)
        said[engine] = await answer(HOST, servers["given CA"], ssl.create_default_context())
    assert said == {engine: (f"200 {HOST};", engine) for engine in ENGINES}
