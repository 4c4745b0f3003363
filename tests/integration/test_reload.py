"""SIGHUP reloads certificates, users and settings. Connections stay open; a broken file changes nothing."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import signal
import ssl
import subprocess
from contextlib import ExitStack
from contextlib import closing as closed
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from support.command import MODULE
from support.embedded import start_embedded
from support.process import ServerProcess, free_port, listening, wait_until
from support.service import registry_path, start_service

pytestmark = pytest.mark.real

ANN = {"users": [{"name": "ann", "password": "first"}]}


def served_certificate(port: int) -> bytes:
    """The certificate of a new connection, by a client that sends no server name."""
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", port)))


def leaf_of(certificate: trustme.LeafCert) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())


def said(server: ServerProcess) -> int:
    return server.log.read_text().count(" at SIGHUP")


def hang_up(server: ServerProcess) -> None:
    """Send SIGHUP and wait until it has been heard."""
    before = said(server)
    os.kill(server.pid, signal.SIGHUP)
    wait_until(lambda: said(server) > before, "the reload")


def asked(connection: http.client.HTTPConnection, path: str, **headers: str) -> int:
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"ann:{password}".encode()).decode()


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def test_the_registry_takes_a_new_certificate_and_keeps_its_connections(
    tmp_path: Path, closing: ExitStack, authority: trustme.CA
) -> None:
    old, new = (authority.issue_cert("127.0.0.1") for _ in range(2))
    file, port = tmp_path / "server.pem", free_port()
    old.private_key_and_cert_chain_pem.write_to_path(str(file))
    words = [
        "registry",
        "--root",
        str(tmp_path / "root"),
        "--listen",
        f"127.0.0.1:{port}",
        "--cert",
        str(file),
    ]
    server = ServerProcess("registry", [*MODULE, *words], tmp_path / "log", lambda: listening(port))
    closing.callback(server.stop)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    connection = closing.enter_context(
        closed(http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=30))
    )
    assert asked(connection, "/v2/") == 200
    opened = connection.sock
    assert served_certificate(port) == leaf_of(old)
    new.private_key_and_cert_chain_pem.write_to_path(str(file))
    assert served_certificate(port) == leaf_of(old)
    hang_up(server)
    assert served_certificate(port) == leaf_of(new)
    assert asked(connection, "/v2/") == 200
    assert connection.sock is opened


def words_of(cert: Path, key: Path) -> dict[str, str]:
    """Words of the message for each damage."""
    return {
        "key of another": f"the key in {key} does not fit the certificate in {cert}",
        "key of another kind": f"the key in {key} does not fit the certificate in {cert}",
        "no PEM": f"no certificate in PEM can be read from {cert}",
        "broken PEM": f"no certificate in PEM can be read from {cert}",
        "no key in PEM": f"no key in PEM can be read from {key}",
        "encrypted": f"the key in {key} is encrypted",
        "missing": f"cannot read {cert}: No such file or directory",
        "key missing": f"cannot read {key}: No such file or directory",
    }


def encrypted(pem: bytes) -> bytes:
    return serialization.load_pem_private_key(pem, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


@pytest.mark.parametrize("damage", list(words_of(Path(), Path())))
def test_a_broken_certificate_changes_nothing(
    tmp_path: Path, closing: ExitStack, authority: trustme.CA, damage: str
) -> None:
    old, other = (authority.issue_cert("127.0.0.1") for _ in range(2))
    cert, key, port = tmp_path / "cert.pem", tmp_path / "key.pem", free_port()
    old.cert_chain_pems[0].write_to_path(str(cert))
    old.private_key_pem.write_to_path(str(key))
    words = ["registry", "--root", str(tmp_path / "root"), "--listen", f"127.0.0.1:{port}"]
    words += ["--cert", str(cert), "--key", str(key)]
    server = ServerProcess("registry", [*MODULE, *words], tmp_path / "log", lambda: listening(port))
    closing.callback(server.stop)
    match damage:
        case "key of another":
            other.private_key_pem.write_to_path(str(key))
        case "key of another kind":
            kind = authority.issue_cert("127.0.0.1", key_type=trustme.KeyType.RSA)
            kind.private_key_pem.write_to_path(str(key))
        case "no PEM":
            cert.write_text("no PEM")
        case "broken PEM":
            cert.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        case "no key in PEM":
            key.write_text("no PEM")
        case "encrypted":
            key.write_bytes(encrypted(old.private_key_pem.bytes()))
        case "key missing":
            key.unlink()
        case _:
            cert.unlink()
    hang_up(server)
    assert served_certificate(port) == leaf_of(old)
    assert f"certificate unchanged: {words_of(cert, key)[damage]}" in server.log.read_text()
    assert "reloaded" not in server.log.read_text()


def test_the_registry_takes_new_users(tmp_path: Path, closing: ExitStack) -> None:
    registry = start_embedded(tmp_path, tmp_path / "root", closing, users=ANN)
    assert registry.users_file is not None
    connection = closing.enter_context(closed(http.client.HTTPConnection(registry.host, timeout=30)))
    assert asked(connection, "/v2/", Authorization=basic("first")) == 200
    status = registry.users_file.stat()
    registry.users_file.write_text(json.dumps({"users": [{"name": "ann", "password": "other"}]}))
    os.utime(registry.users_file, ns=(status.st_atime_ns, status.st_mtime_ns))  # not seen by its time
    hang_up(registry.process)
    assert asked(connection, "/v2/", Authorization=basic("other")) == 200
    assert asked(connection, "/v2/", Authorization=basic("first")) == 401
    registry.users_file.write_text("{")
    hang_up(registry.process)
    assert asked(connection, "/v2/", Authorization=basic("other")) == 200
    assert "users unchanged: users file" in registry.process.log.read_text()
    registry.users_file.unlink()
    hang_up(registry.process)
    for _ in range(3):
        assert asked(connection, "/v2/", Authorization=basic("other")) == 200
    said = registry.process.log.read_text()
    assert said.count("cannot be read: No such file or directory") == 1


def test_valid_files_are_reloaded_beside_invalid_ones(
    tmp_path: Path, closing: ExitStack, authority: trustme.CA
) -> None:
    cert, users, port = tmp_path / "server.pem", tmp_path / "users.json", free_port()
    leaf = authority.issue_cert("127.0.0.1")
    leaf.private_key_and_cert_chain_pem.write_to_path(str(cert))
    users.write_text(json.dumps(ANN))
    users.chmod(0o600)
    words = ["registry", "--root", str(tmp_path / "root"), "--listen", f"127.0.0.1:{port}"]
    words += ["--cert", str(cert), "--users", str(users)]
    server = ServerProcess("registry", [*MODULE, *words], tmp_path / "log", lambda: listening(port))
    closing.callback(server.stop)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    connection = closing.enter_context(
        closed(http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=30))
    )
    cert.write_text("no PEM")
    users.write_text(json.dumps({"users": [{"name": "ann", "password": "other"}]}))
    hang_up(server)
    assert asked(connection, "/v2/", Authorization=basic("other")) == 200
    assert asked(connection, "/v2/", Authorization=basic("first")) == 401
    assert served_certificate(port) == leaf_of(leaf)
    lines = server.log.read_text().splitlines()
    assert (
        f"reload at SIGHUP failed, certificate unchanged: no certificate in PEM can be read from {cert}"
        in lines
    )
    assert "reloaded at SIGHUP: users" in lines


def settings(*names: str, actions: tuple[str, ...] = ("read",), **more: Any) -> str:
    tokens = [{"name": name, "sha256": hashlib.sha256(name.encode() * 8).hexdigest()} for name in names]
    roles = [{"actions": list(actions), "registries": ["mine"]}]
    principals = [{"id": name, "roles": roles} for name in names]
    return json.dumps({"identity": {"tokens": tokens}, "principals": principals, **more})


def test_the_service_takes_new_identities_and_rights(tmp_path: Path, closing: ExitStack) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(settings("alice"))
    inventory = {
        "registries": [
            {
                "name": "mine",
                "login_server": "127.0.0.1:1",
                "subscription": "00000000-0000-0000-0000-000000000000",
                "resource_group": "MyResourceGroup",
            }
        ]
    }
    service = start_service(tmp_path / "service", inventory, "--config", file)
    closing.callback(lambda: service.process.stop())

    def seen(name: str) -> int:
        return service.ask("GET", registry_path("mine"), headers={"Authorization": f"Bearer {name * 8}"})[0]

    assert (seen("alice"), seen("bob")) == (200, 401)
    file.write_text(settings("bob", limits={"imports": 1}))
    hang_up(service.process)
    assert (seen("alice"), seen("bob")) == (401, 200)
    assert "only identity and principals were reloaded" in service.log.read_text()
    file.write_text(settings("bob", actions=("pull",)))
    hang_up(service.process)
    assert seen("bob") == 403
    for broken in ("identity: [", json.dumps({"limits": {}})):
        file.write_text(broken)
        hang_up(service.process)
        assert seen("bob") == 403
    assert service.log.read_text().count("settings unchanged") == 2


def test_a_server_whose_terminal_is_gone_ends(tmp_path: Path) -> None:
    controller, terminal = os.openpty()
    port = free_port()
    words = ["registry", "--root", str(tmp_path / "root"), "--listen", f"127.0.0.1:{port}"]
    process = subprocess.Popen(
        [*MODULE, *words], stdin=terminal, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        os.close(terminal)
        wait_until(lambda: listening(port), "the registry")
        os.kill(process.pid, signal.SIGHUP)  # the terminal is there: a reload
        wait_until(lambda: listening(port), "the registry")
        assert process.poll() is None
        os.close(controller)
        os.kill(process.pid, signal.SIGHUP)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
