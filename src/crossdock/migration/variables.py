"""``${VARIABLE}`` in the values of a migration file."""

from __future__ import annotations

import re
from collections.abc import Mapping

from crossdock.errors import Advice, InvalidInput
from crossdock.oci.text import quote

_VARIABLE = re.compile(r"\$(\$\{|\{([^}]*)\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def replace_variables(text: str, environ: Mapping[str, str]) -> str:
    """`text` with the values of its variables; ``$${`` stands for ``${``, and any other ``$`` for itself.

    What a value holds is not looked through again. Raises `InvalidInput` for a variable that is not set, and
    for ``${`` without a name and a closing brace.
    """
    return _VARIABLE.sub(lambda found: _value(found, environ), text)


def _value(found: re.Match[str], environ: Mapping[str, str]) -> str:
    if found[1] == "${":
        return "${"
    name = found[2]
    if not found[0].endswith("}") or not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{quote(found[0])} is not of the form ${{VARIABLE}}",
            advice=Advice("correct-file", "write $${ for ${ itself"),
        )
    if name not in environ:
        raise InvalidInput(
            f"the environment variable {name} is not set",
            advice=Advice("set-variable", f"set {name}", variable=name),
        )
    return environ[name]
