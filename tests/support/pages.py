"""A page of docs/ as a reader follows it: its files, its commands, and registries under the names it uses.

A block of ``sh`` is run, one of any other language with a ``title`` is a file, and ``console`` is only shown.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from crossdock.imagebuilder import ImageBuilder
from support.command import WITHOUT_CLOUD
from support.embedded import Embedded, start_embedded
from support.images import one_layer_image, push

DOCS = Path(__file__).parents[2] / "docs"
PASSWORD = "s3cret"
USERS = ("bot", "mover", "robot$mover", "AWS")
ECR = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"

OPEN = ("docker.io", "quay.io", "old.example", "eu.example", "models.example", "staging.example")
OPEN_TARGETS = ("new.example", "us.example", "asia.example")
PRIVATE = ("harbor.example", "artifactory.example", "oldregistry.azurecr.io")
PRIVATE_TARGETS = ("registry.example", "ghcr.io", "myregistry.azurecr.io", ECR)

IMAGES = {
    "open": (
        "library/alpine:3",
        "library/nginx:1.27",
        "library/nginx:1.26",
        "library/nginx:stable",
        "grafana/grafana:11.3.0",
        "team/app:1.0",
        "team/tools:1.0",
        "llm/base:v1",
    ),
    "private": ("team/app:1.0", "team/app:1.1", "docker-local/team/app:1.0"),
}
_BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)

_AZ = """
import json, sys, urllib.parse, urllib.request
if "get-access-token" in sys.argv:
    sys.exit(print(json.dumps({"accessToken": %r})))
name = sys.argv[sys.argv.index("--name") + 1]
server = f"{name}.azurecr.io"
form = {"grant_type": "access_token", "service": server, "access_token": %r}
data = urllib.parse.urlencode(form).encode()
host = %r[name]
request = urllib.request.Request(f"http://{host}/oauth2/exchange", data, {"Host": server})
with urllib.request.urlopen(request, timeout=60) as answer:
    print(json.load(answer)["refresh_token"])
"""
_KUBECTL = """
import sys
from pathlib import Path
for flag, value in zip(sys.argv, [*sys.argv[1:], ""]):
    name = value if flag == "-f" else flag.partition("=")[2] if flag.startswith("--from-file=") else ""
    if name and not Path(name).is_file():
        sys.exit(f"kubectl: there is no file {name}")
"""
_HELM = """
[ "$1 $2" = "upgrade --install" ] && shift 2
[ -d "$2" ] && [ -f "$4" ] || exit 2
program=%s
[ ! -x "$program" ] || exec "$program" template "$@"
"""
_AWS = """
case "$1 $2" in
    "ecr get-login-password") echo %s ;;
    "ecr create-repository") ;;
    *) exit 2 ;;
esac
"""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file that it is, its text."""

    language: str
    title: str | None
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [
        Block(language, title or None, text) for language, title, text in _BLOCK.findall(page.read_text())
    ]


@dataclass(frozen=True)
class World:
    """Registries in the names of the pages."""

    inventory: Path
    programs: Path
    digest: str
    hosts: Mapping[str, str]

    def environment(self, folder: Path) -> dict[str, str]:
        """The variables of a command that is run in this folder, with a home there."""
        (folder / "home").mkdir()
        return {
            "PATH": f"{self.programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder / "home"),
            **WITHOUT_CLOUD,
            "CROSSDOCK_INVENTORY": str(self.inventory),
            "DIGEST": self.digest,
            **dict.fromkeys(("TOKEN", "HARBOR_SECRET", "ARTIFACTORY_TOKEN"), PASSWORD),
        }

    def follow(self, page: Path, folder: Path) -> Iterator[tuple[str, subprocess.CompletedProcess[str]]]:
        """Write the files and run the commands of a page in an empty folder; yields each block's outcome."""
        environment = self.environment(folder)
        (folder / "deploy").symlink_to(DOCS.parent / "deploy")  # "in a checkout"
        for block in blocks(page):
            if block.title:
                (folder / block.title).write_text(block.text)
            elif block.language == "sh":
                yield (
                    block.text,
                    subprocess.run(
                        ["bash", "-euo", "pipefail", "-c", block.text],
                        cwd=folder,
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        capture_output=True,
                        text=True,
                        timeout=300,
                        check=False,
                    ),
                )


def start_world(folder: Path, stack: ExitStack) -> World:
    """Start the registries until `stack` ends, with the images that the pages copy."""
    users = {"users": [{"name": name, "password": PASSWORD, "access_tokens": [PASSWORD]} for name in USERS]}
    made: dict[str, Embedded] = {}
    for name in ("open", "private", "open-targets", "private-targets"):
        (folder / name).mkdir()
        made[name] = start_embedded(
            folder, folder / name, stack, users=users if name.startswith("private") else None
        )
    digest = ""
    for name, references in IMAGES.items():
        remote = made[name].remote
        if name == "private":
            remote = type(remote)(remote.host, None, basic=f"bot:{PASSWORD}")
        for seed, reference in enumerate(references):
            repository, _, tag = reference.partition(":")
            builder = ImageBuilder(seed=seed)
            graph = push(remote, repository, builder, one_layer_image(builder, 30_000)[0], tag)
            digest = graph.root if reference == "team/app:1.0" and name == "open" else digest
    hosts = {
        host: made[name].host
        for name, names in (
            ("open", OPEN),
            ("open-targets", OPEN_TARGETS),
            ("private", PRIVATE),
            ("private-targets", PRIVATE_TARGETS),
        )
        for host in names
    }
    inventory = folder / "inventory.json"
    inventory.write_text(json.dumps({"registries": [], "hosts": hosts}))
    programs = folder / "programs"
    programs.mkdir()
    names = {name: hosts[f"{name}.azurecr.io"] for name in ("oldregistry", "myregistry")}
    for name, text in (
        ("az", f"#!{sys.executable}\n{_AZ % (PASSWORD, PASSWORD, names)}"),
        ("aws", f"#!/bin/sh\n{_AWS % PASSWORD}"),
        ("kubectl", f"#!{sys.executable}\n{_KUBECTL}"),
        ("helm", f"#!/bin/sh\n{_HELM % (Path(sys.executable).parent / 'helm')}"),
    ):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return World(inventory, programs, digest, hosts)
