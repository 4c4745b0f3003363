"""Signals end a run: the first in order, the second at once."""

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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
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
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()

run_until_done(work(), before_abort=lambda: print("told", flush=True))
"""


def test_a_second_signal_ends_a_stubborn_clean_up_at_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STUBBORN], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "told\n", "")
