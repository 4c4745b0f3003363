"""Paging of tags, catalog and referrers by ``Link: <…>; rel="next"`` (distribution specification; RFC 8288).

A short page is no sign of the end; the header alone is (L1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urljoin

# A quoted string without an end takes in all that follows, and no target holds "<": so no text is looked at
# again from each of its characters.
_LINK = re.compile(r"<([^<>]*)>((?:[^,\"<]|\"(?:[^\"\\]|\\.)*(?:\"|\\?\Z))*)", re.DOTALL)
_PARAMETER = re.compile(r";\s*([\w-]+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)(?:\"|\\?\Z)|([^\s;,\"]*))", re.DOTALL)


def next_page(links: Iterable[str], url: str) -> str | None:
    """The absolute URL of the next page from all ``Link`` headers of the answer to `url`; None: this was
    the last.

    A relative target is resolved against `url`. A page that names itself as its next would never end, so that
    counts as the last. Whether the address may be asked is for `redirect.next_hop` to say.
    """
    for value in links:
        for target, parameters in _LINK.findall(value):
            found = _PARAMETER.findall(parameters)
            # Of several `rel` the first counts (RFC 8288 section 3.3).
            relation = next((quoted or bare for name, quoted, bare in found if name.lower() == "rel"), "")
            if "next" in relation.lower().split():
                try:
                    page = urljoin(url, target.strip())
                except ValueError:
                    continue
                return page if page != url else None
    return None
