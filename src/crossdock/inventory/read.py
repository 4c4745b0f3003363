"""An inventory from its YAML file. Whatever is wrong is said with file and line; secrets are not in it.

`schema.json` is what is checked, by a reader of the part of JSON Schema that it uses: the published schema
and the reader cannot differ. YAML's own types play no part: a scalar is a text, unless the schema asks for a
boolean, so that a subscription or a name of digits needs no quotes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from crossdock.errors import InvalidInput
from crossdock.inventory.values import ACR_SUFFIX, Entry, EntryCredentials, Inventory
from crossdock.oci.text import quote

MAX_FILE = 4 << 20  # bytes; ten thousand entries
MAX_DEPTH = 8  # of nested nodes; the schema has four

_BOOLEANS = {"true": True, "false": False}
_SHOWN_TYPES = {"object": "a mapping", "array": "a list", "string": "a text", "boolean": "true or false"}
_PATHS = ("password_file", "token_file")


@cache
def schema() -> dict[str, Any]:
    """The JSON schema of the file."""
    text = (files("crossdock.inventory") / "schema.json").read_text("utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


def read_inventory(path: Path) -> Inventory:
    """The inventory in the file. Relative paths in it start at its folder. Blocks.

    Raises `InvalidInput` with ``file:line`` for what the schema does not allow, for two entries that nothing
    tells apart, and for a file that cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise InvalidInput(f"the inventory {quote(str(path))} cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE:
        raise InvalidInput(f"the inventory {quote(str(path))} is over {MAX_FILE} bytes")
    return parse_inventory(data, str(path), path.parent)


def parse_inventory(data: bytes, place: str, folder: Path) -> Inventory:
    """As `read_inventory`, of bytes; `place` is how messages name the file."""
    root = _compose(data, place)
    if root is None:
        return Inventory(place=place)
    document = _Reader(place).read(root, schema(), "the inventory")
    registries = document["registries"].value if "registries" in document else ()
    entries = tuple(_entry(each.value, f"{place}:{each.line}", folder) for each in registries)
    _check_distinct(entries)
    hosts: dict[str, str] = {}
    for name, served in document["hosts"].value.items() if "hosts" in document else ():
        for text, line in ((name, served.key_line), (served.value, served.line)):
            if not _has_port(text):
                raise InvalidInput(f"{place}:{line}: hosts: {quote(text)} has no port between 1 and 65535")
        if name.lower() in hosts:
            raise InvalidInput(f"{place}:{served.key_line}: hosts: {quote(name)} stands there twice")
        hosts[name.lower()] = served.value
    return Inventory(entries, hosts, place)


class _Found(NamedTuple):
    """A value of the document and where it stands."""

    value: Any
    line: int
    key_line: int = 0


def _compose(data: bytes, place: str) -> Any:
    """The tree of YAML's nodes, which know their lines."""
    import yaml  # here: who has no inventory does not pay for it

    try:
        text = data.decode("utf-8-sig")
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except UnicodeDecodeError:
        raise InvalidInput(f"{place}: the inventory is not UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise InvalidInput(f"{place}{line}: this is not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError):
        raise InvalidInput(f"{place}: the inventory is not YAML: control characters, or too deep") from None


class _Reader:
    """Checks nodes against schemas and turns them into plain values with their lines."""

    def __init__(self, place: str) -> None:
        self._place = place

    def read(self, node: Any, wanted: Mapping[str, Any], name: str, depth: int = 0) -> Any:
        """The value of `node`: members of mappings and lists as `_Found`, scalars as they are."""
        wanted = _resolved(wanted)
        if depth > MAX_DEPTH:
            raise self._wrong(node, f"{name} is nested too deep")
        kind = wanted.get("type", "string")
        is_kind = {"mapping": "object", "sequence": "array"}.get(node.id, "string")
        if is_kind != ("string" if kind == "boolean" else kind):
            raise self._wrong(node, f"{name} must be {_SHOWN_TYPES[kind]}, not {_SHOWN_TYPES[is_kind]}")
        if kind == "object":
            return self._mapping(node, wanted, name, depth)
        if kind == "array":
            each = wanted["items"]
            return [
                _Found(self.read(item, each, f"{name}[{index}]", depth + 1), _line(item))
                for index, item in enumerate(node.value)
            ]
        return self._scalar(node, wanted, name)

    def _mapping(self, node: Any, wanted: Mapping[str, Any], name: str, depth: int) -> dict[str, _Found]:
        found: dict[str, _Found] = {}
        properties, others = wanted.get("properties", {}), wanted.get("additionalProperties")
        for key_node, value_node in node.value:
            if key_node.id != "scalar":
                raise self._wrong(key_node, f"a key of {name} must be a text")
            key = key_node.value
            if key in found:
                raise self._wrong(key_node, f"{name} has the key {quote(key)} twice")
            below = properties.get(key, others)
            if not below:
                raise self._wrong(
                    key_node, f"{name} has an unknown key {quote(key)}; known are {', '.join(properties)}"
                )
            if "propertyNames" in wanted:
                self._scalar(key_node, _resolved(wanted["propertyNames"]), f"a key of {name}")
            shown = key if depth == 0 else f"{name}.{key}"
            value = self.read(value_node, below, shown, depth + 1)
            found[key] = _Found(value, _line(value_node), _line(key_node))
        for key in wanted.get("required", ()):
            if key not in found:
                raise self._wrong(node, f"{name} has no {key}")
        if "oneOf" in wanted:
            self._one_of(node, wanted["oneOf"], found, name)
        if "not" in wanted and found.get("plain_http", _Found(False, 0)).value and "ca" in found:
            raise self._wrong(node, f"{name}: plain HTTP and a CA contradict each other")
        return found

    def _one_of(
        self, node: Any, ways: list[Mapping[str, Any]], found: Mapping[str, _Found], name: str
    ) -> None:
        """The keys must be those of just one of the ways."""
        if not any(set(way["required"]) == set(found) for way in ways):
            shown = "; or ".join(" and ".join(way["required"]) for way in ways)
            raise self._wrong(node, f"{name} must have {shown}; nothing else beside them")

    def _scalar(self, node: Any, wanted: Mapping[str, Any], name: str) -> str | bool:
        text: str = node.value
        if node.tag == "tag:yaml.org,2002:null":
            raise self._wrong(node, f"{name} has no value")
        if wanted.get("type") == "boolean":
            if node.style is not None or text.lower() not in _BOOLEANS:
                raise self._wrong(node, f"{name} must be true or false")
            return _BOOLEANS[text.lower()]
        if "enum" in wanted and text not in wanted["enum"]:
            raise self._wrong(node, f"{name} must be {' or '.join(wanted['enum'])}")
        if "pattern" in wanted and not re.search(wanted["pattern"], text):
            raise self._wrong(node, f"{name} is not of the form {wanted['pattern']}")
        return text

    def _wrong(self, node: Any, problem: str) -> InvalidInput:
        return InvalidInput(
            f"{self._place}:{_line(node)}: {problem}", hint="docs/inventory.md lists the keys"
        )


def _resolved(wanted: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = wanted.get("$ref", "")
    definition: Mapping[str, Any] = schema()["$defs"][reference.rpartition("/")[2]] if reference else wanted
    return definition


def _line(node: Any) -> int:
    line: int = node.start_mark.line + 1
    return line


def _entry(found: Mapping[str, _Found], place: str, folder: Path) -> Entry:
    plain = {key: each.value for key, each in found.items() if key not in ("credentials", "tls")}
    login_server = plain.pop("login_server", f"{plain['name']}{ACR_SUFFIX}").lower()
    if not _has_port(login_server):
        raise InvalidInput(f"{place}: login_server has no port between 1 and 65535")
    tls = {key: each.value for key, each in found["tls"].value.items()} if "tls" in found else {}
    credentials = None
    if "credentials" in found:
        given = {key: each.value for key, each in found["credentials"].value.items()}
        given.update({key: folder / given[key] for key in _PATHS if key in given})
        credentials = EntryCredentials(**given)
    return Entry(
        **plain,
        login_server=login_server,
        credentials=credentials,
        ca_file=folder / tls["ca"] if "ca" in tls else None,
        plain_http=tls.get("plain_http", False),
        place=place,
    )


def _check_distinct(entries: tuple[Entry, ...]) -> None:
    known: dict[tuple[str, ...], Entry] = {}
    for entry in entries:
        key = tuple(_distinguishing(entry))
        if key in known:
            raise InvalidInput(
                f"{entry.place}: registry {entry.name} is the one of {known[key].place} again",
                hint="entries of one name differ in subscription or resource_group",
            )
        known[key] = entry


def _distinguishing(entry: Entry) -> Iterator[str]:
    for text in (entry.name, entry.subscription, entry.resource_group):
        yield text.lower()


def _has_port(text: str) -> bool:
    """Whether the port of ``host[:port]``, if there is one, can be one."""
    _, colon, port = text.rpartition(":")
    return not colon or text.endswith("]") or 0 < int(port) < 1 << 16
