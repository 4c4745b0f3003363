"""deploy/kubernetes: its files and what helm makes of its chart are what Kubernetes and crossdock accept."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from crossdock.cli.parser import parse
from crossdock.inventory.read import read_inventory
from crossdock.migration.file import read_migration
from crossdock.service.config import read_settings
from crossdock.service.identity.rights import Rights
from crossdock.service.web.routes import ROUTES
from support.pages import DOCS, blocks

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
CHART = FOLDER / "chart"
HELM = shutil.which("helm", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
VERSIONS = ("1.29", "1.37")

Document = dict[str, Any]

CASES: dict[str, Document] = {
    "chart": {},
    "chart-ingress": {"ingress": {"enabled": True}, "serviceMonitor": {"enabled": True}},
    "chart-monitor": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "networkPolicy": {"from": [{"namespaceSelector": {}}], "egressPorts": [443, 5000]},
        "imagePullSecrets": [{"name": "pull"}],
        "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/r"}},
    },
    "chart-job": {"service": {"enabled": False}, "migration": {"enabled": True, "flags": ["--check-blobs"]}},
    "chart-shards": {"service": {"enabled": False}, "migration": {"enabled": True, "shards": 4}},
    "chart-nightly": {"migration": {"enabled": True, "schedule": "17 2 * * *", "shards": 2}},
}
for block in blocks(DOCS / "how-to" / "kubernetes.md"):
    if block.title in ("nightly.yaml", "service.yaml"):
        CASES[f"page-{block.title}"] = yaml.safe_load(block.text)
FILES = sorted(path.name for path in FOLDER.glob("*.yaml"))


def helm(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run helm, or skip the test on a machine for which the development environment has none."""
    if HELM is None:
        assert not os.environ.get("CI"), "make build installs it"
        pytest.skip("helm is not installed")
    return subprocess.run([HELM, *words], capture_output=True, text=True, timeout=120, check=False)


def rendered(values: Document, folder: Path) -> list[Document]:
    """What `helm template` prints for these values."""
    (folder / "values.json").write_text(json.dumps(values))
    done = helm("template", "crossdock", CHART, "--values", folder / "values.json")
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


@pytest.fixture(params=[*FILES, *CASES], scope="module")
def documents(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Document]:
    """The documents of a file, or of the chart with some values."""
    if request.param in CASES:
        return rendered(CASES[request.param], tmp_path_factory.mktemp("values"))
    return list(yaml.safe_load_all((FOLDER / request.param).read_text("utf-8")))


@dataclass(frozen=True)
class Workload:
    """A Deployment, a Job or a CronJob: the spec that has the pod's template, and the pod."""

    spec: Document
    pod: Document

    @property
    def container(self) -> Document:
        [found] = self.pod["containers"]
        return dict(found)

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.spec["template"]["metadata"]["labels"])


def workloads(documents: list[Document]) -> list[Workload]:
    specs = [
        each["spec"].get("jobTemplate", each)["spec"]
        for each in documents
        if each["kind"] in ("Deployment", "Job", "CronJob")
    ]
    return [Workload(each, each["template"]["spec"]) for each in specs]


def of_kind(documents: list[Document], kind: str) -> list[Document]:
    return [each for each in documents if each["kind"] == kind]


def mounted(workload: Workload, documents: list[Document], folder: Path) -> dict[str, Path]:
    """The folders that stand for the container's, with the files of its ConfigMaps, by their paths in it."""
    volumes = {each["name"]: each for each in workload.pod["volumes"]}
    mounts = workload.container["volumeMounts"]
    assert {each["name"] for each in mounts} == set(volumes)
    found = {}
    for mount in mounts:
        found[mount["mountPath"]] = here = folder / mount["name"]
        here.mkdir()
        name = volumes[mount["name"]].get("configMap", {}).get("name")
        for config in of_kind(documents, "ConfigMap"):
            if config["metadata"]["name"] == name:
                for file, text in config["data"].items():
                    (here / file).write_text(text)
    return found


def command(workload: Workload, mounts: dict[str, Path]) -> Iterator[str]:
    """The container's arguments, with the paths of `mounts`; files that no ConfigMap has are empty ones."""
    for word in workload.container["args"]:
        word = word.replace("$(INDEX)", "0")
        for place, folder in mounts.items():
            if found := re.fullmatch(rf"(|--[a-z-]+=){re.escape(place)}/(.*)", word):
                if found[1] not in ("--state=", "--report="):
                    (folder / found[2]).touch()
                word = f"{found[1]}{folder / found[2]}"
                break
        yield word


def test_kubernetes_takes_the_documents(documents: list[Document]) -> None:
    for document in documents:
        if document["kind"] != "ServiceMonitor":  # of the Prometheus Operator
            for version in VERSIONS:
                kubernetes_validate.validate(document, version, strict=True)


def test_every_pod_keeps_to_the_restricted_standard_and_has_resources(documents: list[Document]) -> None:
    for workload in workloads(documents):
        assert workload.pod["securityContext"]["runAsNonRoot"] is True
        assert workload.pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert workload.pod["automountServiceAccountToken"] is False
        container = workload.container
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(container["resources"]) == {"requests", "limits"}
        assert all("memory" in each for each in container["resources"].values())
        for volume in workload.pod["volumes"]:
            if "secret" in volume:
                assert volume["secret"]["defaultMode"] == 0o440


def test_crossdock_takes_the_commands_and_the_files(
    documents: list[Document], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
    for number, workload in enumerate(workloads(documents)):
        (tmp_path / str(number)).mkdir()
        mounts = mounted(workload, documents, tmp_path / str(number))
        found = parse(list(command(workload, mounts)))
        if found.command == "serve":
            inventory, settings = read_inventory(Path(found.inventory)), read_settings(Path(found.config))
            Rights(settings.principals)
            given = {name for who in settings.principals for role in who.roles for name in role.registries}
            assert given <= {each.name for each in inventory.registries}
            logins = [each.credentials for each in inventory.registries if each.credentials]
            secrets = [settings.key_file, *(each.password_file for each in logins)]
            assert {str(each.parent) for each in secrets if each} <= set(mounts)
        else:
            assert found.command == "apply"
            if found.file.stat().st_size:  # else the ConfigMap is the reader's
                read_migration(found.file)
            shards = workload.spec.get("completions", 1)
            assert (str(found.shard) == f"0/{shards}") if shards > 1 else found.shard is None


def test_the_probes_ask_for_what_the_service_answers_without_a_token(documents: list[Document]) -> None:
    answered = {each.template for each in ROUTES if each.method == "GET" and each.guard == "open"}
    for workload in workloads(documents):
        probes = [value for key, value in workload.container.items() if key.endswith("Probe")]
        assert len(probes) == (3 if workload.container["args"][0] == "serve" else 0)
        for probe in probes:
            assert probe["httpGet"]["path"] in answered
            [port] = [
                each for each in workload.container["ports"] if each["name"] == probe["httpGet"]["port"]
            ]
            assert f"--listen=0.0.0.0:{port['containerPort']}" in workload.container["args"]
            is_behind = "--tls-ended-elsewhere" in workload.container["args"]
            assert probe["httpGet"]["scheme"] == ("HTTP" if is_behind else "HTTPS")


def test_what_selects_finds_and_what_is_named_is_there(documents: list[Document]) -> None:
    found = workloads(documents)
    services = of_kind(documents, "Service")
    for service in services:
        [chosen] = [each for each in found if service["spec"]["selector"].items() <= each.labels.items()]
        ports = {each["name"] for each in chosen.container["ports"]}
        assert {each["targetPort"] for each in service["spec"]["ports"]} <= ports
    for ingress in of_kind(documents, "Ingress"):
        backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
        [service] = [each for each in services if each["metadata"]["name"] == backend["name"]]
        assert backend["port"]["name"] in {each["name"] for each in service["spec"]["ports"]}
    if not found:  # a file of its own, for the pods of another one
        services = list(yaml.safe_load_all((FOLDER / "service.yaml").read_text("utf-8")))
        found = [
            workload
            for name in FILES
            for workload in workloads(list(yaml.safe_load_all((FOLDER / name).read_text("utf-8"))))
        ]
        services = of_kind(services, "Service")
    for monitor in of_kind(documents, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"]
        [service] = [each for each in services if wanted.items() <= each["metadata"]["labels"].items()]
        assert monitor["spec"]["endpoints"][0]["port"] in {each["name"] for each in service["spec"]["ports"]}
        assert monitor["spec"]["endpoints"][0]["path"] in {each.template for each in ROUTES}
    for policy in of_kind(documents, "NetworkPolicy"):
        wanted = policy["spec"]["podSelector"]["matchLabels"]
        chosen_ones = [each for each in found if wanted.items() <= each.labels.items()]
        assert chosen_ones
        for rule in policy["spec"].get("ingress", []):
            ports = {each["name"] for workload in chosen_ones for each in workload.container["ports"]}
            assert {each["port"] for each in rule["ports"]} <= ports
    claims = {each["metadata"]["name"] for each in of_kind(documents, "PersistentVolumeClaim")}
    accounts = {each["metadata"]["name"] for each in of_kind(documents, "ServiceAccount")}
    used = {
        volume["persistentVolumeClaim"]["claimName"]
        for workload in workloads(documents)
        for volume in workload.pod["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert used == claims
    assert all(
        each.pod.get("serviceAccountName") in accounts or not accounts for each in workloads(documents)
    )


@pytest.mark.parametrize(
    ("file", "values"),
    [("service.yaml", {}), ("job.yaml", CASES["chart-job"]), ("indexed-job.yaml", CASES["chart-shards"])],
)
def test_the_chart_makes_the_pod_of_the_file(file: str, values: Document, tmp_path: Path) -> None:
    values = {**values, "image": "registry.example.com/crossdock:latest"}
    if "migration" in values:
        values["migration"] = {**values["migration"], "flags": []}
    [made] = workloads(rendered(values, tmp_path))
    [written] = workloads(list(yaml.safe_load_all((FOLDER / file).read_text("utf-8"))))
    of_the_chart = {"imagePullPolicy"}
    container = {key: value for key, value in made.container.items() if key not in of_the_chart}
    for each in (container, written.container):
        for mount in each["volumeMounts"]:
            mount["name"] = mount["mountPath"]
    assert container == written.container
    ignored = ("containers", "volumes", "serviceAccountName")
    assert {key: value for key, value in made.pod.items() if key not in ignored} == {
        key: value for key, value in written.pod.items() if key not in ignored
    }
    ignored = ("template", "selector")
    assert {key: value for key, value in made.spec.items() if key not in ignored} == {
        key: value for key, value in written.spec.items() if key not in ignored
    }


@pytest.mark.parametrize("case", ["chart-ingress", "chart-nightly"])
def test_helm_lints_the_chart(case: str, tmp_path: Path) -> None:
    (tmp_path / "values.json").write_text(json.dumps(CASES[case]))
    done = helm("lint", "--strict", CHART, "--values", tmp_path / "values.json")
    assert done.returncode == 0, done.stdout + done.stderr


def test_names_have_room_for_what_follows(tmp_path: Path) -> None:
    (tmp_path / "values.json").write_text(json.dumps(CASES["chart-nightly"]))
    done = helm("template", "a" * 53, CHART, "--values", tmp_path / "values.json")
    names = {(each["kind"], each["metadata"]["name"]) for each in yaml.safe_load_all(done.stdout) if each}
    assert max(len(name) for kind, name in names if kind == "CronJob") == 52
    assert max(len(name) for _, name in names) <= 63


def test_the_chart_refuses_a_value_that_it_does_not_know(tmp_path: Path) -> None:
    done = helm("template", "crossdock", CHART, "--set", "migration.shard=4")
    assert done.returncode != 0
    assert "shard" in done.stderr


def test_the_chart_has_the_version_of_crossdock() -> None:
    from crossdock import __version__

    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    assert chart["version"] == chart["appVersion"] == __version__
    assert values["image"].endswith(f":{__version__}")
