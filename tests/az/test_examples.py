"""Every command of the documentation by the real az, as it stands there."""

from __future__ import annotations

import pytest

from az.conftest import Cloud
from support.documentation import EXAMPLES, assert_imported


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_of_the_documentation(cloud: Cloud, name: str) -> None:
    example = EXAMPLES[name]
    graph = cloud.sources.graphs[example.source]
    assert cloud.az.ok(example.text, graph) == "", "az prints nothing"
    assert_imported(cloud.remote, example.target, graph)
