"""The inventory's YAML file, checked against `schema.json` (see `crossdock.yamlfile`). It has no secrets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from crossdock.errors import Advice, InvalidInput, InvalidOption
from crossdock.inventory.values import ACR_SUFFIX, Entry, EntryCredentials, Inventory, place_key
from crossdock.oci.text import quote
from crossdock.options import ChunkLimits, CreateOptions
from crossdock.units import parse_size
from crossdock.yamlfile import Found, Kind, plain, read_bytes, read_document

_ROOMS = ("credentials", "tls", "create")  # whose values are objects
_VALUES = ("upload", "limits", "mounts", "referrers", "lists", "ranges", "head")  # of a kind of registry
_SIZES = ("chunk", "min_chunk", "max_chunk", "chunk_multiple")
_PATHS = ("password_file", "token_file")
_DOCS = Advice("read-docs", "docs/inventory.md lists the keys")


@cache
def schema() -> dict[str, Any]:
    """The JSON schema of the file."""
    text = (files("crossdock.inventory") / "schema.json").read_text("utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


def read_inventory(path: Path) -> Inventory:
    """The inventory in the file. Relative paths in it are relative to its folder. Blocks.

    Raises `InvalidInput` with ``file:line`` for what the schema does not permit, for two entries that cannot
    be told apart, and for a file that cannot be read.
    """
    return parse_inventory(read_bytes(path, _kind()), str(path), path.parent)


def parse_inventory(data: bytes, place: str, folder: Path) -> Inventory:
    """As `read_inventory`, from bytes; `place` names the file in messages."""
    document = read_document(data, place, _kind())
    if document is None:
        return Inventory(place=place)
    registries = document["registries"].value if "registries" in document else ()
    entries = tuple(_entry(each.value, f"{place}:{each.line}", folder) for each in registries)
    _check_distinct(entries)
    hosts: dict[str, str] = {}
    for name, served in document["hosts"].value.items() if "hosts" in document else ():
        if place_key(name) in hosts:
            raise InvalidInput(f"{place}:{served.key_line}: hosts: {quote(name)} is listed twice")
        hosts[place_key(name)] = served.value
    kinds = {
        name: _kind_values(found.value, f"{place}:{found.key_line}: kind {name}")
        for name, found in (document["kinds"].value.items() if "kinds" in document else ())
    }
    return Inventory(entries, hosts, place, kinds)


def _kind() -> Kind:
    return Kind("the inventory", _DOCS, schema())


def _entry(found: Mapping[str, Found], place: str, folder: Path) -> Entry:
    texts = {key: each.value for key, each in found.items() if key not in (*_ROOMS, *_VALUES)}
    login_server = texts.pop("login_server", f"{texts['name']}{ACR_SUFFIX}").lower()
    tls = {key: each.value for key, each in found["tls"].value.items()} if "tls" in found else {}
    if tls.get("plain_http") and "ca" in tls:
        at = f"{place.rpartition(':')[0]}:{found['tls'].line}"
        raise InvalidInput(
            f"{at}: registry {texts['name']}: plain HTTP and a CA contradict each other",
            advice=_DOCS,
        )
    credentials = None
    if "credentials" in found:
        given = {key: each.value for key, each in found["credentials"].value.items()}
        given.update({key: folder / given[key] for key in _PATHS if key in given})
        credentials = EntryCredentials(**given)
    return Entry(
        **texts,
        login_server=login_server,
        credentials=credentials,
        ca_file=folder / tls["ca"] if "ca" in tls else None,
        plain_http=tls.get("plain_http", False),
        create=_create_options(found),
        values=tuple(_kind_values({key: found[key] for key in _VALUES if key in found}, place).items()),
        place=place,
    )


def _create_options(found: Mapping[str, Found]) -> CreateOptions | None:
    if "create" not in found:
        return None
    return CreateOptions(**{key: each.value for key, each in found["create"].value.items()})


def _kind_values(found: Mapping[str, Found], place: str) -> dict[str, Any]:
    """Values of a kind of registry by their names, such as ``upload.chunk``, checked."""
    values: dict[str, Any] = {}
    for key, each in found.items():
        value = plain(each)
        if isinstance(value, dict):
            values |= {f"{key}.{name}": below for name, below in value.items()}
        else:
            values[key] = value
    if not all(values.get("answers", ())):
        raise InvalidInput(
            f"{place}: answers: an entry without a header matches every registry", advice=_DOCS
        )
    given = {name: values[f"upload.{name}"] for name in _SIZES if f"upload.{name}" in values}
    if "chunk" in given and len(given) > 1:
        raise InvalidInput(f"{place}: upload: chunk is exact: give it alone, or the limits", advice=_DOCS)
    try:
        ChunkLimits(
            least=parse_size(given.get("min_chunk", "0")),
            most=parse_size(given["max_chunk"]) if "max_chunk" in given else None,
            multiple=parse_size(given.get("chunk_multiple", "1")),
        )
    except (InvalidOption, ValueError) as error:
        raise InvalidInput(f"{place}: upload: {error}", advice=getattr(error, "advice", None)) from None
    return values


def _check_distinct(entries: tuple[Entry, ...]) -> None:
    known: dict[tuple[str, ...], Entry] = {}
    for entry in entries:
        key = tuple(_distinguishing(entry))
        if key in known:
            raise InvalidInput(
                f"{entry.place}: registry {entry.name} is the same as that of {known[key].place}",
                advice=Advice(
                    "correct-file", "entries with the same name must differ in subscription or resource_group"
                ),
            )
        known[key] = entry


def _distinguishing(entry: Entry) -> Iterator[str]:
    for text in (entry.name, entry.subscription, entry.resource_group):
        yield text.lower()
