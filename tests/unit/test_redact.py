"""The parts of URLs and headers that may be shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.redact import HIDDEN, redact_text, redact_url
from crossdock.transport.route import parse_proxy


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/v2/", "https://host/v2/"),
        ("https://user:pass@host:5/v2/", "https://host:5/v2/"),
        ("https://a@b:c@host/", "https://host/"),
        ("https://user:pa?ss@host/", "https://…?…"),
        ("https://host/x?X-Amz-Signature=abc&n=5", "https://host/x?X-Amz-Signature=…&n=5"),
        (
            "https://host/x?digest=sha256:ab&_state=s&mount=m&from=f",
            "https://host/x?digest=sha256:ab&_state=…&mount=m&from=f",
        ),
        ("https://host/x?secret", "https://host/x?…"),
        ("https://host/x?a=b#token", "https://host/x?a=…"),
        ("https://[::1]:5000/v2/", "https://[::1]:5000/v2/"),
        ("https://user:pass", "https://…"),
        ("/v2/x?sig=1", "/v2/x?sig=…"),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_what_it_permits(url, shown):
    assert redact_url(url) == shown


@given(st.text())
def test_redacting_is_total_and_settles(url):
    assert redact_url(redact_url(url)) == redact_url(url)


def test_urls_in_a_text_are_redacted_and_the_rest_is_kept():
    text = 'see "https://u:p@host/x?sig=abc" and <http://host/?n=1>, please'
    assert redact_text(text) == 'see "https://host/x?sig=…" and <http://host/?n=1>, please'


def test_a_proxy_never_shows_its_password():
    proxy = parse_proxy("http://user:s3cr3t@proxy:3128")
    assert "s3cr3t" not in repr(proxy)
    assert repr(proxy) == "Proxy('proxy', 3128)"
    assert proxy.authorization == "Basic dXNlcjpzM2NyM3Q="


def test_a_servers_words_lose_queries_and_authorization():
    assert redact_text("no such key /b/k?X-Amz-Signature=abc&n=5 here") == (
        f"no such key /b/k?X-Amz-Signature={HIDDEN}&n=5 here"
    )
    assert (
        redact_text("got Authorization: Bearer eyJhbGciOi.J9 twice")
        == f"got Authorization: Bearer {HIDDEN} twice"
    )
    assert redact_url("https://h/p?digest=sha256:ab;sig=abc") == f"https://h/p?digest={HIDDEN}"
