"""The endpoint table of the distribution specification, one function per row (end-1 … end-14).

Each gives the path, with its query, below the registry's base URL. Rows that differ in the method alone
share one function. The rows of a running upload (end-5, end-6, end-13, end-14) have no path of their own:
the registry names it in ``Location``, and only `commit_location` adds to it.

Paths keep ``/`` and ``:`` as they are; values of a query are quoted in full, as Go clients send them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote, urlencode

from crossdock.url import Url

# Digests, tags, and nearly all names: `quote` would give them back as they are, ten times slower.
_PLAIN = re.compile(r"[A-Za-z0-9._:-]*")
_PLAIN_VALUES = re.compile(r"[A-Za-z0-9._:/-]*")


def base() -> str:
    """end-1: whether the distribution API is spoken here, and how to authenticate."""
    return "/v2/"


def blob(repository: str, digest: str) -> str:
    """end-2 (GET, HEAD) and end-10 (DELETE): one blob."""
    return f"{_repository(repository)}/blobs/{_quoted(digest)}"


def manifest(repository: str, reference: str, *tags: str) -> str:
    """end-3 (GET, HEAD), end-7 (PUT) and end-9 (DELETE): a manifest by tag or digest.

    `tags` are end-7b: pushed by digest and tagged at once, by registries that return ``OCI-Tag``.
    """
    path = f"{_repository(repository)}/manifests/{_quoted(reference)}"
    return f"{path}?{urlencode([('tag', tag) for tag in tags])}" if tags else path


def uploads(repository: str, digest_algorithm: str = "") -> str:
    """end-4a: open an upload session.

    `digest_algorithm` tells the registry what to hash by while bytes come; sha256 goes without saying, and
    registries older than the parameter then see nothing unknown to them.
    """
    query = {} if digest_algorithm in ("", "sha256") else {"digest-algorithm": digest_algorithm}
    return _with_query(f"{_repository(repository)}/blobs/uploads/", query)


def single_post(repository: str, digest: str) -> str:
    """end-4b: a whole blob in one POST; a registry may respond with 202 and expect the PUT as usual."""
    return _with_query(f"{_repository(repository)}/blobs/uploads/", {"digest": digest})


def commit_location(location: Url, digest: str) -> Url:
    """end-6: the URL of the closing PUT. `location` keeps its own query, which may hold the session state."""
    query = "&".join(filter(None, [location.query, _encoded({"digest": digest})]))
    return location.with_target(f"{location.path}?{query}")


def tags(repository: str, n: int | None = None, last: str | None = None) -> str:
    """end-8a, end-8b: tags, at most `n` of them, those after `last`."""
    query = {} if n is None else {"n": str(n)}
    if last is not None:
        query["last"] = last
    return _with_query(f"{_repository(repository)}/tags/list", query)


def mount(repository: str, digest: str, from_repository: str) -> str:
    """end-11: make a blob of another repository of the same registry appear in this one."""
    return _with_query(
        f"{_repository(repository)}/blobs/uploads/", {"mount": digest, "from": from_repository}
    )


def referrers(repository: str, digest: str, artifact_type: str | None = None) -> str:
    """end-12a, end-12b: manifests whose ``subject`` is `digest`."""
    query = {} if artifact_type is None else {"artifactType": artifact_type}
    return _with_query(f"{_repository(repository)}/referrers/{_quoted(digest)}", query)


@lru_cache(maxsize=256)  # an image needs the same one a dozen times
def _repository(name: str) -> str:
    return f"/v2/{quote(name, safe='/')}"


def _quoted(word: str) -> str:
    """A digest or tag, encoded for a path."""
    return word if _PLAIN.fullmatch(word) else quote(word, safe=":")


def _with_query(path: str, query: dict[str, str]) -> str:
    return f"{path}?{_encoded(query)}" if query else path


def _encoded(query: dict[str, str]) -> str:
    """As `urlencode`, ten times as fast for digests and names of repositories."""
    if not _PLAIN_VALUES.fullmatch("".join(query.values())):
        return urlencode(query)
    text = "&".join([f"{name}={value}" for name, value in query.items()])
    return text.replace(":", "%3A").replace("/", "%2F")
