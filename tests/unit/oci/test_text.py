"""Texts of messages."""

from __future__ import annotations

import pytest

from crossdock.oci.text import with_more


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("404: not found", "404: not found; try again"),
        ("The tag exists.", "The tag exists. Try again"),
    ],
)
def test_what_to_do_next_follows_a_message_or_a_sentence(text: str, whole: str) -> None:
    assert with_more(text, "try again") == whole
