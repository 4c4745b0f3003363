"""Other commands than ``acr import``: `crossdock acr …` prints the same as the real `az acr …`, row by
row."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from az.conftest import Cloud
from crossdock.imagebuilder import ImageBuilder, sample_index
from support.command import Crossdock, Finished
from support.documentation import IDENTITY, SUBSCRIPTION
from support.images import push

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z")
LISTED = f"list --subscription {SUBSCRIPTION}"

# Some rows change what those after them look at.
ROWS = [
    f"{LISTED} --query '[].[name, loginServer, resourceGroup]' -o tsv",
    f"{LISTED} -o table",
    "show -n myregistry",
    "show -n myregistry -o table",
    "show --name myregistry.azurecr.io --query id -o tsv",
    "repository list -n myregistry",
    "repository show -n myregistry --image pair/app:v1",
    "repository show -n myregistry --image pair/app:v1 --query 'changeableAttributes.writeEnabled' -o tsv",
    "repository show -n myregistry --repository pair/app -o table",
    "repository show -n myregistry -t pair/app:v1 --query '{tag: name, digest: digest}' -o table",
    "manifest show-metadata -r myregistry -n pair/app:v2 --query digest -o tsv",
    "repository show-tags -n myregistry --repository pair/app --detail -o table",
    "repository show-tags -n myregistry --repository pair/app --query \"contains(@, 'v1')\" -o tsv",
    "repository show-tags -n myregistry --repository pair/app --query \"[?@=='none']|[0]\"",
    "repository show-manifests -n myregistry --repository pair/app -o yaml",
    "manifest list-metadata -r myregistry -n pair/app --query '[].[digest, imageSize, tags[:]]' -o table",
    "manifest list-metadata -r myregistry -n pair/app -o tsv",
    "repository update -n myregistry --image pair/app:v1 --write-enabled false --delete-enabled false",
    "repository untag -n myregistry --image pair/app:v1",
    "repository delete -n myregistry --image pair/app:v1 --yes",
    "repository update -n myregistry --image pair/app:v1 --write-enabled --delete-enabled true -o tsv",
    "repository untag -n myregistry --image pair/app:v1",
    "repository show -n myregistry --image pair/app:v1",
    "repository show-tags -n myregistry --repository pair/app:v2",
    "repository delete -n myregistry --image pair/app:v2 --yes",
    "manifest show-metadata -r myregistry -n pair/app:v2",
    "repository delete -n myregistry --repository pair/app --yes",
    "repository show -n myregistry --repository pair/app",
]


def fill(cloud: Cloud) -> None:
    """Push ``pair/app`` again, and nothing else but ``old:tag``."""
    cloud.clear()
    cloud.remote.request("DELETE", "/acr/v1/pair/app")
    builder = ImageBuilder(seed=7)
    push(cloud.remote, "pair/app", builder, sample_index(builder), "v1")
    push(cloud.remote, "pair/app", builder, builder.image([builder.random_layer(90)]), "v2")


def crossdock_of(cloud: Cloud, home: Path) -> Crossdock:
    home.mkdir()
    command = Crossdock(home)
    command.environment |= {
        "CROSSDOCK_INVENTORY": str(cloud.service.log.with_name("inventory.yaml")),
        "IDENTITY": IDENTITY,
        "PATH": os.defpath,
    }
    return command


def said(done: Finished) -> list[str]:
    """The warnings, without az's word about its preview."""
    return [
        line
        for line in done.stderr.splitlines()
        if line.startswith("WARNING: ") and "is in preview" not in line
    ]


def test_every_row_is_what_az_prints(running_cloud: Cloud, tmp_path: Path) -> None:
    crossdock, az = crossdock_of(running_cloud, tmp_path / "home"), running_cloud.az
    fill(running_cloud)
    theirs = [az.run(f"az acr {row}") for row in ROWS]
    fill(running_cloud)
    ours = [crossdock("acr", *shlex.split(row)) for row in ROWS]
    for row, expected, found in zip(ROWS, theirs, ours, strict=True):
        assert bool(expected.code) == bool(found.code), (row, expected, found)
        assert timeless(found.stdout) == timeless(expected.stdout), (row, expected, found)
        assert said(found) == said(expected), (row, expected, found)


def timeless(text: str) -> list[str]:
    """The lines with every time of seven digits alike: the two runs push at different ones."""
    return [_TIME.sub("TIME", line) for line in text.splitlines()]
