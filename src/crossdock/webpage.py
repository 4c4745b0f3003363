"""The frame of the servers' web pages: document, style sheet, and headers that forbid foreign content."""

from __future__ import annotations

from functools import cache
from html import escape
from importlib.resources import files

# Only the page's own style, script and forms, from the same server.
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",  # with no-referrer browsers would send `Origin: null` with a form
    "Cache-Control": "no-store",
}
STYLE_TYPE = "text/css; charset=utf-8"


def document(title: str, body: str, *, aside: str = "", footer: str = "", head: str = "") -> str:
    """A page: its style sheet is ``page.css``. `title` and `aside` are text, the rest is HTML."""
    name, _, rest = title.partition(" ")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(title)}</title>'
        f'<link rel="icon" href="data:,"><link rel="stylesheet" href="page.css">{head}</head><body>'
        f"<header><h1>{escape(name)} <span>{escape(rest)}</span></h1>"
        f'<p id="live">{escape(aside)}</p></header>'
        f"{body}<footer>{footer}</footer></body></html>\n"
    )


@cache
def style_sheet() -> bytes:
    """The style sheet of all pages."""
    return (files("crossdock") / "webpage.css").read_bytes()
