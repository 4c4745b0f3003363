"""YAML files that people write, checked against a JSON schema. Every mistake is reported with file and line.

The schema is published. The reader here implements the part of JSON Schema that such files use, and accepts
the same files. So a number or a date where a string is expected needs quotes, unless the schema takes both:
then the value is the text as it is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
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
    "number": "a number",
}
_WORDS = frozenset({"a", "an", "hours"})  # that a title of the schema may begin with
_TAG = "tag:yaml.org,2002:"
_NO_TEXTS = {  # of YAML 1.1, and the types of JSON Schema that are written so; dates have a pattern
    f"{_TAG}int": frozenset({"integer", "number"}),
    f"{_TAG}float": frozenset({"number"}),
    f"{_TAG}bool": frozenset({"boolean"}),
    f"{_TAG}timestamp": frozenset({"pattern"}),
}
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_NUMBER = re.compile(r"-?([0-9]{1,18}(\.[0-9]{0,18})?|\.[0-9]{1,18})")


class Kind(NamedTuple):
    """A kind of file: its name in messages, where its keys are documented, and its JSON schema."""

    name: str  # "the inventory"
    advice: Advice  # on mistakes in it
    schema: Mapping[str, Any]
    shows_columns: bool = False  # in messages, behind the line
    replace: Callable[[str], str] = str  # each scalar value by what it stands for; may raise `InvalidInput`


class Found(NamedTuple):
    """A value of the document, and where it is."""

    value: Any
    line: int
    key_line: int = 0
    column: int = 0


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
    root = _compose(data, place, kind)
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


def _compose(data: bytes, place: str, kind: Kind) -> Any:
    """The tree of YAML nodes, which know their lines."""
    import yaml  # imported here: without such a file it is not needed

    try:
        text = data.decode("utf-8-sig")
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except UnicodeDecodeError:
        raise InvalidInput(f"{place}: {kind.name} is not UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f":{mark.line + 1}" if mark else ""
        if mark and kind.shows_columns:
            at += f":{mark.column + 1}"
        if error.problem == "but found another document":
            raise InvalidInput(f"{place}{at}: {kind.name} has a second document; one is read") from None
        raise InvalidInput(f"{place}{at}: this is not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError):
        raise InvalidInput(f"{place}: {kind.name} is not YAML: control characters, or too deep") from None


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
        if node.tag == f"{_TAG}null" and kind in ("object", "array"):
            raise self._wrong(node, f"{name} has no value")
        if is_kind != (kind if kind in ("object", "array") else "string"):
            shown = _SHOWN_TYPES["string" if isinstance(kind, list) else kind]
            raise self._wrong(node, f"{name} must be {shown}, not {_SHOWN_TYPES[is_kind]}")
        if kind == "object":
            return self._mapping(node, wanted, name, depth)
        if kind == "array":
            if len(node.value) < wanted.get("minItems", 0):
                raise self._wrong(node, f"{name} must not be empty")
            each = wanted["items"]
            return [
                Found(self._member(item, each, f"{name}[{index}]", depth + 1), _line(item), 0, _column(item))
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
                self._text(key_node, key, self._resolved(wanted["propertyNames"]), f"a key of {name}")
            shown = key if depth == 0 else f"{name}.{key}"
            value = self._member(value_node, below, shown, depth + 1)
            found[key] = Found(value, _line(value_node), _line(key_node), _column(value_node))
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

    def _scalar(self, node: Any, wanted: Mapping[str, Any], name: str) -> str | bool | int | float:
        kind = wanted.get("type", "string")
        if node.tag == f"{_TAG}null":
            raise self._wrong(node, f"{name} has no value")
        try:
            text = self._kind.replace(node.value)
        except InvalidInput as error:
            raise self._wrong(node, f"{name}: {error}", error.advice) from None
        if "enum" in wanted:
            return self._one_value(node, text, wanted["enum"], name)
        if kind == "boolean":
            if node.style is not None or text.lower() not in _BOOLEANS:
                raise self._wrong(node, f"{name} must be true or false")
            return _BOOLEANS[text.lower()]
        if kind in ("integer", "number"):
            return self._number(node, text, wanted, name)
        return self._text(node, text, wanted, name)

    def _text(self, node: Any, text: str, wanted: Mapping[str, Any], name: str) -> str:
        kind = wanted.get("type", "string")
        if len(text) < wanted.get("minLength", 0):
            raise self._wrong(node, f"{name} must not be empty")
        if "pattern" in wanted and not re.search(wanted["pattern"], text):
            form = wanted.get("title", wanted["pattern"])
            words = form.split()  # a title that is a sentence's part, or an example
            said = f"must be {form}" if words[0] in _WORDS else f"is not of the form {form}"
            raise self._wrong(node, f"{name} {said}")
        kinds = {*([kind] if isinstance(kind, str) else kind), *(["pattern"] if "pattern" in wanted else [])}
        if kinds.isdisjoint(_NO_TEXTS.get(node.tag, kinds)):
            raise self._wrong(node, f"{name} must be a string: put it in quotes")
        if node.tag == f"{_TAG}int" and "minimum" in wanted:
            self._number(node, text, wanted, name)
        return text

    def _one_value(self, node: Any, text: str, values: list[Any], name: str) -> str | bool | int:
        """The one of `values` that the text means; values other than strings are written without quotes."""
        for each in values:
            is_text = isinstance(each, str)
            if text == each or (node.style is None and not is_text and text.lower() == str(each).lower()):
                found: str | bool | int = each
                return found
        shown = dict.fromkeys(str(each).lower() if isinstance(each, bool) else str(each) for each in values)
        raise self._wrong(node, f"{name} must be {' or '.join(shown)}")

    def _number(self, node: Any, text: str, wanted: Mapping[str, Any], name: str) -> int | float:
        is_whole = wanted["type"] != "number"
        is_quoted = node.style is not None and text == node.value  # that of a variable may be
        if is_quoted or not (_INTEGER if is_whole else _NUMBER).fullmatch(text):
            raise self._wrong(node, f"{name} must be {_SHOWN_TYPES['integer' if is_whole else 'number']}")
        number = int(text) if is_whole else float(text)
        above = wanted.get("exclusiveMinimum")
        least, most = wanted.get("minimum", above), wanted["maximum"]
        if not least <= number <= most or number == above:
            shown = f"above {least} and at most {most}" if above is not None else f"from {least} to {most}"
            raise self._wrong(node, f"{name} must be {shown}")
        return number

    def _resolved(self, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        reference = wanted.get("$ref", "")
        if not reference:
            return wanted
        definition: Mapping[str, Any] = self._kind.schema["$defs"][reference.rpartition("/")[2]]
        return definition

    def _wrong(self, node: Any, problem: str, advice: Advice | None = None) -> InvalidInput:
        column = f":{_column(node)}" if self._kind.shows_columns else ""
        at = f"{self._place}:{_line(node)}{column}"
        return InvalidInput(f"{at}: {problem}", advice=advice or self._kind.advice)


def _line(node: Any) -> int:
    line: int = node.start_mark.line + 1
    return line


def _column(node: Any) -> int:
    column: int = node.start_mark.column + 1
    return column
