"""The command lines with which crossdock and its rivals make the same copies."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.content import Image, Images
from benchmarks.processes import ROOT, SEARCH_PATH, find
from benchmarks.servers import Certificates, End

CROSSDOCK = str(Path(sys.executable).with_name("crossdock"))
BEFORE = os.environ.get("CROSSDOCK_BEFORE", "")  # another build of crossdock to include in the race, if set
FLOOR = ROOT / "build" / "benchmarks"  # measure.build_floor writes its programs here
READERS, READS = 4, 3  # connections, and reads of a layer by each, enough to make start-up negligible
SPAWN_PROCESSES = 4  # processes for clients that copy one image per process


@dataclass(frozen=True)
class Job:
    """What to copy: `images` from port `source` to port `target` of 127.0.0.1; `ca` means HTTPS on both."""

    directory: Path  # an empty folder for the client's files
    images: tuple[Image, ...]
    source: int
    target: int
    source_direct: int
    target_direct: int
    ca: Path | None

    def pairs(self) -> list[tuple[str, str]]:
        """(source, target) references."""
        ends = f"127.0.0.1:{self.source}", f"127.0.0.1:{self.target}"
        names = [f"{image.repository}:{image.tag}" for image in self.images]
        return [(f"{ends[0]}/{name}", f"{ends[1]}/{name}") for name in names]

    def environ(self) -> dict[str, str]:
        """An empty home folder, without configuration. Go's clients read their roots from SSL_CERT_FILE."""
        folder = str(self.directory)
        environ = {"PATH": SEARCH_PATH, "HOME": folder, "DOCKER_CONFIG": folder, "XDG_RUNTIME_DIR": folder}
        environ["REGCTL_CONFIG"] = f"{folder}/regctl.json"
        if self.ca is not None:
            environ["SSL_CERT_FILE"] = str(self.ca)
        return environ


def make_job(
    directory: Path, content: Images, source: End, target: End | None, certificates: Certificates | None
) -> Job:
    """The job of copying `content`; without a target the port is 0."""
    return Job(
        directory=directory,
        images=content.images,
        source=source.port,
        target=target.port if target else 0,
        source_direct=source.direct,
        target_direct=target.direct if target else 0,
        ca=certificates.ca if certificates else None,
    )


@dataclass(frozen=True)
class Client:
    """`command` builds the argv for a job; `about` describes the client in tables.

    `verifies`: it hashes the bytes that it copies. `tuned`: it is not run with its defaults.
    """

    name: str
    program: str
    about: str
    command: Callable[[Job], list[str]]
    verifies: bool = True
    tuned: bool = False
    environ: Mapping[str, str] = field(default_factory=dict)
    rustls: bool = False  # skipped if crossdock's TLS engine is not installed

    def is_present(self) -> bool:
        """Whether the client can run on this machine."""
        if self.rustls and "tls: rustls" not in crossdock_version():
            return False
        return self.program == "relay" or find(self.program) is not None


@functools.cache
def crossdock_version() -> str:
    """The output of `crossdock --version`: the kernels and the TLS engine."""
    return subprocess.run([CROSSDOCK, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def _each(job: Job, argv: list[str], processes: int = SPAWN_PROCESSES) -> list[str]:
    """One process per image, some in parallel, as in a shell script."""
    pairs = job.pairs()
    if len(pairs) == 1:
        return [*argv, *pairs[0]]
    return ["xargs", "-a", str(_listed(job)), "-P", str(processes), "-n", "2", *argv]


def _listed(job: Job) -> Path:
    """A file with one `SOURCE TARGET` pair per line."""
    path = job.directory / "pairs"
    path.write_text("".join(f"{source} {target}\n" for source, target in job.pairs()))
    return path


def _crossdock(job: Job, *flags: str, program: str = CROSSDOCK) -> list[str]:
    argv = [program, "copy", "--progress", "none", *flags]
    if job.ca is not None:
        argv += ["--src-ca", str(job.ca), "--dest-ca", str(job.ca)]
    if len(job.images) == 1:
        return [*argv, *job.pairs()[0]]
    return [*argv, "--from-file", str(_listed(job))]


def _crane(job: Job, processes: int = SPAWN_PROCESSES) -> list[str]:
    return _each(job, ["crane", "copy", *(() if job.ca else ("--insecure",))], processes)


def _hosts(job: Job) -> dict[str, str]:
    tls = "enabled" if job.ca else "disabled"
    return {f"127.0.0.1:{port}": tls for port in (job.source, job.target)}


def _regctl(job: Job) -> list[str]:
    hosts = {host: {"tls": tls, "hostname": host} for host, tls in _hosts(job).items()}
    (job.directory / "regctl.json").write_text(json.dumps({"hosts": hosts}))
    return _each(job, ["regctl", "image", "copy"])


def _regsync(job: Job, parallel: int = 0, requests: int = 0) -> list[str]:
    """`parallel` concurrent images, `requests` concurrent requests per registry; 0: its defaults, 1 and 3."""
    more = {"reqConcurrent": requests} if requests else {}
    config = {
        "version": 1,
        "creds": [{"registry": host, "tls": tls, **more} for host, tls in _hosts(job).items()],
        "defaults": {"parallel": parallel} if parallel else {},
        "sync": [{"source": source, "target": target, "type": "image"} for source, target in job.pairs()],
    }
    path = job.directory / "regsync.yml"
    path.write_text(json.dumps(config))  # JSON is YAML
    return ["regsync", "once", "-c", str(path), "-v", "error"]


def _oras(job: Job, processes: int = SPAWN_PROCESSES) -> list[str]:
    return _each(job, ["oras-copy", *(() if job.ca else ("-plain-http",))], processes)


def _skopeo(job: Job) -> list[str]:
    verify = "true" if job.ca else "false"
    if len(job.images) == 1:
        argv = ["skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests"]
        argv += [f"--src-tls-verify={verify}", f"--dest-tls-verify={verify}"]
        return [*argv, *(f"docker://{reference}" for reference in job.pairs()[0])]
    images = {image.repository: [image.tag] for image in job.images}
    config = {f"127.0.0.1:{job.source}": {"images": images, "tls-verify": job.ca is not None}}
    path = job.directory / "skopeo.yml"
    path.write_text(json.dumps(config))
    argv = ["skopeo", "--insecure-policy", "sync", "--preserve-digests", "--src", "yaml", "--dest", "docker"]
    return [*argv, f"--dest-tls-verify={verify}", str(path), f"127.0.0.1:{job.target}/bench"]


def _floor(job: Job) -> list[str]:
    (image,) = job.images
    layer = image.blobs[-1]
    ports = [str(job.source_direct), str(job.target_direct)]
    return [str(FLOOR / "relay"), *ports, image.repository, layer.digest, str(layer.size)]


def _read(job: Job) -> list[str]:
    """crossdock's transport only; see move.py."""
    argv = [sys.executable, str(ROOT / "benchmarks" / "move.py"), "read", str(job.ca)]
    return [*argv, *_layer_url(job), str(READERS), str(READS)]


def _curl(job: Job) -> list[str]:
    (url, _) = _layer_url(job)
    argv = ["curl", "--silent", "--fail", "--cacert", str(job.ca)]
    return [*argv, *(["--output", os.devnull, url] * READERS * READS)]


def _layer_url(job: Job) -> tuple[str, str]:
    (image,) = job.images
    layer = image.blobs[-1]
    return f"https://127.0.0.1:{job.source}/v2/{image.repository}/blobs/{layer.digest}", str(layer.size)


CLIENTS = {
    client.name: client
    for client in (
        Client("crossdock", CROSSDOCK, "defaults", _crossdock),
        Client("crossdock-before", BEFORE, "another build", lambda job: _crossdock(job, program=BEFORE)),
        Client(
            "crossdock-target",
            CROSSDOCK,
            "--verify target",
            lambda job: _crossdock(job, "--verify", "target"),
            verifies=False,
            tuned=True,
        ),
        Client(
            "crossdock-ssl",
            CROSSDOCK,
            "CROSSDOCK_TLS=ssl",
            _crossdock,
            tuned=True,
            environ={"CROSSDOCK_TLS": "ssl"},
            rustls=True,
        ),
        Client("crane", "crane", "", _crane),
        Client("crane-16", "crane", "16 processes", lambda job: _crane(job, 16), tuned=True),
        Client("regctl", "regctl", "", _regctl),
        Client("regsync", "regsync", "defaults", _regsync),
        Client("regsync-16", "regsync", "parallel: 16", lambda job: _regsync(job, 16), tuned=True),
        Client(
            "regsync-16-16",
            "regsync",
            "parallel: 16, reqConcurrent: 16",
            lambda job: _regsync(job, 16, 16),
            tuned=True,
        ),
        Client("oras", "oras-copy", "", _oras, verifies=False),
        Client(
            "oras-16", "oras-copy", "16 processes", lambda job: _oras(job, 16), verifies=False, tuned=True
        ),
        Client("skopeo", "skopeo", "", _skopeo),
        Client("floor", "relay", "recv, SHA-256, send: C, one thread, one blob", _floor),
        Client(
            "rustls",
            CROSSDOCK,
            "the transport with its own TLS engine",
            _read,
            environ={"CROSSDOCK_TLS": "rustls"},
            rustls=True,
        ),
        Client("ssl", CROSSDOCK, "the transport with Python's", _read, environ={"CROSSDOCK_TLS": "ssl"}),
        Client("curl", "curl", "one connection, OpenSSL", _curl),
    )
}


def shown_command(client: Client, job: Job) -> str:
    """The command for the record, without paths of this machine."""
    words = " ".join([*(f"{name}={value}" for name, value in client.environ.items()), *client.command(job)])
    named = {str(job.directory): "RUN", str(ROOT): ".", CROSSDOCK: "crossdock", sys.executable: "python"}
    named |= {BEFORE: "crossdock-before"} if BEFORE else {}
    if job.ca is not None:
        named[str(job.ca.parent)] = "TLS"
    # The longest first, since one path may be a prefix of another.
    for path in sorted(named, key=len, reverse=True):
        words = words.replace(path, named[path])
    for ports, side in (
        ((job.source, job.source_direct), "SOURCE"),
        ((job.target, job.target_direct), "TARGET"),
    ):
        for port in ports:
            words = re.sub(rf"(127\.0\.0\.1:|\b){port}\b", side, words)
    return words


def is_rival(name: str) -> bool:
    """Whether the client is another tool that copies images."""
    return CLIENTS[name].program not in (CROSSDOCK, BEFORE, "relay", "curl")
