"""``crossdock inspect`` of documents that are unusual."""

from __future__ import annotations

import json

from crossdock.cli.reading import integer


def test_numbers_that_python_refuses_for_their_length_are_shown_as_text() -> None:
    digits = "1" * 5000
    assert json.loads(f'{{"a": {digits}, "b": -12}}', parse_int=integer) == {"a": digits, "b": -12}
