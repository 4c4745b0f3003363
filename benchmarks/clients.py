"""crossdock and its rivals: how each is told to make the same copies."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.content import Image
from benchmarks.processes import SEARCH_PATH, find

CROSSDOCK = str(Path(sys.executable).with_name("crossdock"))
SPAWN_PROCESSES = 4  # of clients that copy one image a process


@dataclass(frozen=True)
class Job:
    """What to copy: `images` from port `source` to port `target` of 127.0.0.1; `ca` means HTTPS on both."""

    directory: Path  # empty, for files of the client
    images: tuple[Image, ...]
    source: int
    target: int
    source_direct: int
    target_direct: int
    ca: Path | None
    floor: Path

    def pairs(self) -> list[tuple[str, str]]:
        """(source, target) references."""
        ends = f"127.0.0.1:{self.source}", f"127.0.0.1:{self.target}"
        names = [f"{image.repository}:{image.tag}" for image in self.images]
        return [(f"{ends[0]}/{name}", f"{ends[1]}/{name}") for name in names]

    def environ(self) -> dict[str, str]:
        """A home without anybody's configuration. Go's clients take their roots from SSL_CERT_FILE."""
        folder = str(self.directory)
        environ = {"PATH": SEARCH_PATH, "HOME": folder, "DOCKER_CONFIG": folder, "XDG_RUNTIME_DIR": folder}
        environ["REGCTL_CONFIG"] = f"{folder}/regctl.json"
        if self.ca is not None:
            environ["SSL_CERT_FILE"] = str(self.ca)
        return environ


@dataclass(frozen=True)
class Client:
    """`command` makes argv of a job. `verifies`: it hashes what it copies. `tuned`: not as users run it."""

    name: str
    program: str
    about: str
    command: Callable[[Job], list[str]]
    verifies: bool = True
    tuned: bool = False
    flag: str = ""  # a flag of `crossdock copy` without which this client is left out

    def is_present(self, floor: Path) -> bool:
        if self.program == CROSSDOCK:
            return self.flag in crossdock_flags()
        return self.program == "relay" or find(self.program) is not None


@functools.cache
def crossdock_flags() -> str:
    """What `crossdock copy --help` prints: whether --from-file and --verify are there."""
    return subprocess.run([CROSSDOCK, "copy", "--help"], capture_output=True, text=True, check=True).stdout


def _each(job: Job, argv: list[str], processes: int = SPAWN_PROCESSES) -> list[str]:
    """One process per image, some at once, as a shell script would."""
    pairs = job.pairs()
    if len(pairs) == 1:
        return [*argv, *pairs[0]]
    listed = job.directory / "pairs"
    listed.write_text("".join(f"{source} {target}\n" for source, target in pairs))
    return ["xargs", "-a", str(listed), "-P", str(processes), "-n", "2", *argv]


def _crossdock(job: Job, *flags: str) -> list[str]:
    argv = [CROSSDOCK, "copy", "--progress", "none", *flags]
    if job.ca is not None:
        argv += ["--src-ca", str(job.ca), "--dest-ca", str(job.ca)]
    if len(job.images) == 1 or "--from-file" not in crossdock_flags():
        return _each(job, argv)
    listed = job.directory / "pairs"
    listed.write_text("".join(f"{source} {target}\n" for source, target in job.pairs()))
    return [*argv, "--from-file", str(listed)]


def _crane(job: Job, processes: int = SPAWN_PROCESSES) -> list[str]:
    return _each(job, ["crane", "copy", *(() if job.ca else ("--insecure",))], processes)


def _hosts(job: Job) -> dict[str, str]:
    tls = "enabled" if job.ca else "disabled"
    return {f"127.0.0.1:{port}": tls for port in (job.source, job.target)}


def _regctl(job: Job) -> list[str]:
    hosts = {host: {"tls": tls, "hostname": host} for host, tls in _hosts(job).items()}
    (job.directory / "regctl.json").write_text(json.dumps({"hosts": hosts}))
    return _each(job, ["regctl", "image", "copy"])


def _regsync(job: Job, parallel: int = 0) -> list[str]:
    config = {
        "version": 1,
        "creds": [{"registry": host, "tls": tls} for host, tls in _hosts(job).items()],
        "defaults": {"parallel": parallel} if parallel else {},
        "sync": [{"source": source, "target": target, "type": "image"} for source, target in job.pairs()],
    }
    path = job.directory / "regsync.yml"
    path.write_text(json.dumps(config))  # JSON is YAML
    return ["regsync", "once", "-c", str(path), "-v", "error"]


def _oras(job: Job) -> list[str]:
    return _each(job, ["oras-copy", *(() if job.ca else ("-plain-http",))])


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
    return [str(job.floor / "relay"), *ports, image.repository, layer.digest, str(layer.size)]


CLIENTS = {
    client.name: client
    for client in (
        Client("crossdock", CROSSDOCK, "defaults", _crossdock),
        Client(
            "crossdock-target",
            CROSSDOCK,
            "--verify target",
            lambda job: _crossdock(job, "--verify", "target"),
            verifies=False,
            tuned=True,
            flag="--verify",
        ),
        Client("crane", "crane", "crane copy; many images: 4 processes", _crane),
        Client("crane-16", "crane", "16 processes", lambda job: _crane(job, 16), tuned=True),
        Client("regctl", "regctl", "regctl image copy; many images: 4 processes", _regctl),
        Client("regsync", "regsync", "regsync once, defaults", _regsync),
        Client("regsync-16", "regsync", "parallel: 16", lambda job: _regsync(job, 16), tuned=True),
        Client(
            "oras",
            "oras-copy",
            "oras-go as `oras cp` uses it; many images: 4 processes",
            _oras,
            verifies=False,
        ),
        Client("skopeo", "skopeo", "skopeo copy; many images: skopeo sync", _skopeo),
        Client("floor", "relay", "recv, SHA-256, send: C, one thread, one blob", _floor),
    )
}


def is_rival(name: str) -> bool:
    """Whether the client is neither crossdock nor the floor."""
    return not name.startswith("crossdock") and name != "floor"
