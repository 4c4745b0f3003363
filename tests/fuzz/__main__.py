"""``make fuzz``: every target for some seconds under atheris, guided by coverage.

``python -m fuzz SECONDS [TARGET…]``, with ``tests`` on PYTHONPATH. Each target has its own process and
a corpus that grows in ``.fuzz/TARGET``; an input that fails is left in ``.fuzz`` as ``TARGET-crash-…``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["crossdock", "json", "email"]):
    from fuzz.targets import TARGETS, Target

CORPUS = Path(".fuzz")
LONGEST = 4096  # bytes of an input
HANG_S = 30


def main(words: list[str]) -> int:
    """Run each target named, or all; the number of those that failed."""
    seconds, names = int(words[0]), words[1:] or list(TARGETS)
    failed = [name for name in names if subprocess.call([sys.executable, __file__, name, str(seconds)])]
    for name in names:
        print(f"{name:<16}{'FAILED' if name in failed else 'fine'}")
    return len(failed)


def fuzz(name: str, target: Target, seconds: str) -> None:
    """Does not return."""
    corpus = CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    dictionary = CORPUS / f"{name}.dict"
    words = [word.encode("utf-8", "surrogatepass") for word in target.words if len(word) < 64]
    dictionary.write_text("".join('"' + "".join(map(r"\x{:02x}".format, word)) + '"\n' for word in words))
    limits = [f"-max_total_time={seconds}", f"-timeout={HANG_S}"]
    if max(map(len, target.seeds)) < LONGEST:
        limits.append(f"-max_len={LONGEST}")
    files = [f"-dict={dictionary}", f"-artifact_prefix={CORPUS / name}-", str(corpus)]
    atheris.Setup([sys.argv[0], *limits, "-print_final_stats=1", *files], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1].isdigit():
        sys.exit(main(sys.argv[1:]))
    fuzz(sys.argv[1], TARGETS[sys.argv[1]], sys.argv[2])
