"""The arena: ownership of slots, detection of misuse, and its memory as the operating system sees it."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.backends import run

MiB = 1 << 20
POISON = 0xDB


def test_slots_cover_the_capacity_without_overlap(kernels: SimpleNamespace) -> None:
    arena = kernels.Arena(4 * 4096, 4096)
    assert (arena.slots, arena.free) == (4, 4)
    slots = [arena.acquire() for _ in range(4)]
    assert [slot.index for slot in slots] == [0, 1, 2, 3]
    assert arena.acquire() is None
    assert arena.free == 0
    for slot in slots:
        assert slot.view.nbytes == 4096
        slot.view[:] = bytes([slot.index + 1]) * 4096
    for slot in slots:
        assert bytes(slot.view) == bytes([slot.index + 1]) * 4096
        slot.release()
    assert arena.free == 4
    arena.close()


def test_the_capacity_is_rounded_down_to_whole_slots(kernels: SimpleNamespace) -> None:
    arena = kernels.Arena(10_000, 3000)
    assert arena.slots == 3


def test_the_slot_freed_last_is_used_first(kernels: SimpleNamespace) -> None:
    arena = kernels.Arena(3 * 4096, 4096)
    first, second, third = arena.acquire(), arena.acquire(), arena.acquire()
    second.release()
    third.release()
    first.release()
    assert [arena.acquire().index for _ in range(3)] == [0, 2, 1]


def test_a_view_is_plain_writable_bytes_and_always_the_same(kernels: SimpleNamespace) -> None:
    slot = kernels.Arena(8192, 4096).acquire()
    view = slot.view
    assert (view.format, view.itemsize, view.ndim, view.nbytes) == ("B", 1, 1, 4096)
    assert not view.readonly
    assert view.c_contiguous
    assert slot.view is view
    assert bytes(view) == bytes(4096)


def test_a_released_slot_is_dead_even_when_its_memory_is_used_again(kernels: SimpleNamespace) -> None:
    arena = kernels.Arena(4096, 4096)
    old = arena.acquire()
    old.mark(10)
    old.release()
    new = arena.acquire()
    assert new.index == old.index
    for use in (old.release, old.check, lambda: old.mark(1), lambda: old.view):
        with pytest.raises(BufferError, match="released"):
            use()
    new.view[0] = 1
    assert arena.free == 0


def test_slots_are_made_by_arenas_only(kernels: SimpleNamespace) -> None:
    with pytest.raises(TypeError, match="acquire"):
        kernels.Slot()


def test_marked_bytes_may_not_change(kernels: SimpleNamespace) -> None:
    slot = kernels.Arena(8192, 4096).acquire()
    slot.view[:5] = b"hello"
    slot.mark(5)
    slot.check()
    slot.view[5] = 1  # behind the mark
    slot.check()
    slot.view[4] ^= 1
    with pytest.raises(BufferError, match="changed"):
        slot.check()
    slot.mark(5)
    slot.check()


def test_a_mark_covers_none_to_all_bytes_and_no_more(kernels: SimpleNamespace) -> None:
    slot = kernels.Arena(8192, 4096).acquire()
    with pytest.raises(ValueError, match="not marked"):
        slot.check()
    for stop in (0, 1, 4096):
        slot.mark(stop)
        slot.check()
    for stop in (-1, 4097, 1 << 70):
        with pytest.raises(ValueError, match="cannot mark"):
            slot.mark(stop)
    slot.check()


def test_a_stale_reader_sees_poison_when_debugging(kernels: SimpleNamespace) -> None:
    arena = kernels.Arena(8192, 4096, debug=True)
    slot = arena.acquire()
    slot.view[:] = b"x" * 4096
    stale = slot.view[:]
    slot.release()
    assert set(stale) == {POISON}


def test_a_stale_writer_is_caught_when_debugging(kernels: SimpleNamespace) -> None:
    arena = kernels.Arena(4096, 4096, debug=True)
    for offset in (0, 100, 4095):
        slot = arena.acquire()
        stale = slot.view
        slot.release()
        stale[offset] = 1
        with pytest.raises(BufferError, match="written to after it was freed"):
            arena.acquire()
        arena.acquire().release()


@pytest.mark.parametrize("debug", [False, True])
def test_slots_of_one_byte_work(kernels: SimpleNamespace, debug: bool) -> None:
    arena = kernels.Arena(3, 1, debug=debug)
    for _ in range(2):
        slots = [arena.acquire() for _ in range(3)]
        for slot in slots:
            slot.view[0] = slot.index
        assert [slot.view[0] for slot in slots] == [slot.index for slot in slots]
        for slot in slots:
            slot.release()


def test_close_waits_for_held_slots(kernels: SimpleNamespace) -> None:
    arena = kernels.Arena(8192, 4096)
    slot = arena.acquire()
    with pytest.raises(BufferError, match="1 of 2 slots are still held"):
        arena.close()
    slot.view[0] = 1
    slot.release()
    arena.close()
    arena.close()
    assert arena.slots == 2
    with pytest.raises(BufferError, match="closed"):
        arena.acquire()


def test_a_view_that_outlives_its_arena_still_points_to_memory(kernels: SimpleNamespace) -> None:
    arena = kernels.Arena(8192, 4096)
    slot = arena.acquire()
    slot.view[:3] = b"abc"
    stale = slot.view[:3]
    slot.release()
    arena.close()
    del arena, slot
    gc.collect()
    assert bytes(stale) == b"abc"


@pytest.mark.parametrize(("capacity", "slot_size"), [(0, 0), (0, 1), (10, 0), (10, 11), (-1, 1), (10, -1)])
def test_an_arena_holds_at_least_one_slot(kernels: SimpleNamespace, capacity: int, slot_size: int) -> None:
    with pytest.raises(ValueError, match="no slot"):
        kernels.Arena(capacity, slot_size)


@pytest.mark.parametrize("capacity", [1 << 60, (1 << 63) - 1, 1 << 63, 1 << 70])
def test_more_than_the_address_space_is_a_memory_error(kernels: SimpleNamespace, capacity: int) -> None:
    with pytest.raises(MemoryError):
        kernels.Arena(capacity, capacity)


@given(actions=st.lists(st.integers(-4, 0), max_size=60))
def test_any_use_keeps_the_accounts_straight(kernels: SimpleNamespace, actions: list[int]) -> None:
    """0 acquires, -n releases one of the held slots."""
    arena = kernels.Arena(4 * 512, 512, debug=True)
    held: list[Any] = []
    for action in actions:
        if action == 0:
            slot = arena.acquire()
            assert (slot is None) == (len(held) == 4)
            if slot is not None:
                assert slot.index not in [other.index for other in held]
                held.append(slot)
        elif held:
            held.pop(action % len(held)).release()
        assert arena.free == 4 - len(held)


# -- what the operating system sees: in processes of their own -------------------------------------------

COMMON = """
from crossdock._kernels import Arena
MiB = 1 << 20

def size_and_resident():
    with open("/proc/self/statm") as statm:
        size, resident = statm.read().split()[:2]
    return int(size) * 4096, int(resident) * 4096

def around(view):
    # The smaps entry of the mapping that holds `view`.
    import ctypes
    address = ctypes.addressof(ctypes.c_char.from_buffer(view))
    inside, fields = False, {}
    for line in open("/proc/self/smaps"):
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            first, last = (int(x, 16) for x in words[0].split("-"))
            inside = first <= address < last
        elif inside and words[1].isdigit():
            fields[words[0]] = int(words[1]) * 1024
    return address, fields
"""


def test_closed_and_forgotten_arenas_leave_no_mapping(kernels: SimpleNamespace) -> None:
    script = (
        COMMON
        + """
zeros = bytes(MiB)

def use(close):
    arena = Arena(64 * MiB, 2 * MiB)
    slot = arena.acquire()
    slot.view[:MiB] = zeros
    slot.release()
    if close:
        arena.close()

use(True)
before = size_and_resident()
for _ in range(300):
    use(True)
    use(False)
    try:
        Arena(1, 2)
    except ValueError:
        pass
after = size_and_resident()
print(after[0] - before[0], after[1] - before[1])
"""
    )
    result = run(kernels.backend, script)
    assert result.returncode == 0, result.stderr
    size, resident = map(int, result.stdout.split())
    assert size < 64 * MiB
    assert resident < 16 * MiB


def test_pages_come_only_when_touched(kernels: SimpleNamespace) -> None:
    script = (
        COMMON
        + """
before = size_and_resident()[1]
arena = Arena(1024 * MiB, 4 * MiB)
slots = [arena.acquire() for _ in range(256)]
views = [slot.view for slot in slots]
print(size_and_resident()[1] - before)
views[7][:] = bytes(4 * MiB)
print(size_and_resident()[1] - before)
"""
    )
    result = run(kernels.backend, script)
    assert result.returncode == 0, result.stderr
    untouched, touched = map(int, result.stdout.split())
    assert untouched < 8 * MiB
    assert 4 * MiB <= touched < 24 * MiB


def test_memory_is_aligned_and_really_on_huge_pages(kernels: SimpleNamespace) -> None:
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    mode = setting.read_text() if setting.exists() else "[never]"
    script = (
        COMMON
        + """
arena = Arena(16 * MiB, 4 * MiB)
slots = [arena.acquire() for _ in range(4)]
for slot in slots:
    slot.view[:] = b"x" * (4 * MiB)
address, fields = around(slots[0].view)
print(address % (2 * MiB), fields["AnonHugePages:"])
"""
    )
    result = run(kernels.backend, script)
    assert result.returncode == 0, result.stderr
    misalignment, huge = result.stdout.split()
    assert int(misalignment) == 0
    if "[never]" in mode:
        pytest.skip(f"huge pages are switched off here: {mode.strip()}")
    assert int(huge) > 0


def test_a_kernel_without_huge_pages_serves_ordinary_ones(kernels: SimpleNamespace, tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler to stand in for such a kernel")
    source, library = tmp_path / "refuse.c", tmp_path / "refuse.so"
    source.write_text(
        "#include <errno.h>\n#include <stddef.h>\n"
        "int madvise(void *a, size_t n, int advice) {\n"
        "    (void)a, (void)n, (void)advice;\n    errno = EINVAL;\n    return -1;\n}\n"
    )
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True, timeout=60)
    preload = " ".join(filter(None, [os.environ.get("LD_PRELOAD"), str(library)]))
    script = (
        COMMON
        + """
arena = Arena(4 * MiB, 2 * MiB)
slot = arena.acquire()
slot.view[:] = b"x" * (2 * MiB)
print(bytes(slot.view[-3:]))
"""
    )
    result = run(kernels.backend, script, LD_PRELOAD=preload)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["b'xxx'"]
