"""What az takes when a flag is not given: its environment and its configuration file.

``AZURE_DEFAULTS_ACR=NAME`` is ``az configure --defaults acr=NAME``, a line in the file ``config`` of
``AZURE_CONFIG_DIR`` (``~/.azure``). The environment comes first, as with az.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

MAX_FILE = 1 << 20  # bytes; az writes some lines


def az_default(section: str, name: str, environ: Mapping[str, str]) -> str:
    """The default called `name` of ``[section]``; empty when there is none, or the file cannot be read."""
    if value := environ.get(f"AZURE_{section}_{name}".upper()):
        return value
    folder = environ.get("AZURE_CONFIG_DIR") or (environ.get("HOME") and f"{environ['HOME']}/.azure")
    return _in_file(Path(folder, "config"), section, name) if folder else ""


def _in_file(path: Path, section: str, name: str) -> str:
    import configparser  # here: few commands get this far

    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        with path.open(encoding="utf-8") as file:
            parser.read_string(file.read(MAX_FILE))
        return parser.get(section, name, fallback="").strip()
    except (OSError, ValueError, configparser.Error):
        return ""  # az's own file is az's business
