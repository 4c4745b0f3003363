"""The examples that end the help of each command. Tests parse them all."""

from __future__ import annotations

from collections.abc import Mapping

_INVENTORY = "--inventory inventory.yaml"

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "crossdock": (
        "crossdock copy docker.io/library/alpine:3 registry.example/mirror/alpine:3",
        "crossdock mirror old.example/team new.example/team --dry-run",
    ),
    "crossdock copy": (
        "crossdock copy docker.io/library/alpine:3 registry.example/mirror/alpine:3",
        "crossdock copy --platform linux/amd64 alpine:3 oci:alpine:3",
        "crossdock copy --from-file images.txt --to new.example/team",
        "crossdock copy --from-archive all.tar --to inside.example",
    ),
    "crossdock archive": (
        "crossdock archive all.tar alpine:3 registry.example/team/app:1",
        "crossdock archive all.tar --split 4GiB --since old.tar registry.example/team/app:2",
    ),
    "crossdock mirror": (
        "crossdock mirror old.example/team new.example/team --dry-run",
        "crossdock mirror old.example new.example --repository 'team/*' --tags 'v*'",
    ),
    "crossdock plan": (
        "crossdock plan migration.yaml",
        "crossdock plan --from regsync regsync.yaml",
    ),
    "crossdock apply": ("crossdock apply migration.yaml --report report.json",),
    "crossdock verify": (
        "crossdock verify migration.yaml",
        "crossdock verify old.example/team new.example/team",
    ),
    "crossdock runs": ("crossdock runs list",),
    "crossdock runs list": ("crossdock runs list --output json",),
    "crossdock runs show": ("crossdock runs show 1",),
    "crossdock runs forget": ("crossdock runs forget 1",),
    "crossdock report": ("crossdock report merge all.json shard-0.json shard-1.json",),
    "crossdock report merge": ("crossdock report merge all.json shard-0.json shard-1.json",),
    "crossdock inspect": ("crossdock inspect docker.io/library/alpine:3",),
    "crossdock tags": ("crossdock tags docker.io/library/alpine",),
    "crossdock probe": (
        "crossdock probe registry.example/team/app",
        "crossdock probe registry.example/team/scratch --write --save inventory.yaml",
    ),
    "crossdock registries": ("crossdock registries registry.example",),
    "crossdock login": (
        "crossdock login registry.example",
        "printf '%s\\n' \"$TOKEN\" | crossdock login registry.example -u bot --password-stdin",
    ),
    "crossdock logout": ("crossdock logout registry.example",),
    "crossdock state": ("crossdock state list",),
    "crossdock state list": ("crossdock state list",),
    "crossdock state show": ("crossdock state show sha256:4bf5",),
    "crossdock state prune": ("crossdock state prune --older-than 2d",),
    "crossdock registry": (
        "crossdock registry --root ./images",
        "crossdock registry --root ./images --listen 0.0.0.0:5000 --anonymous read",
    ),
    "crossdock serve": (
        f"crossdock serve {_INVENTORY}",
        "crossdock serve --dev",
        f"crossdock serve {_INVENTORY} --config settings.yaml --listen 0.0.0.0:8080 --tls-ended-elsewhere",
    ),
    "crossdock demo": ("crossdock demo --size 50MiB",),
    "crossdock completion": (
        "source <(crossdock completion bash)",
        "crossdock completion fish > ~/.config/fish/completions/crossdock.fish",
    ),
    "crossdock help": ("crossdock help copy", "crossdock help exit-codes"),
    "crossdock acr": ("crossdock acr import -n myregistry --source docker.io/library/alpine:3",),
    "crossdock acr import": (
        "crossdock acr import -n myregistry --source docker.io/library/alpine:3",
        "crossdock acr import -n myregistry --source team/app:1 -r otherregistry -t app:1",
    ),
    "crossdock acr login": ("crossdock acr login -n myregistry",),
    "crossdock acr show": (f"crossdock acr show -n myregistry {_INVENTORY}",),
    "crossdock acr list": (f"crossdock acr list {_INVENTORY} --output table",),
    "crossdock acr manifest": ("crossdock acr manifest list-metadata -r myregistry -n team/app",),
    "crossdock acr manifest list-metadata": (
        "crossdock acr manifest list-metadata -r myregistry -n team/app --orderby time_desc --top 5",
    ),
    "crossdock acr manifest show": ("crossdock acr manifest show -r myregistry -n team/app:1",),
    "crossdock acr manifest show-metadata": (
        "crossdock acr manifest show-metadata -r myregistry -n team/app:1",
    ),
    "crossdock acr manifest update-metadata": (
        "crossdock acr manifest update-metadata -r myregistry -n team/app:1 --write-enabled false",
    ),
    "crossdock acr manifest delete": ("crossdock acr manifest delete -r myregistry -n team/app:1",),
    "crossdock acr repository": ("crossdock acr repository list -n myregistry",),
    "crossdock acr repository list": ("crossdock acr repository list -n myregistry",),
    "crossdock acr repository show-tags": (
        "crossdock acr repository show-tags -n myregistry --repository team/app --detail",
    ),
    "crossdock acr repository show-manifests": (
        "crossdock acr repository show-manifests -n myregistry --repository team/app",
    ),
    "crossdock acr repository show": ("crossdock acr repository show -n myregistry --image team/app:1",),
    "crossdock acr repository update": (
        "crossdock acr repository update -n myregistry --image team/app:1 --delete-enabled false",
    ),
    "crossdock acr repository delete": (
        "crossdock acr repository delete -n myregistry --image team/app:1 --yes",
    ),
    "crossdock acr repository untag": ("crossdock acr repository untag -n myregistry --image team/app:1",),
}
"""Command lines by the command that they are of."""
