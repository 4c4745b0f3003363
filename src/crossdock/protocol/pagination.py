"""Paging of tags, catalog and referrers by ``Link: <…>; rel="next"`` (distribution specification; RFC 8288).

A short page is no sign of the end; the header alone is (L1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urljoin

_LINK = re.compile(r"<([^>]*)>((?:[^,\"<]|\"(?:[^\"\\]|\\.)*\")*)", re.DOTALL)
_REL = re.compile(r";\s*rel\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s;,\"]+))", re.IGNORECASE)


def next_page(links: Iterable[str], url: str) -> str | None:
    """The absolute URL of the next page from all ``Link`` headers of the answer to `url`; None: this was
    the last.

    A relative target is resolved against `url`. A page that names itself as its next would never end, so that
    counts as the last. Whether the address may be asked is for `redirect.next_hop` to say.
    """
    for value in links:
        for target, parameters in _LINK.findall(value):
            relation = _REL.search(parameters)  # of several `rel` the first counts (RFC 8288 section 3.3)
            if relation and "next" in (relation[1] or relation[2] or "").lower().split():
                try:
                    page = urljoin(url, target.strip())
                except ValueError:
                    continue
                return page if page != url else None
    return None
