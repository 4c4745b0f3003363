"""Registries of this machine under the names that ``az acr import``'s documentation uses."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crossdock.imagebuilder import ImageBuilder, sample_index
from support.command import Crossdock, Finished
from support.docker_registry import DockerRegistry
from support.images import Graph, one_layer_image, push

POLICY, CONFLICT = 10, 11
SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
SOURCE_SUBSCRIPTION = "11111111-1111-1111-1111-111111111111"
RESOURCE_ID = (
    f"/subscriptions/{SOURCE_SUBSCRIPTION}/resourceGroups/sourceResourceGroup/providers/"
    "Microsoft.ContainerRegistry/registries/sourceRegistry"
)


@dataclass
class Cloud:
    """Registries of this machine under the documentation's names."""

    crossdock: Crossdock
    folder: Path
    public: DockerRegistry  # docker.io and mcr.microsoft.com
    azure: DockerRegistry  # mysourceregistry, sourceRegistry
    private: DockerRegistry  # a private registry with a password
    target: DockerRegistry  # myregistry
    source_settings: dict[str, Any] = field(default_factory=dict)
    target_settings: dict[str, Any] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)  # more of them, or others
    others: list[dict[str, Any]] = field(default_factory=list)  # more entries

    def inventory(self) -> Path:
        """The file, as the settings are now."""
        source = {"subscription": SOURCE_SUBSCRIPTION, **self.source_settings}
        document = {
            "registries": [
                {
                    "name": "myregistry",
                    "login_server": self.target.host,
                    "subscription": SUBSCRIPTION,
                    "resource_group": "MyResourceGroup",
                    **self.target_settings,
                },
                {"name": "mysourceregistry", "login_server": "mysourceregistry.azurecr.io", **source},
                {
                    "name": "sourceRegistry",
                    "login_server": self.azure.host,
                    "resource_group": "sourceResourceGroup",
                    **source,
                },
                *self.others,
            ],
            "hosts": {
                "docker.io": self.public.host,
                "mcr.microsoft.com": self.public.host,
                "mysourceregistry.azurecr.io": self.azure.host,
                "docker-private.example": self.private.host,
                **self.hosts,
            },
        }
        path = self.folder / "inventory.yaml"
        path.write_text(json.dumps(document, indent=1))
        return path

    def _words(self, words: tuple[str, ...]) -> tuple[str | Path, ...]:
        return ("acr", "import", *words, "--inventory", self.inventory())

    def run(self, *words: str, **how: Any) -> Finished:
        """An import that must succeed."""
        return self.crossdock.ok(*self._words(words), **how)

    def fail(self, *words: str, code: int, naming: tuple[str, ...] = (), **how: Any) -> str:
        """An import that must fail; the line."""
        return self.crossdock.fail(*self._words(words), code=code, naming=naming, **how)


def put(registry: DockerRegistry, repository: str, tag: str, seed: int = 1, *, index: bool = False) -> Graph:
    """Push an image, or a multi-platform one; its graph."""
    builder = ImageBuilder(seed=seed)
    content = sample_index(builder) if index else one_layer_image(builder, 100_000)[0]
    return push(registry.remote, repository, builder, content, tag)
