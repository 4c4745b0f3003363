"""The output of `crossdock acr`, compared with that of az 2.91. `tests/az/test_output.py` runs az itself."""

from __future__ import annotations

from typing import Any

import pytest

from crossdock.cli.commands.acr.output import check_query, render
from crossdock.errors import InvalidOption
from support.azformats import DOCUMENTS, FORMATS, TAGS

NOTHING = None


@pytest.mark.parametrize(
    ("query", "output", "expected"),
    [
        ("contains([].name, 'v1')", "tsv", "true"),
        ("contains([].name, 'v3')", "tsv", "false"),
        ("[].signed", "tsv", "false"),
        ("[0].[name, signed]", "tsv", "v1\nfalse"),
        ("[].[name, signed, size]", "tsv", "v1\tFalse\tNone\nv22222222\tNone\t12"),
        ("[].[name, [name, digest], changeableAttributes]", "tsv", "v1\t2\t\nv22222222\t2\tNone"),
        ("[].{tag: name, digest: digest}", "tsv", "v1\tsha256:a\nv22222222\tsha256:bb"),
        ("[1]", "tsv", "sha256:bb\tv22222222\t12"),
        ("[?name=='v3']", "tsv", NOTHING),
        ("[?name=='v3']", "json", "[]"),
        ("[?name=='v3']", "table", ""),
        ("[?name=='v3'] | [0]", "json", NOTHING),
        ("[?name=='v3'] | [0]", "table", NOTHING),
        ("[0].quarantine", "yaml", NOTHING),
        ("[0]", "none", NOTHING),
        ("[1]", "json", '{\n  "digest": "sha256:bb",\n  "name": "v22222222",\n  "size": 12\n}'),
        ("[].[name, size]", "table", "Column1    Column2\n---------  ---------\nv1\nv22222222  12"),
        (
            "[].{tag: name, digest: digest}",
            "table",
            "Tag        Digest\n---------  ---------\nv1         sha256:a\nv22222222  sha256:bb",
        ),
        (
            None,
            "table",
            "CreatedTime           Digest     Name       Signed    Size\n"
            "--------------------  ---------  ---------  --------  ------\n"
            "2024-01-01T00:00:00Z  sha256:a   v1         False\n"
            "                      sha256:bb  v22222222            12",
        ),
    ],
)
def test_a_format_is_az_s(query: str | None, output: str, expected: str | None) -> None:
    assert render(TAGS, output, query) == expected


@pytest.mark.parametrize("output", FORMATS)
@pytest.mark.parametrize(("document", "query"), DOCUMENTS)
def test_every_document_has_every_format(document: Any, query: str | None, output: str) -> None:
    printed = render(document, output, query)
    assert printed is None or isinstance(printed, str)


def test_text_of_a_registry_brings_no_controls_to_a_terminal() -> None:
    hostile = [{"name": "a\x1b[2Jb\x9b0m\u2028c"}]
    for output in FORMATS:
        printed = render(hostile, output, None) or ""
        assert not [each for each in "\x1b\x9b\u2028" if each in printed], output


def test_a_query_that_is_none_and_one_that_does_not_fit_are_reported() -> None:
    for wrong in ("[?", ""):
        with pytest.raises(InvalidOption, match="--query is not a JMESPath expression"):
            check_query(wrong)
    for unfit in ("length(`1`)", "nothing(@)"):
        check_query(unfit)
        with pytest.raises(InvalidOption, match="--query cannot be applied"):
            render(TAGS, "json", unfit)
