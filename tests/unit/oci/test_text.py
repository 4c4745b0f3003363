"""Texts of messages."""

from __future__ import annotations

import pytest

from crossdock.oci.text import with_more, without_half_pairs


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("404: not found", "404: not found; try again"),
        ("The tag exists.", "The tag exists. Try again"),
    ],
)
def test_advice_follows_a_message_or_a_sentence(text: str, whole: str) -> None:
    assert with_more(text, "try again") == whole


@pytest.mark.parametrize(
    ("document", "read"),
    [
        (rb'{"a":"plain"}', rb'{"a":"plain"}'),
        (rb'["\ud83d\ude00"]', rb'["\ud83d\ude00"]'),
        (rb'["\uD83D\uDE00"]', rb'["\uD83D\uDE00"]'),
        (rb'["\ud83d"]', rb'["\ufffd"]'),
        (rb'["\uDE00x"]', rb'["\ufffdx"]'),
        (rb'["\ud83d\u0041"]', rb'["\ufffd\u0041"]'),
        (rb'["\ud83d\ud83d\ude00"]', rb'["\ufffd\ud83d\ude00"]'),
        (rb'["\ude00\ud83d"]', rb'["\ufffd\ufffd"]'),
        (rb'["\\ud83d"]', rb'["\\ud83d"]'),
        (rb'["\\\ud83d"]', rb'["\\\ufffd"]'),
        (rb'["\ud83"]', rb'["\ud83"]'),
        (b"\xff\\ud83d", b"\xff\\ufffd"),
        (b"", b""),
    ],
)
def test_half_of_a_surrogate_pair_is_read_as_a_replacement(document: bytes, read: bytes) -> None:
    assert without_half_pairs(document) == read
