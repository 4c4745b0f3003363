"""`crossdock acr` prints the same as az's own formatters, for documents and queries."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from crossdock.cli.commands.acr.output import render
from support.azformats import DOCUMENTS, FORMATS
from support.process import find_az

# Runs in az's interpreter. As `knack.cli.invoke` does, it prints nothing for null.
AZ = """
import collections, json, sys
import jmespath
from knack.output import OutputProducer
from knack.util import CommandResultItem

def printed(found, query, name):
    if query:
        found = jmespath.compile(query).search(found, jmespath.Options(collections.OrderedDict))
    if found is None:
        return ""
    formatter = OutputProducer._FORMAT_DICT[{"jsonc": "json", "yamlc": "yaml"}.get(name, name)]
    return formatter(CommandResultItem(found, is_query_active=bool(query)))

json.dump([printed(*each) for each in json.load(sys.stdin)], sys.stdout)
"""


def test_every_format_is_az_s_row_by_row() -> None:
    cases = [(document, query, name) for document, query in DOCUMENTS for name in FORMATS]
    done = subprocess.run(
        [str(Path(find_az()).parent / "python"), "-c", AZ],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    assert len(theirs) == len(cases)
    for (document, query, name), expected in zip(cases, theirs, strict=True):
        ours = render(document, name, query)
        assert ("" if ours is None else f"{ours}\n") == expected, (document, query, name)
