"""``crossdock registries``: the table, a registry's values with their origin, and what was learned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crossdock.cli.command import run
from crossdock.kept.hosts import HostFacts
from crossdock.registry.kinds import Kinds


def document(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    assert run(["registries", *map(str, words), "--output", "json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def learn(state: Path, host: str, **facts: object) -> None:
    kept = HostFacts(state)
    for name, value in facts.items():
        kept.learned(host, name, value)
    kept.write(host)


def test_a_registry_shows_its_values_and_what_was_learned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inventory = tmp_path / "i.yaml"
    inventory.write_text("registries: [{name: hub, login_server: ghcr.io, limits: {blob: 20GiB}}]")
    learn(tmp_path, "ghcr.io", chunks=False)
    learn(tmp_path, "r.example:5000", kind="harbor", max_put=1 << 20)
    words = ("--state", tmp_path, "--inventory", inventory)
    ghcr = document(capsys, "hub", *words)
    assert (ghcr["registry"], ghcr["kind"], ghcr["known_by"]) == ("ghcr.io", "ghcr", "host")
    assert ghcr["values"]["limits.blob"] == {"value": "20GiB", "source": "inventory"}
    assert ghcr["values"]["upload.chunks"]["source"].startswith("https://")
    assert ghcr["learned"]["chunks"]["value"] is False
    other = document(capsys, "r.example:5000", *words)
    assert (other["kind"], other["known_by"]) == ("harbor", "responses")
    assert document(capsys, "ecr.example", *words)["kind"] == "unknown"
    everything = document(capsys, *words)
    assert [each["registry"] for each in everything["registries"]] == ["ghcr.io", "r.example:5000"]
    assert everything["kinds"]["ecr-public"]["like"] == "ecr"
    assert run(["registries", "r.example:5000", *map(str, words)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("r.example:5000 is harbor (Harbor), by its responses\n")
    assert "max_put" in shown
    assert document(capsys, "r.example:5000", "--forget", *words)["learned"] == {}


def test_a_value_of_the_inventory_is_shown_for_the_kinds_that_are_like_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inventory = tmp_path / "i.yaml"
    inventory.write_text("kinds: {ecr: {limits: {blob: 5GiB}}}")
    shown = document(capsys, "public.ecr.aws", "--inventory", inventory)
    assert Kinds({"ecr": {"limits.blob": "5GiB"}}).named("ecr-public").limits.blob == 5 << 30
    assert shown["values"]["limits.blob"] == {"value": "5GiB", "source": "inventory"}
    assert shown["values"]["lists"]["source"].startswith("https://")


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["registries", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out)["$id"] == "urn:crossdock:kinds:1"
