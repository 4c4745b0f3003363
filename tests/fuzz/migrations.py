"""Targets for migration files and the files of other tools that are made into them.

What a target is, `wire` says.
"""

from __future__ import annotations

import re
from pathlib import Path

from crossdock.errors import InvalidInput
from crossdock.migration.file import parse_migration
from crossdock.migration.foreign import Tool, translate
from crossdock.mirroring.versions import Range, Version


def migration(data: bytes) -> None:
    """A migration file: every mistake has its line, and what is read can be read again."""
    try:
        found = parse_migration(data, "FILE", Path("/"), environ={"A": "a.example"})
    except InvalidInput as error:
        assert str(error).startswith("FILE:")
        return
    for entry in found.entries:
        for name in ("a", "a/b", "lib-x"):
            entry.target_name(name)
            entry.repositories.wants(name)
        if not entry.tags.needs_times:
            chosen = entry.tags.choose(dict.fromkeys(("latest", "v1.2", "1.2.3-rc.1")), 0.0)
            assert len(chosen) <= 3


def foreign(data: bytes) -> None:
    """Files of regsync and skopeo: what is made of them is a file of ours, unless it says that it is none."""
    tools: tuple[Tool, ...] = ("regsync", "skopeo")
    for tool in tools:
        try:
            made = translate(tool, data, "FILE")
        except InvalidInput as error:
            assert str(error).startswith("FILE")
            continue
        assert "sesame" not in made.text
        if not any("refused as it is" in note for note in made.notes):
            text = re.sub(r"(?<!\$)\$\{\w+\}", "v.example", made.text)
            parse_migration(text.encode(), "FILE", Path("/"))


def versions(data: bytes) -> None:
    """A range, and a version after a line end: a release that is in one is in it without its build."""
    text, _, tag = data.decode("utf-8", "replace").partition("\n")
    version = Version.find(tag)
    assert version is None or version == Version.find(f"{tag.partition('_')[0].partition('+')[0]}_5")
    try:
        found = Range.parse(text)
    except InvalidInput:
        return
    if version is not None:
        assert found.admits(version) in (True, False)
        assert Range.parse(f"{text} || 0.0.0").admits(Version((0, 0, 0)))
