"""Documents, queries and formats, which az's own formatters and ours print alike."""

from __future__ import annotations

from typing import Any

TAGS: list[dict[str, Any]] = [
    {
        "name": "v1",
        "digest": "sha256:a",
        "createdTime": "2024-01-01T00:00:00Z",
        "signed": False,
        "changeableAttributes": {"writeEnabled": True},
        "quarantine": None,
        "id": "not in tables",
    },
    {"name": "v22222222", "digest": "sha256:bb", "size": 12},
]

DOCUMENTS: list[tuple[Any, str | None]] = [
    (TAGS, None),
    (TAGS, "[].{tag: name, digest: digest}"),
    (TAGS, "[].{tag: name, locks: changeableAttributes}"),
    (TAGS, "[].[name, signed, quarantine, changeableAttributes, size]"),
    (TAGS, "[].[changeableAttributes]"),
    (TAGS, "[].signed"),
    (TAGS, "[].name"),
    (TAGS, "[0]"),
    (TAGS, "[0].name"),
    (TAGS, "[0].changeableAttributes"),
    (TAGS, "[0].changeableAttributes.writeEnabled"),
    (TAGS, "[0].quarantine"),
    (TAGS, "[?name=='v3']"),
    (TAGS, "[?name=='v3'] | [0]"),
    (TAGS, "[?name=='v3'].digest | [0]"),
    (TAGS, "contains([].name, 'v1')"),
    (TAGS, "length(@)"),
    (TAGS, "max_by(@, &name).name"),
    ([], None),
    ({}, None),
    ([{}], None),
    ([[]], None),
    ([["a"], []], None),
    ([["a", ["x", "y"], {"k": 1}], ["b"]], None),
    ([[[1, 2], [3]], [{}]], None),
    ([[1, True], ["x", None]], None),
    ([None, True, "x", 1.5], None),
    (["x", ["y"], {"z": 1}], None),
    ([{"a": 1, "c": 2}, {"b": 3, "a": 4}], None),
    ([{"a": ""}], None),
    ([{"": 1}], None),
    ({"a": {"b": 1}}, None),
    ([{"a": "1e5", "b": "-1", "c": "0x1"}], None),
    ([{"a": "ümläut", "b": "漢字"}], None),
    (True, None),
    ("", None),
    ("v1", None),
    (None, None),
    (17, None),
]
"""A document, and the query."""

FORMATS = ("json", "jsonc", "yaml", "yamlc", "table", "tsv", "none")
