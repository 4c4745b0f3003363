"""The public surface: a stored list, and a docstring for everything that carries a public name."""

from __future__ import annotations

import ast
import importlib
import inspect
import operator
from collections.abc import Iterator
from pathlib import Path

import pytest

import crossdock

SRC = Path(crossdock.__file__).parent

# What `from crossdock import …` gives. A name that goes, or changes its meaning, breaks other people's code.
PUBLIC = {
    "BlobSource",
    "Body",
    "ByteSink",
    "BytesBlob",
    "Advice",
    "CopyError",
    "CopyOptions",
    "CopyResult",
    "Credentials",
    "CrossdockError",
    "Descriptor",
    "Digest",
    "Event",
    "HostLimits",
    "Inspection",
    "ManyResult",
    "MirrorResult",
    "NetworkOptions",
    "PairResult",
    "Reference",
    "RegistryOptions",
    "Run",
    "RunEvent",
    "Session",
    "Source",
    "StreamBlob",
    "Target",
    "TargetResult",
    "TargetsResult",
    "Totals",
    "UploadSession",
    "copy",
    "copy_many",
    "copy_many_sync",
    "copy_sync",
    "inspect",
    "list_tags",
    "mirror",
    "mirror_sync",
}
Function = ast.FunctionDef | ast.AsyncFunctionDef
MODULES = sorted(path for path in SRC.rglob("*.py") if "_ext" not in path.parts)


def test_the_public_names_are_the_stored_ones() -> None:
    assert set(crossdock.__all__) == PUBLIC
    assert len(crossdock.__all__) == len(PUBLIC)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_each_public_name_loads_and_is_documented(name: str) -> None:
    value = getattr(crossdock, name)
    assert inspect.getdoc(value)
    assert value.__module__.startswith("crossdock.")


def test_other_names_do_not_exist() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        crossdock.nonsense  # noqa: B018


def undocumented(path: Path) -> Iterator[str]:
    """Public classes, functions and methods without docstring, except overrides of documented methods."""
    tree = ast.parse(path.read_text("utf-8"))
    if not ast.get_docstring(tree):
        yield "the module"
    parts = ("crossdock", *path.relative_to(SRC).with_suffix("").parts)
    module = importlib.import_module(".".join(part for part in parts if part != "__init__"))
    for name in named(tree.body, ""):
        if not inspect.getdoc(operator.attrgetter(name)(module)):
            yield name


def named(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    """The names of the public classes and functions of `body`, and of the members of its classes."""
    for node in body:
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
            yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from named(node.body, f"{node.name}.")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SRC)))
def test_everything_public_is_documented(path: Path) -> None:
    assert list(undocumented(path)) == []
