"""Scripts for ``az acr`` as people have them, under ``set -e``, with crossdock in az's place."""

from __future__ import annotations

import json
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from crossdock.imagebuilder import Content, ImageBuilder
from support.command import SCRIPT, Crossdock
from support.embedded import Embedded, start_embedded

SECRET = "s3cret-of-the-scripts"
ENTRA = "s3cret-entra"
GROUP = "/subscriptions/sub1/resourceGroups/rg1/providers/Microsoft.ContainerRegistry/registries"


@dataclass
class Place:
    """Two registries that az's login opens: devregistry has ``team/app:1``, myregistry nothing."""

    source: Embedded
    target: Embedded
    image: Content
    environment: dict[str, str]

    def sh(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run the script, in which az is crossdock."""
        return subprocess.run(
            ["/bin/bash", "-euo", "pipefail", "-c", f'az() {{ "{SCRIPT[0]}" "$@"; }}\n{script}'],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def ok(self, script: str) -> str:
        done = self.sh(script)
        assert done.returncode == 0, done
        return done.stdout

    def digest(self, repository: str, tag: str) -> str:
        remote = replace(self.target.remote, basic=f"ann:{SECRET}")
        return remote.manifest(repository, tag).headers["docker-content-digest"]


@pytest.fixture
def place(crossdock: Crossdock, tmp_path: Path, closing: ExitStack) -> Place:
    users = {"users": [{"name": "ann", "password": SECRET, "access_tokens": [ENTRA]}]}
    builder = ImageBuilder(tmp_path / "dev/root/team/app")
    image = builder.tag(builder.image([builder.random_layer(1000)]), "1")
    (tmp_path / "my/root").mkdir(parents=True)
    source, target = (
        start_embedded(tmp_path / each, tmp_path / each / "root", closing, users=users)
        for each in ("dev", "my")
    )
    known = {"subscription": "sub1", "resource_group": "rg1"}
    document = {
        "registries": [{"name": name, **known} for name in ("devregistry", "myregistry")],
        "hosts": {"devregistry.azurecr.io": source.host, "myregistry.azurecr.io": target.host},
    }
    (tmp_path / "inventory.yaml").write_text(json.dumps(document))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/az").write_text(f"#!/bin/sh\necho '{json.dumps({'accessToken': ENTRA})}'\n")
    (tmp_path / "bin/az").chmod(0o755)
    environment = crossdock.environment | {
        "CROSSDOCK_INVENTORY": str(tmp_path / "inventory.yaml"),
        "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
    }
    return Place(source, target, image, environment)


def test_import_if_it_is_missing(place: Place) -> None:
    script = """
        az acr login -n myregistry >/dev/null
        found=$(az acr repository show -n myregistry --image team/app:1 --query name -o tsv || true)
        if [ -z "$found" ]; then
            az acr import -n myregistry --source devregistry.azurecr.io/team/app:1 -t team/app:1
            echo imported
        else
            echo "there: $found"
        fi
    """
    assert place.ok(script) == "imported\n"
    assert place.ok(script) == "there: 1\n"


def test_promotion_by_id_and_digest(place: Place) -> None:
    said = place.ok("""
        id=$(az acr show -n devregistry --query id -o tsv)
        digest=$(az acr manifest show-metadata -r devregistry -n team/app:1 --query digest -o tsv)
        az acr import -n myregistry --registry "$id" --source "team/app@$digest" -t app:prod --force -o none
        [ "$(az acr repository show -n myregistry --image app:prod --query digest -o tsv)" = "$digest" ]
        echo "$id $digest"
    """)
    assert said == f"{GROUP}/devregistry {place.image.digest}\n"
    assert place.digest("app", "prod") == place.image.digest


def test_import_and_lock(place: Place) -> None:
    said = place.ok("""
        server=$(az acr show -n myregistry --query loginServer -o tsv)
        there=$(az acr repository show-tags -n myregistry --repository team/app --query "contains(@, '1')" \\
            -o tsv 2>/dev/null || echo false)
        if [ "$there" != true ]; then
            az acr import -n myregistry --source devregistry.azurecr.io/team/app:1 -t team/app:1
        fi
        az acr repository update -n myregistry --image team/app:1 -o none \\
            --write-enabled false --delete-enabled false
        locked=$(az acr repository show -n myregistry --image team/app:1 \\
            --query changeableAttributes.writeEnabled -o tsv)
        token=$(az acr login -n myregistry --expose-token --output tsv --query accessToken 2>/dev/null)
        if az acr repository delete -n myregistry --image team/app:1 --yes 2>/dev/null; then exit 9; fi
        echo "$server $there $locked ${#token}"
    """).split()
    assert said[:3] == ["myregistry.azurecr.io", "false", "false"]
    assert int(said[3]) > 100


def test_clean_up_of_what_has_no_tag(place: Place) -> None:
    said = place.ok("""
        az acr import -n myregistry --source devregistry.azurecr.io/team/app:1 -t team/app:1 -t team/app:old
        az acr repository untag -n myregistry --image team/app:old
        az acr repository untag -n myregistry --image team/app:1
        for digest in $(az acr manifest list-metadata -r myregistry -n team/app \\
            --query '[?tags[0]==null].digest' -o tsv); do
            az acr repository delete -n myregistry --image "team/app@$digest" --yes --only-show-errors
            echo "$digest"
        done
        az acr manifest list-metadata -r myregistry -n team/app --query 'length(@)'
    """)
    assert said == f"{place.image.digest}\n0\n"


def test_every_registry_of_a_group_and_every_repository(place: Place) -> None:
    said = place.ok("""
        export AZURE_DEFAULTS_ACR=myregistry
        for registry in $(az acr list -g rg1 --query '[].name' -o tsv); do
            for repository in $(az acr repository list -n "$registry" -o tsv); do
                for tag in $(az acr repository show-tags -n "$registry" --repository "$repository" \\
                    --orderby time_desc --top 1 -o tsv); do
                    az acr import --source "$registry.azurecr.io/$repository:$tag" -t "$repository:$tag"
                    echo "$registry $repository $tag"
                done
            done
        done
        az acr repository delete --repository team/app --yes --query 'tagsDeleted[0]' -o tsv
    """)
    assert said == "devregistry team/app 1\nmyregistry team/app 1\n1\n"


def test_another_tenant_s_registry_by_its_exposed_token(place: Place) -> None:
    place.ok("""
        token=$(az acr login -n devregistry --expose-token --query accessToken -o tsv --only-show-errors)
        az acr import -n myregistry --source devregistry.azurecr.io/team/app:1 -t copied:1 \\
            --username 00000000-0000-0000-0000-000000000000 --password "$token"
    """)
    assert place.digest("copied", "1") == place.image.digest
