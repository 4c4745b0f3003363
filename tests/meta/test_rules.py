"""Every rule that the code cites is written down, and every rule that is written down is kept somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = (ROOT / "docs/registry-rules.md").read_text()
CONTRACT = (ROOT / "docs/az-contract.md").read_text()

CODED = [
    path
    for folder in ("src", "testkit", "ext", "tests")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".pyx") and path != Path(__file__) and "target" not in path.parts
]
CITED = {path: path.read_text() for path in CODED}
EVERYTHING = "\n".join(CITED.values())

_RULE = re.compile(r"(?<![\w.%:/-])[RUSALM][1-9][0-9]?(?![\w.])")
_SECTION = re.compile(r"az-contract (\d(?:\.\d)?)(?: and (\d\.\d))?(?:, check (\d+))?")


def _rules() -> set[str]:
    return set(re.findall(r"^\| ([RUSALM][0-9]+) \|", RULES, re.MULTILINE))


def _cited_rules(text: str) -> set[str]:
    """Rules in comments and docstrings, as ``(U9)``, ``(U6, U13)`` or ``U1-U5``; a range cites all in it."""
    found = set(_RULE.findall(text))
    for kind, first, last in re.findall(r"\b([RUSALM])(\d+)-\1(\d+)", text):
        found |= {f"{kind}{number}" for number in range(int(first), int(last) + 1)}
    return found


def test_the_rules_are_numbered_without_gaps() -> None:
    for kind in "RUSALM":
        numbers = sorted(int(rule[1:]) for rule in _rules() if rule[0] == kind)
        assert numbers == list(range(1, len(numbers) + 1)), kind


@pytest.mark.parametrize("path", [path for path in CODED if "src" in path.parts], ids=lambda p: p.name)
def test_every_rule_that_is_cited_is_written_down(path: Path) -> None:
    assert _cited_rules(CITED[path]) <= _rules()


@pytest.mark.parametrize("rule", sorted(_rules()))
def test_every_rule_is_cited(rule: str) -> None:
    assert any(rule in _cited_rules(text) for path, text in CITED.items() if "src" in path.parts)


def test_the_sections_of_the_contract_that_are_cited_exist() -> None:
    sections = set(re.findall(r"^#{2,3} (\d(?:\.\d)?)[ .]", CONTRACT, re.MULTILINE))
    checks = set(re.findall(r"^\| (\d+) \| ", CONTRACT, re.MULTILINE))
    for section, other, check in _SECTION.findall(EVERYTHING):
        assert {section, other} - {""} <= sections
        assert {check} - {""} <= checks


def test_every_section_of_the_contract_is_cited_or_names_its_tests() -> None:
    cited = {each for found in _SECTION.findall(EVERYTHING) for each in found[:2]}
    for heading, body in re.findall(
        r"^#{2,3} (\d(?:\.\d)?)[ .].*\n((?:(?!##).*\n)*)", CONTRACT, re.MULTILINE
    ):
        if not body.strip():
            continue
        tests = re.findall(r"`(tests/[\w/.]+|test_\w+)`", body)
        assert heading in cited or tests, heading
        for test in tests:
            assert (ROOT / test).exists() or f"def {test}(" in EVERYTHING, test
