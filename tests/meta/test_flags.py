"""Flags are the command's: no layer below it names one. Advice is worded by each face (`cli.advice`)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src" / "crossdock"
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
BELOW = sorted(path for path in SRC.rglob("*.py") if SRC / "cli" not in path.parents)

# Other programs' words: az's verbatim texts, its token command, curl's option that an interface is like.
OF_OTHERS: dict[str, set[str]] = {
    "acr/command.py": {"--source", "--registry"},
    "registry/auth/azure.py": {"--resource", "--output"},
    "advice.py": {"--resource"},
    "options.py": {"--connect-to"},
    "transport/base.py": {"--connect-to"},
    "protocol/acrtoken.py": {"--expose-token"},
    "service/web/routes.py": {"--admin-enabled"},
}


@pytest.mark.parametrize("path", BELOW, ids=lambda path: str(path.relative_to(SRC)))
def test_no_flag_is_named_below_the_command(path: Path) -> None:
    named = set(FLAG.findall(path.read_text()))
    assert named <= OF_OTHERS.get(str(path.relative_to(SRC)), set())


def test_messages_of_other_programs_are_kept() -> None:
    for name, flags in OF_OTHERS.items():
        assert flags == set(FLAG.findall((SRC / name).read_text())), name
