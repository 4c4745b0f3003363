"""Signals end a run: the first in order, one that comes later at once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from crossdock.cli.loop import run_until_done
from crossdock.errors import Cancelled, StoreError


async def forever() -> None:
    await asyncio.Event().wait()


def test_the_result_comes_back() -> None:
    async def work() -> int:
        return 7

    assert run_until_done(work()) == 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_cancels_and_what_is_open_is_closed(number: signal.Signals) -> None:
    closed: list[bool] = []

    async def work() -> None:
        os.kill(os.getpid(), number)
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    with pytest.raises(Cancelled):
        run_until_done(work())
    assert closed == [True]


def test_an_error_of_the_clean_up_does_not_hide_that_it_was_cancelled() -> None:
    async def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await forever()
        except asyncio.CancelledError:
            raise StoreError("could not clean up") from None

    with pytest.raises(Cancelled):
        run_until_done(work())


def test_a_run_that_ends_in_spite_of_the_signal_has_ended_well() -> None:
    async def work() -> str:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await forever()
        except asyncio.CancelledError:
            return "the tag was written already"
        return ""

    assert run_until_done(work()) == "the tag was written already"


def test_handlers_of_before_are_in_place_again() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    async def work() -> None:
        pass

    run_until_done(work())
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_errors_pass_through_unchanged() -> None:
    async def work() -> None:
        raise StoreError("disk full")

    with pytest.raises(StoreError, match="disk full"):
        run_until_done(work())


STUBBORN = """
import asyncio, os, signal
from crossdock.cli.loop import run_until_done

async def work():
    os.kill(os.getpid(), signal.SIGINT)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        while True:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0.1)

run_until_done(work(), before_abort=lambda: print("told", flush=True))
"""


def run_script(script: str, *, prefix: tuple[str, ...] = ()) -> tuple[int, str, str]:
    argv = [*prefix, sys.executable, "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_signal_that_comes_later_ends_a_stubborn_clean_up_at_once() -> None:
    assert run_script(STUBBORN) == (130, "told\n", "")


TWICE = """
import asyncio, os, signal
from crossdock.cli.loop import run_until_done
from crossdock.errors import Cancelled

async def work():
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.{second})
    try:
        await asyncio.Event().wait()
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.01)
        print("cleaned up", flush=True)

try:
    run_until_done(work(), before_abort=lambda: print("aborted", flush=True))
except Cancelled:
    os.kill(os.getpid(), signal.SIGTERM)
    print("and reported", flush=True)
"""


@pytest.mark.parametrize("second", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_signals_that_come_together_are_one_request_to_stop(second: str) -> None:
    assert run_script(TWICE.format(second=second)) == (0, "cleaned up\nand reported\n", "")


LATE = """
import asyncio, os, signal, time
from crossdock.cli.loop import run_until_done
from crossdock.errors import Cancelled

async def work():
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.Event().wait()

try:
    run_until_done(work())
except Cancelled:
    print("reporting", flush=True)
    while True:  # a reader of the report that never reads
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)
"""


def test_a_later_signal_ends_a_process_that_is_stuck_in_its_last_words() -> None:
    assert run_script(LATE) == (130, "reporting\n", "")


IGNORED = """
import asyncio, os, signal
from crossdock.cli.loop import run_until_done

async def work():
    os.kill(os.getpid(), signal.SIGHUP)
    await asyncio.sleep(0.05)
    return "done"

print(run_until_done(work()))
"""


def test_a_hang_up_that_nohup_ignores_stays_ignored() -> None:
    assert run_script(IGNORED, prefix=("env", "--ignore-signal=HUP")) == (0, "done\n", "")
