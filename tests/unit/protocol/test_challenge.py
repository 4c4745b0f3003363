"""``WWW-Authenticate`` in every form that registries send, and in malformed ones."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.protocol.challenge import Challenge, bearer_challenge, parse_challenges

BEARER = {"realm": "https://auth.docker.io/token", "service": "registry.docker.io"}

CASES = [
    (
        "docker hub",
        ['Bearer realm="https://auth.docker.io/token",service="registry.docker.io"'],
        [Challenge("bearer", BEARER)],
    ),
    (
        "commas inside a quoted scope",
        ['Bearer realm="https://a/t",scope="repository:x:pull,push",error="insufficient_scope"'],
        [
            Challenge(
                "bearer",
                {
                    "realm": "https://a/t",
                    "scope": "repository:x:pull,push",
                    "error": "insufficient_scope",
                },
            )
        ],
    ),
    ("scheme and names in any case", ['BASIC Realm="here"'], [Challenge("basic", {"realm": "here"})]),
    ("escapes", [r'Basic realm="say \"hi\" \\ there"'], [Challenge("basic", {"realm": r'say "hi" \ there'})]),
    (
        "unquoted values",
        ["Basic realm=here, charset=UTF-8"],
        [Challenge("basic", {"realm": "here", "charset": "UTF-8"})],
    ),
    (
        "two challenges in one header",
        ['Bearer realm="r", service="s", Basic realm="b"'],
        [Challenge("bearer", {"realm": "r", "service": "s"}), Challenge("basic", {"realm": "b"})],
    ),
    (
        "two headers",
        ['Basic realm="b"', 'Bearer realm="r"'],
        [Challenge("basic", {"realm": "b"}), Challenge("bearer", {"realm": "r"})],
    ),
    (
        "a scheme without parameters before another",
        ['Negotiate, Basic realm="b"'],
        [Challenge("negotiate"), Challenge("basic", {"realm": "b"})],
    ),
    (
        "token68 before another",
        ['NTLM TlRMTVNTUAAB==, Basic realm="b"'],
        [Challenge("ntlm"), Challenge("basic", {"realm": "b"})],
    ),
    ("spaces around =", ['Basic realm = "b"'], [Challenge("basic", {"realm": "b"})]),
    ("no commas", ['Bearer realm="r" service="s"'], [Challenge("bearer", {"realm": "r", "service": "s"})]),
    ("empty list members", [', ,Basic realm="b",,'], [Challenge("basic", {"realm": "b"})]),
    ("first of repeated parameters", ['Basic realm="a",realm="b"'], [Challenge("basic", {"realm": "a"})]),
    ("bare scheme", ["Basic"], [Challenge("basic")]),
    ("empty", [""], []),
    ("an unterminated string", ['Bearer realm="https://a'], [Challenge("bearer", {"realm": ""})]),
    (
        "rubbish before something usable",
        ['"?!", Basic realm="b"'],
        [Challenge("basic", {"realm": "b"})],
    ),
]


@pytest.mark.parametrize(("headers", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_headers_are_read_as_the_grammar_says(headers: list[str], expected: list[Challenge]) -> None:
    assert list(parse_challenges(headers)) == expected


@given(st.lists(st.text(max_size=200), max_size=4))
def test_no_header_makes_it_fail(headers: list[str]) -> None:
    for challenge in parse_challenges(headers):
        assert challenge.scheme == challenge.scheme.lower() != ""


def test_a_huge_header_is_cut() -> None:
    assert len(parse_challenges(["a=b, " * 100_000])) < 10_000


names = st.text(string.ascii_lowercase, min_size=1, max_size=8)
values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30)
challenges = st.lists(
    st.builds(Challenge, names, st.dictionaries(names, values, min_size=1, max_size=4)), max_size=4
)


def _quote(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@given(challenges)
def test_well_formed_values_are_read_back(wanted: list[Challenge]) -> None:
    header = ", ".join(
        f"{c.scheme} {', '.join(f'{name}={_quote(value)}' for name, value in c.parameters.items())}"
        for c in wanted
    )
    assert list(parse_challenges([header])) == wanted


def test_a_client_reads_a_servers_challenge() -> None:
    written = bearer_challenge(**BEARER, scope="repository:a/b:pull,push", error="")
    assert ", " not in written
    assert parse_challenges([written]) == (
        Challenge("bearer", {**BEARER, "scope": "repository:a/b:pull,push"}),
    )
