"""YAML files that people write, checked against a JSON schema. Every mistake is reported with file and line.

The schema is published. The reader here implements the part of JSON Schema that such files use, and accepts
the same files. So a number or a date where a string is expected needs quotes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from crossdock.errors import Advice, InvalidInput
from crossdock.oci.text import quote

MAX_FILE = 4 << 20  # bytes; ten thousand entries
MOST_MISTAKES = 20  # in one message
MAX_DEPTH = 8  # of nested nodes; the schemas have up to six

_BOOLEANS = {"true": True, "false": False}
_SHOWN_TYPES = {
    "object": "a mapping",
    "array": "a list",
    "string": "a string",
    "boolean": "true or false",
    "integer": "a whole number",
}
_NO_TEXTS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool", "timestamp"))
_INTEGER = re.compile(r"-?[0-9]{1,18}")


class Kind(NamedTuple):
    """A kind of file: its name in messages, where its keys are documented, and its JSON schema."""

    name: str  # "the inventory"
    advice: Advice  # on mistakes in it
    schema: Mapping[str, Any]


class Found(NamedTuple):
    """A value of the document and its line."""

    value: Any
    line: int
    key_line: int = 0


def read_bytes(path: Path, kind: Kind) -> bytes:
    """The bytes of a file of this kind. Raises `InvalidInput`. Blocks."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise InvalidInput(f"{kind.name} {quote(str(path))} cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE:
        raise InvalidInput(f"{kind.name} {quote(str(path))} is over {MAX_FILE} bytes")
    return data


def read_document(data: bytes, place: str, kind: Kind) -> dict[str, Found] | None:
    """The document's members, checked; None for an empty file. `place` names the file in messages.

    Members of mappings and lists are `Found`, scalars are plain. Raises `InvalidInput` with ``file:line`` of
    each mistake.
    """
    root = _compose(data, place, kind.name)
    if root is None:
        return None
    reader = _Reader(place, kind)
    document: dict[str, Found] = reader.read(root, kind.schema, kind.name)
    if reader.mistakes:
        more = len(reader.mistakes) - MOST_MISTAKES
        said = [str(each) for each in reader.mistakes[:MOST_MISTAKES]]
        raise InvalidInput(
            "; ".join(said) + (f"; and {more} more" if more > 0 else ""),
            advice=kind.advice,
        )
    return document


def plain(value: Any) -> Any:
    """The values without their lines."""
    if isinstance(value, Found):
        return plain(value.value)
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else value


def _compose(data: bytes, place: str, name: str) -> Any:
    """The tree of YAML nodes, which know their lines."""
    import yaml  # imported here: without such a file it is not needed

    try:
        text = data.decode("utf-8-sig")
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except UnicodeDecodeError:
        raise InvalidInput(f"{place}: {name} is not UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise InvalidInput(f"{place}{line}: this is not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError):
        raise InvalidInput(f"{place}: {name} is not YAML: control characters, or too deep") from None


class _Reader:
    """Checks nodes against schemas and turns them into plain values with their lines."""

    def __init__(self, place: str, kind: Kind) -> None:
        self._place = place
        self._kind = kind
        self.mistakes: list[InvalidInput] = []  # the value of each is None

    def read(self, node: Any, wanted: Mapping[str, Any], name: str, depth: int = 0) -> Any:
        """The value of `node`: members of mappings and lists as `Found`, scalars as they are."""
        wanted = self._resolved(wanted)
        if depth > MAX_DEPTH:
            raise self._wrong(node, f"{name} is nested too deep")
        kind = wanted.get("type", "string")
        is_kind = {"mapping": "object", "sequence": "array"}.get(node.id, "string")
        if is_kind != ("string" if kind in ("boolean", "integer") else kind):
            raise self._wrong(node, f"{name} must be {_SHOWN_TYPES[kind]}, not {_SHOWN_TYPES[is_kind]}")
        if kind == "object":
            return self._mapping(node, wanted, name, depth)
        if kind == "array":
            if len(node.value) < wanted.get("minItems", 0):
                raise self._wrong(node, f"{name} must not be empty")
            each = wanted["items"]
            return [
                Found(self._member(item, each, f"{name}[{index}]", depth + 1), _line(item))
                for index, item in enumerate(node.value)
            ]
        return self._scalar(node, wanted, name)

    def _member(self, node: Any, wanted: Mapping[str, Any], name: str, depth: int) -> Any:
        """As `read`; a mistake is collected, so that the mistakes of other members are found as well."""
        try:
            return self.read(node, wanted, name, depth)
        except InvalidInput as error:
            self.mistakes.append(error)
            return None

    def _mapping(self, node: Any, wanted: Mapping[str, Any], name: str, depth: int) -> dict[str, Found]:
        found: dict[str, Found] = {}
        properties, others = wanted.get("properties", {}), wanted.get("additionalProperties")
        for key_node, value_node in node.value:
            if key_node.id != "scalar":
                raise self._wrong(key_node, f"a key of {name} must be a string")
            key = key_node.value
            if key in found:
                raise self._wrong(key_node, f"{name} has the key {quote(key)} twice")
            below = properties.get(key, others)
            if not below:
                self.mistakes.append(
                    self._wrong(
                        key_node, f"{name} has an unknown key {quote(key)}; known are {', '.join(properties)}"
                    )
                )
                continue
            if "propertyNames" in wanted:
                self._scalar(key_node, self._resolved(wanted["propertyNames"]), f"a key of {name}")
            shown = key if depth == 0 else f"{name}.{key}"
            value = self._member(value_node, below, shown, depth + 1)
            found[key] = Found(value, _line(value_node), _line(key_node))
        for key in wanted.get("required", ()):
            if key not in found:
                raise self._wrong(node, f"{name} has no {key}")
        if "oneOf" in wanted:
            self._one_of(node, wanted["oneOf"], found, name)
        return found

    def _one_of(
        self, node: Any, ways: list[Mapping[str, Any]], found: Mapping[str, Found], name: str
    ) -> None:
        """The keys must be those of exactly one of the alternatives."""
        if not any(set(way["required"]) == set(found) for way in ways):
            shown = "; or ".join(" and ".join(way["required"]) for way in ways)
            raise self._wrong(node, f"{name} must have {shown}; nothing else besides them")

    def _scalar(self, node: Any, wanted: Mapping[str, Any], name: str) -> str | bool | int:
        text: str = node.value
        if node.tag == "tag:yaml.org,2002:null":
            raise self._wrong(node, f"{name} has no value")
        if wanted.get("type") == "boolean":
            if node.style is not None or text.lower() not in _BOOLEANS:
                raise self._wrong(node, f"{name} must be true or false")
            return _BOOLEANS[text.lower()]
        if wanted.get("type") == "integer":
            return self._integer(node, wanted, name)
        if "enum" in wanted and text not in wanted["enum"]:
            raise self._wrong(node, f"{name} must be {' or '.join(wanted['enum'])}")
        if "pattern" in wanted and not re.search(wanted["pattern"], text):
            form = wanted.get("title", wanted["pattern"])
            raise self._wrong(node, f"{name} is not of the form {form}")
        if node.tag in _NO_TEXTS:
            raise self._wrong(node, f"{name} must be a string: put it in quotes")
        return text

    def _integer(self, node: Any, wanted: Mapping[str, Any], name: str) -> int:
        if node.style is not None or not _INTEGER.fullmatch(node.value):
            raise self._wrong(node, f"{name} must be a whole number")
        number = int(node.value)
        if not wanted["minimum"] <= number <= wanted["maximum"]:
            raise self._wrong(node, f"{name} must be from {wanted['minimum']} to {wanted['maximum']}")
        return number

    def _resolved(self, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        reference = wanted.get("$ref", "")
        if not reference:
            return wanted
        definition: Mapping[str, Any] = self._kind.schema["$defs"][reference.rpartition("/")[2]]
        return definition

    def _wrong(self, node: Any, problem: str) -> InvalidInput:
        return InvalidInput(f"{self._place}:{_line(node)}: {problem}", advice=self._kind.advice)


def _line(node: Any) -> int:
    line: int = node.start_mark.line + 1
    return line
