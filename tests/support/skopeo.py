"""skopeo as an independent reader and writer of the command's copies."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.process import require
from support.push import sha256


def skopeo(*args: str | Path) -> bytes:
    """Run skopeo; its stdout. Fails with its stderr."""
    argv = [require("skopeo"), "--insecure-policy", *map(str, args)]
    done = subprocess.run(argv, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr.decode()}"
    return done.stdout


def raw_digest(reference: str) -> str:
    """The digest of the manifest that skopeo reads under ``docker://…`` or ``oci:…``."""
    if reference.startswith("docker://"):
        return sha256(skopeo("inspect", "--raw", "--tls-verify=false", reference))
    return sha256(skopeo("inspect", "--raw", reference))


def copy_all(source: str, target: str) -> None:
    """Copy every platform, digests preserved, over plain HTTP where a registry is meant."""
    skopeo(
        "copy",
        "--all",
        "--preserve-digests",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        source,
        target,
    )
