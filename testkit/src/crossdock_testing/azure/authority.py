"""A certificate authority and the server's certificate, kept in a folder while they are valid."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from crossdock_testing.azure.files import private_folder, read_if_there, write_private

LIFE = timedelta(days=365)  # some clients refuse more than 398 days
RENEWED = timedelta(days=7)  # before it expires
EARLY = timedelta(hours=1)  # for clients whose clock is slow
ALWAYS = ("localhost", "127.0.0.1", "::1")


class Certificates(NamedTuple):
    """PEM files: the authority's certificate, the server's with the chain, the server's key."""

    ca: Path
    cert: Path
    key: Path


class _Pair(NamedTuple):
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_certificates(folder: Path, hosts: Iterable[str]) -> Certificates:
    """The certificate for `hosts` and loopback, signed by the folder's authority. Blocks.

    An existing certificate is kept, unless it expires within a week or lacks one of the hosts. The authority
    is kept until it expires, so clients that trust it need no new file. Raises `StoreError`.
    """
    private_folder(folder)
    files = Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    authority = _kept(files.ca, folder / "ca.key")
    if authority is None:
        authority = _new_authority()
        _write(authority, files.ca, folder / "ca.key")
    names = tuple(dict.fromkeys((*ALWAYS, *hosts)))
    server = _kept(files.cert, files.key)
    if server is None or not _is_for(server.certificate, names, authority.certificate):
        _write(_new_server(authority, names), files.cert, files.key)
    return files


def _kept(certificate: Path, key: Path) -> _Pair | None:
    """The certificate and key in the files, if they belong together and do not expire soon."""
    try:
        found = x509.load_pem_x509_certificate(read_if_there(certificate))
        private = serialization.load_pem_private_key(read_if_there(key), None)
    except (ValueError, TypeError):
        return None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or found.public_key() != private.public_key():
        return None
    return _Pair(found, private) if datetime.now(UTC) < found.not_valid_after_utc - RENEWED else None


def _is_for(server: x509.Certificate, names: tuple[str, ...], authority: x509.Certificate) -> bool:
    try:
        server.verify_directly_issued_by(authority)
        has = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except Exception:  # whatever cryptography finds wrong with it, it is replaced
        return False
    return {_general(name) for name in names} <= set(has)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _new_authority() -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "crossdock development CA")])
    builder = (
        _builder(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
    )
    return _Pair(builder.sign(key, hashes.SHA256()), key)


def _new_server(authority: _Pair, names: tuple[str, ...]) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "crossdock development server")])
    ca_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = (
        _builder(name, authority.certificate.subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(ca_key, critical=False)
        .add_extension(x509.SubjectAlternativeName([_general(each) for each in names]), critical=False)
    )
    return _Pair(builder.sign(authority.key, hashes.SHA256()), key)


def _builder(name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLY)
        .not_valid_after(now - EARLY + LIFE)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _write(pair: _Pair, certificate: Path, key: Path) -> None:
    private = pair.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(key, private)
    write_private(certificate, pair.certificate.public_bytes(serialization.Encoding.PEM))
