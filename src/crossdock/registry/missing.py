"""Explains a registry's 404: whether the repository or its tag is missing, and existing alternatives.

One question after the failure, for the message alone: an answer that cannot be had soon adds nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from crossdock.errors import (
    Advice,
    CrossdockError,
)
from crossdock.oci.reference import DEFAULT_TAG
from crossdock.registry.pages import PAGE_LIMIT
from crossdock.registry.tags import tags_of_page, tags_query

if TYPE_CHECKING:
    from crossdock.registry.handle import Repository

ANSWER_S = 5.0  # a person waits for the message
LISTED = 5  # tags
_API_PARTS = ("v2", "v1")  # of the URLs that people copy


async def explain_missing(repository: Repository, locator: str, reference: str = "") -> Advice | None:
    """The part of `reference`, a tag or digest, that is missing; None if it cannot be found out. # network

    Without a reference, the repository itself was not found. `locator` is the repository as people write it.
    """
    if said := explain_name(repository.path, locator):
        return said
    try:
        async with asyncio.timeout(ANSWER_S):
            reply = await repository.request(
                *("GET", tags_query(repository).target),
                ok=(200, 404),
                limit=PAGE_LIMIT,
                retry=False,
            )
        if reply.status == 404:
            # Distribution answers so for a repository without tags as well.
            host = locator.removesuffix(f"/{repository.path}")
            return _check(f"there is no repository {repository.path} at {host}, or none with tags")
        tags = tags_of_page(reply).entries
    except (CrossdockError, TimeoutError):
        return None
    if not tags:
        return _check(f"{locator} has no tags, or does not exist")
    if not reference:
        return None
    if ":" in reference:
        return _check(f"{locator} exists and has no such manifest")
    if reference in tags:
        return _check(f"{locator} lists the tag {reference} and does not have its manifest")
    assumed = ", which is assumed where none is given" if reference == DEFAULT_TAG else ""
    return _check(f"{locator} has no tag {reference}{assumed}; {_instead(reference, tags)}")


def _check(text: str) -> Advice:
    return Advice("check-name", text)


def _instead(tag: str, tags: list[str]) -> str:
    """Tags that look like the one that is missing, else the first there are."""
    from difflib import get_close_matches  # only needed after failures

    spelled = {each.lower(): each for each in tags}
    near = [spelled[each] for each in get_close_matches(tag.lower(), list(spelled), n=3)]
    if near:
        first = f"{', '.join(near[:-1])} or " if len(near) > 1 else ""
        return f"did you mean {first}{near[-1]}?"
    more = f" and {len(tags) - LISTED} more" if len(tags) > LISTED else ""
    return f"its tags are {', '.join(tags[:LISTED])}{more}"


def explain_name(repository: str, locator: str) -> Advice | None:
    """The fault in the name of a missing repository; None if none is apparent."""
    first, _, rest = repository.partition("/")
    if not rest or first not in _API_PARTS:
        return None
    host = locator.removesuffix(repository)
    return _check(f"{first}/ is a part of the API's URLs: leave it out, as in {host}{rest}")
