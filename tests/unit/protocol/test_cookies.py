"""Cookies of an upload session: where they come from, where they go, and their bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.protocol.cookies import MOST_COOKIES, SessionCookies
from crossdock.url import Url

POST = Url.parse("https://registry.example/v2/x/blobs/uploads/")
PUT = Url.parse("https://registry.example/v2/x/blobs/uploads/1?_state=s")


def sent(set_cookies: list[str], url: Url = PUT, by: Url = POST) -> str:
    cookies = SessionCookies()
    cookies.keep(by, set_cookies)
    return dict(cookies.headers_for(url)).get("Cookie", "")


@pytest.mark.parametrize(
    ("set_cookies", "expected"),
    [
        ([], ""),
        (["LB=one; Path=/; HttpOnly"], "LB=one"),
        (["LB=one"], "LB=one"),
        (["AWSALB=a/b+c==; Expires=Mon, 07 Dec 2026 21:00:00 GMT; Path=/", "B=2"], "AWSALB=a/b+c==; B=2"),
        (["LB=one", "LB=two"], "LB=two"),
        (["LB=one", "LB=; Max-Age=0"], ""),
        (["LB=one", "LB=x; max-age=-1"], ""),
        (["LB=one; Max-Age=3600"], "LB=one"),
        (['LB="quoted"'], 'LB="quoted"'),
        (["LB=one; Secure; SameSite=None"], "LB=one"),
        (["LB=one; Path=/v2"], "LB=one"),
        (["LB=one; Path=/v2/"], "LB=one"),
        (["LB=one; Path=/v"], ""),
        (["LB=one; Path=/ui"], ""),
        (["LB=one; Path=relative"], "LB=one"),
        (["LB=one; Domain=example"], "LB=one"),
        (["=one", "LB", "a b=c", "LB=a b", "LB=\x01", "LB=ü", ""], ""),
        (["LB=" + "x" * 5000], ""),
    ],
)
def test_cookies_that_are_sent_back(set_cookies: list[str], expected: str) -> None:
    assert sent(set_cookies) == expected


@pytest.mark.parametrize(
    "url",
    [
        "https://other.example/v2/x",
        "https://a.registry.example/v2/x",
        "https://registry.example:8443/v2/x",
        "http://registry.example/v2/x",
    ],
)
def test_no_other_origin_gets_a_cookie(url: str) -> None:
    assert sent(["LB=one; Path=/; Domain=registry.example"], Url.parse(url)) == ""


def test_secure_cookies_stay_on_https() -> None:
    plain = Url.parse("http://registry.example/v2/x")
    assert sent(["LB=one; Secure"], plain, plain) == ""
    assert sent(["LB=one"], plain, plain) == "LB=one"


def test_how_many_are_kept_is_bounded() -> None:
    kept = sent([f"c{number}=1" for number in range(1000)])
    assert kept.count("=") == MOST_COOKIES


def test_a_new_session_begins_without() -> None:
    cookies = SessionCookies()
    cookies.keep(POST, ["LB=s3cret"])
    assert "s3cret" not in repr(cookies)
    cookies.clear()
    assert cookies.headers_for(PUT) == ()


@given(st.text(max_size=100))
def test_no_field_breaks_a_header(field: str) -> None:
    value = sent([field])
    assert value.isascii()
    assert not set(value) & {"\r", "\n", "\0"}
