"""A registry that was probed, as an entry of an inventory file. The rest of the file stays as it is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from crossdock.errors import Advice, InvalidInput, StoreError
from crossdock.inventory.read import parse_inventory, read_inventory
from crossdock.outfile import OutFile
from crossdock.probing.probe import Probed
from crossdock.registry.kinds import UNKNOWN


def check_new(path: Path, registry: str) -> None:
    """Raise `InvalidInput` for a file that cannot be read as an inventory, or has the registry. Blocks."""
    if path.exists() and not path.is_file():  # a device must not be replaced
        raise InvalidInput(f"{path} is not a file", advice=Advice("correct-file", "name an inventory file"))
    if path.exists() and read_inventory(path).served_by(registry):
        raise InvalidInput(
            f"{path} has an entry for {registry} already",
            advice=Advice("correct-file", "remove that entry, or correct it by hand"),
        )


def save(path: Path, found: Probed) -> None:
    """Add the registry to the file, which is made if it is missing. Blocks.

    Raises `InvalidInput` as `check_new`, `StoreError` if it cannot be written.
    """
    check_new(path, found.registry)
    try:
        text = path.read_text("utf-8") if path.exists() else ""
        added = _added(text, entry_of(found))
        parse_inventory(added.encode(), str(path), path.parent)
        file = OutFile(path)
        try:
            file.write(added)
            file.finish()
        finally:
            file.discard()
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from None


def entry_of(found: Probed) -> dict[str, Any]:
    """The entry: its kind, and the values that were found and differ from the kind's."""
    entry: dict[str, Any] = {
        "name": re.sub(r"[^A-Za-z0-9._-]+", "-", found.registry).strip("-._"),
        "login_server": found.registry,
    }
    if found.is_plain:
        entry["tls"] = {"plain_http": True}
    kind = found.kind
    if kind.name != UNKNOWN:
        entry["kind"] = kind.name
    if found.blobs.ranges not in (None, kind.ranges):
        entry["ranges"] = found.blobs.ranges
    if found.written is not None:
        entry |= _written(found)
    return entry


def _written(found: Probed) -> dict[str, Any]:
    assert found.written is not None
    values: dict[str, Any] = {}
    kind, uploads = found.kind, found.written.uploads
    upload: dict[str, Any] = {}
    if not uploads["single"]:
        upload["put"] = False
    if uploads["chunks"] != kind.upload.chunks:
        upload["chunks"] = uploads["chunks"]
    if uploads["chunks"] and kind.upload.chunks:
        if (uploads["chunk_min"] or 0) > kind.upload.min_chunk:
            upload["min_chunk"] = str(uploads["chunk_min"])
        most = uploads["chunk_max"]
        if most is not None and (kind.upload.max_chunk is None or most < kind.upload.max_chunk):
            upload["max_chunk"] = str(most)
    if upload:
        values["upload"] = upload
    if found.written.mount != kind.mounts:
        values["mounts"] = found.written.mount
    if found.written.referrers != kind.referrers:
        values["referrers"] = found.written.referrers
    return values


def _added(text: str, entry: dict[str, Any]) -> str:
    """The file's text with the entry at the end of its registries. JSON is YAML."""
    import yaml

    item = json.dumps(entry)
    root = yaml.compose(text, Loader=yaml.SafeLoader) if text.strip() else None
    lists = [value for key, value in root.value if key.value == "registries"] if root is not None else []
    if not lists:
        if root is not None and root.flow_style:
            end = root.end_mark.index - 1
            comma = ", " if root.value else ""
            return f'{text[:end].rstrip()}{comma}"registries": [{item}]{text[end:]}'
        return f"{text.rstrip()}\n" * bool(text.strip()) + f"registries:\n  - {item}\n"
    listed = lists[0]
    if listed.flow_style:
        end = listed.end_mark.index - 1
        return f"{text[:end].rstrip()}{', ' if listed.value else ''}{item}{text[end:]}"
    last = listed.value[-1]
    column = listed.start_mark.column
    end = last.end_mark.index
    body = text[:end].rstrip()
    return f"{body}\n{' ' * column}- {item}\n{text[len(body) :].lstrip(chr(10))}"
