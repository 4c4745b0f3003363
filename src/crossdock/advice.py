"""The library's wordings of `errors.Advice`, from the kind to a template that is filled with the fields.

The other faces have tables of their own for what they say differently: `cli.advice`, `service.advice`.
"""

from __future__ import annotations

from collections.abc import Mapping

LIBRARY: Mapping[str, str] = {}
