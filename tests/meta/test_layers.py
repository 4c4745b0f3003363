"""Who may import whom. The table is the architecture; a change here is a design decision."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"
ROOT = "crossdock"

# Layers from the bottom up. `cli.main` imports lazily, which this test sees like any other import.
MAY_IMPORT: dict[str, set[str]] = {
    "advice": set(),
    "frozen": set(),
    "errors": {"advice"},
    "options": {"frozen", "errors"},
    "events": set(),
    "oci": {"frozen", "errors"},
    "activity": {"errors"},
    "_ext": set(),
    "_kernels": {"_ext"},
    "_tls": set(),
    "content": {"oci", "errors"},
    "bodies": {"content", "errors"},
    "reading": {"oci"},
    "verify": {"_kernels", "oci", "errors"},
    "locks": set(),
    "descriptors": set(),
    "stopping": set(),
    "rate": set(),
    "limits": {"activity", "rate", "oci", "options"},
    "units": {"errors"},
    "outfile": set(),
    "imagebuilder": set(),
    "listening": {"stopping", "errors"},
    "webpage": set(),
    "steps": {"errors"},
    "tasks": set(),
    "tally": {"oci", "events", "errors"},
    "kept": {"_kernels", "locks", "errors"},
    "redact": set(),
    "url": {"redact", "errors"},
    "protocol": {"url", "oci", "errors"},
    "transport": {"activity", "url", "redact", "descriptors", "_tls", "errors", "options"},
    "registry": {
        "units",
        "limits",
        "tasks",
        "activity",
        "url",
        "redact",
        "descriptors",
        "protocol",
        "transport",
        "content",
        "reading",
        "verify",
        "oci",
        "options",
        "errors",
    },
    "store": {"tasks", "bodies", "content", "verify", "oci", "options", "errors"},
    "transfer": {
        "limits",
        "steps",
        "tally",
        "tasks",
        "kept",
        "bodies",
        "descriptors",
        "content",
        "reading",
        "verify",
        "_kernels",
        "oci",
        "options",
        "events",
        "errors",
    },
    "webtokens": {"errors"},
    "embedded": {
        "__init__",
        "units",
        "webpage",
        "tasks",
        "webtokens",
        "protocol",
        "listening",
        "rate",
        "store",
        "verify",
        "oci",
        "errors",
    },
    "runs": {
        "limits",
        "activity",
        "frozen",
        "descriptors",
        "steps",
        "tally",
        "tasks",
        "kept",
        "transfer",
        "registry",
        "store",
        "content",
        "reading",
        "oci",
        "options",
        "events",
        "errors",
        "__init__",
    },
    "mirroring": {
        "runs",
        "units",
        "steps",
        "tally",
        "tasks",
        "content",
        "oci",
        "options",
        "events",
        "errors",
    },
    "session": {
        "activity",
        "descriptors",
        "mirroring",
        "runs",
        "tasks",
        "oci",
        "options",
        "events",
        "errors",
    },
    "api": {"session", "mirroring", "runs", "oci", "options", "events", "errors"},
    "yamlfile": {"oci", "errors"},
    "inventory": {"yamlfile", "units", "oci", "options", "errors"},
    "probing": {
        "runs",
        "registry",
        "kept",
        "inventory",
        "outfile",
        "protocol",
        "url",
        "tasks",
        "units",
        "oci",
        "options",
        "errors",
    },
    "migration": {
        "outfile",
        "steps",
        "tally",
        "tasks",
        "session",
        "mirroring",
        "runs",
        "inventory",
        "yamlfile",
        "units",
        "kept",
        "locks",
        "reading",
        "verify",
        "content",
        "oci",
        "options",
        "events",
        "errors",
        "__init__",
    },
    "acr": {
        "reading",
        "runs",
        "session",
        "inventory",
        "steps",
        "tally",
        "tasks",
        "protocol",
        "content",
        "oci",
        "options",
        "events",
        "errors",
    },
    "service": {
        "acr",
        "session",
        "runs",
        "locks",
        "webtokens",
        "inventory",
        "kept",
        "yamlfile",
        "listening",
        "webpage",
        "rate",
        "units",
        "tasks",
        "protocol",
        "oci",
        "options",
        "events",
        "errors",
        "__init__",
    },
    "clusters": {
        "activity",
        "migration",
        "mirroring",
        "runs",
        "transfer",
        "kept",
        "limits",
        "locks",
        "protocol",
        "rate",
        "tally",
        "tasks",
        "units",
        "oci",
        "options",
        "events",
        "errors",
        "__init__",
    },
    "loggingin": {"runs", "registry", "steps", "oci", "options", "errors"},
    "cli": {
        "clusters",
        "probing",
        "outfile",
        "migration",
        "descriptors",
        "runs",
        "session",
        "mirroring",
        "loggingin",
        "api",
        "acr",
        "service",
        "embedded",
        "inventory",
        "listening",
        "stopping",
        "kept",
        "units",
        "imagebuilder",
        "oci",
        "options",
        "events",
        "errors",
        "_kernels",
        "_tls",
        "__init__",
    },
    "__init__": {
        "session",
        "runs",
        "bodies",
        "content",
        "mirroring",
        "api",
        "errors",
        "events",
        "options",
        "oci",
    },
    "__main__": {"cli"},
}

# asyncio belongs to the layers that wait; os.environ to the edges that a person touches.
MAY_USE_ASYNCIO = {
    "probing",
    "clusters",
    "migration",
    "bodies",
    "reading",
    "transport",
    "registry",
    "store",
    "transfer",
    "webtokens",
    "embedded",
    "listening",
    "stopping",
    "tasks",
    "limits",
    "runs",
    "session",
    "api",
    "mirroring",
    "service",
    "cli",
}
MAY_READ_ENVIRONMENT = {"runs", "loggingin", "cli", "_kernels", "_tls", "transport"}

MODULES = sorted((SRC / ROOT).rglob("*.py"))


def layer_of(path: Path) -> str:
    return path.relative_to(SRC / ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Absolute dotted names that the file imports, relative ones resolved."""
    package = (ROOT, *path.relative_to(SRC / ROOT).parts[:-1])
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join((*base, *filter(None, [node.module])))
            found |= {f"{stem}.{alias.name}" for alias in node.names}
    return found


def imported_layers(path: Path) -> set[str]:
    layers = set()
    for name in imports(path):
        if name.split(".")[0] == ROOT:
            parts = name.split(".")
            layers.add(parts[1] if len(parts) > 1 and parts[1] in MAY_IMPORT else "__init__")
    return layers


def test_the_tree_is_seen() -> None:
    assert len(MODULES) > 5


def test_the_table_has_no_cycle_but_the_package_itself() -> None:
    order: list[str] = []
    pending = {layer: below - {"__init__"} for layer, below in MAY_IMPORT.items() if layer != "__init__"}
    while pending:
        free = sorted(layer for layer, below in pending.items() if below <= set(order))
        assert free, f"import cycle among {sorted(pending)}"
        order += free
        for layer in free:
            del pending[layer]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SRC)))
def test_imports_respect_layers(path: Path) -> None:
    layer = layer_of(path)
    assert layer in MAY_IMPORT, f"{path} is in no layer of the table"
    illegal = imported_layers(path) - MAY_IMPORT[layer] - {layer}
    assert not illegal, f"{layer} must not import {sorted(illegal)}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SRC)))
def test_asyncio_and_environment_stay_in_their_layers(path: Path) -> None:
    layer = layer_of(path)
    if layer not in MAY_USE_ASYNCIO:
        assert not any(name.split(".")[0] == "asyncio" for name in imports(path))
    if layer not in MAY_READ_ENVIRONMENT:
        source = path.read_text()
        assert "os.environ" not in source, f"{layer} must not read the environment"
        assert "getenv" not in source, f"{layer} must not read the environment"


def test_kernels_import_nothing_of_crossdock() -> None:
    for pyx in (SRC.parent / "ext").rglob("*.p[yx][xd]"):
        for line in pyx.read_text().splitlines():
            if line.startswith(("import ", "from ", "cimport ")) and ROOT in line:
                assert "crossdock._ext" in line, f"{pyx.name}: {line}"
