"""CPU by kind of work: classifies perf's samples of one process."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.processes import find

_HZ = 997

# The first match classifies a sample: in the kernel by its entry point, else by the innermost function or its
# library.
_KERNEL = (
    (
        "kernel: fresh memory (faults, zeroing)",
        r"page_fault|clear_page|clear_huge_page|sys_(mmap|munmap|madvise|brk|mprotect)",
    ),
    ("kernel: receive", r"sys_(recv|read)"),
    ("kernel: send", r"sys_(send|write)"),
    ("kernel: process start and end", r"sys_(execve|exit|clone|vfork)|do_exit|exit_mmap"),
    ("kernel: files", r"sys_(open|stat|newfstat|getdents|lseek|close|pread|readlink)"),
    ("kernel: waiting, waking", r"sys_(epoll|futex|poll|select)|schedule"),
    ("kernel: other", r""),
)
_USER = (
    ("SHA-256", r"sha256|SHA256|_ext/digest"),
    ("TLS: encrypt, decrypt", r"aes|AES|gcm|GCM|ghash|chacha|vaes"),
    ("TLS: the engine, and ciphers without a name", r"libssl|libcrypto|crossdock_tls|rustls"),
    ("memory copies", r"mem(cpy|move|set)"),
    ("event loop (uvloop)", r"uvloop"),
    ("kernels of crossdock", r"_ext"),
    ("XXH3", r"xxhash"),
    ("JSON (msgspec)", r"msgspec"),
    ("compiled HTTP (aiohttp and its helpers)", r"aiohttp|multidict|yarl|frozenlist|propcache"),
    ("dynamic loader", r"ld-linux|ld-2"),
    ("allocator", r"malloc|free|_int_|arena"),
    ("garbage collector", r"gc_collect|deduce_unreachable|visit_|subtract_refs|_traverse"),
    ("unmarshalling of .pyc", r"r_object|marshal|r_string|r_ref"),
    ("Python", r"python|_Py|Py[A-Z]"),
    ("other", r""),
)


def missing() -> str:
    """Why perf cannot be used, with advice; empty if it can."""
    perf = find("perf")
    if perf is None:
        return "perf is missing: apt-get install linux-perf (Ubuntu: linux-tools-$(uname -r))"
    argv = [perf, "record", "--quiet", "-o", "/dev/null", "-e", "cpu-clock", "--", "true"]
    tried = subprocess.run(argv, capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        said = " ".join(tried.stderr.split())[:200]
        return f"perf does not work here: {said}; try: sysctl kernel.perf_event_paranoid=1"
    return ""


def recorded(data: Path) -> list[str]:
    """The prefix for a command that samples it into the file `data`."""
    options = ["--quiet", "-o", str(data), "-e", "cpu-clock", "-F", str(_HZ), "-g"]
    return [find("perf") or "perf", "record", *options, "--"]


def seconds(data: Path) -> tuple[dict[str, float], dict[str, float]]:
    """CPU seconds by kind of work, and by innermost function."""
    script = subprocess.run(
        [find("perf") or "perf", "script", "-i", str(data), "-F", "comm,tid,ip,sym,dso"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    kinds: Counter[str] = Counter()
    leaves: Counter[str] = Counter()
    for block in script.split("\n\n"):
        frames = [line.strip() for line in block.splitlines()[1:] if line.strip()]
        if frames:
            kinds[_kind(frames)] += 1
            leaves[_short(frames[0])] += 1
    return _in_seconds(kinds), _in_seconds(leaves)


def _in_seconds(counts: Counter[str]) -> dict[str, float]:
    return {name: count / _HZ for name, count in counts.items()}


def _short(frame: str) -> str:
    """A frame without address and folders."""
    function, _, library = re.sub(r"^[0-9a-f]+ ", "", frame).rpartition(" (")
    return f"{function} ({Path(library).name}"


def _kind(frames: Sequence[str]) -> str:
    leaf = frames[0]
    if "([kernel" in leaf or ("([unknown])" not in leaf and "[k]" in leaf):
        inside = " ".join(frame for frame in frames if "([kernel" in frame)
        return next(name for name, pattern in _KERNEL if re.search(pattern, inside))
    return next(name for name, pattern in _USER if re.search(pattern, leaf))
