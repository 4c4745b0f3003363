"""Dependencies: no version with a known hole can be installed, and the locks fit pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "requirements"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
ADVISORIES: dict[str, dict[str, list[dict[str, str]]]] = tomllib.loads(
    (LOCKS / "advisories.toml").read_text("utf-8")
)
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
_LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)


def requirements(*extras: str) -> list[Requirement]:
    texts: list[str] = PROJECT["project"]["dependencies"]
    return [Requirement(each) for each in (*texts, *(each for extra in extras for each in EXTRAS[extra]))]


def locked(extra: str) -> dict[str, set[Version]]:
    """The versions of each package; several where they differ by Python or machine."""
    found: dict[str, set[Version]] = {}
    for name, version in _LOCKED.findall((LOCKS / f"{extra}.txt").read_text("utf-8")):
        found.setdefault(canonicalize_name(name), set()).add(Version(version))
    return found


def least(requirement: Requirement) -> Version:
    """The oldest version that the requirement allows."""
    [bound] = [Version(each.version) for each in requirement.specifier if each.operator in (">=", "==")]
    return bound


@pytest.mark.parametrize(
    "requirement",
    [*requirements(*EXTRAS), *map(Requirement, PROJECT["build-system"]["requires"])],
    ids=str,
)
def test_no_lower_bound_allows_a_version_with_a_known_hole(requirement: Requirement) -> None:
    holes = ADVISORIES["python"].get(canonicalize_name(requirement.name), [])
    assert [hole for hole in holes if least(requirement) < Version(hole["fixed"])] == []


@pytest.mark.parametrize("extra", ["dev", "service"])
def test_no_locked_version_has_a_known_hole(extra: str) -> None:
    versions = locked(extra)
    holes = [
        (name, version, hole["id"])
        for name, known in ADVISORIES["python"].items()
        for version in versions.get(name, ())
        for hole in known
        if version < Version(hole["fixed"])
    ]
    assert holes == []


@pytest.mark.parametrize("extra", ["dev", "service"])
def test_the_lock_fits_the_project(extra: str) -> None:
    versions = locked(extra)
    for each in requirements(extra):
        found = versions.get(canonicalize_name(each.name))
        assert found, f"{each.name} is not locked: run scripts/lock"
        assert all(each.specifier.contains(version) for version in found), f"{each}: run scripts/lock"


@pytest.mark.parametrize("extra", ["dev", "service"])
def test_every_locked_version_has_hashes(extra: str) -> None:
    text = (LOCKS / f"{extra}.txt").read_text("utf-8")
    for package in re.split(r"\n(?=\S)", text.strip()):
        assert "--hash=sha256:" in package, package
    assert "://" not in text  # no index, no direct download


def test_the_tls_engine_is_built_of_nothing_with_a_known_hole() -> None:
    manifest: dict[str, Any] = tomllib.loads((ROOT / "ext/tls/Cargo.toml").read_text("utf-8"))
    pinned = {
        name: Version((value if isinstance(value, str) else value["version"]).removeprefix("="))
        for name, value in manifest["dependencies"].items()
    }
    for name, holes in ADVISORIES["rust"].items():
        assert name in pinned, f"{name} is linked into the engine and not pinned"
        assert all(pinned[name] >= Version(hole["fixed"]) for hole in holes), name


def test_the_container_image_is_built_from_the_lock() -> None:
    text = (ROOT / "deploy/Containerfile").read_text("utf-8")
    assert "--require-hashes --requirement /requirements/service.txt" in text
