"""Stop signals of a process: the first one asks for an orderly end, a later one for an immediate end."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Sequence

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# GNU timeout signals its child and then the child's process group; a supervisor that kills a group does the
# same. So one request to stop arrives as two signals within microseconds; only a later one means "now".
AGAIN_AFTER_S = 1.0


def catch_stop_signals(
    stop: Callable[[], None],
    abort: Callable[[signal.Signals], None],
    numbers: Sequence[signal.Signals] = STOP_SIGNALS,
) -> Callable[[], None]:
    """Call `stop` at the first of the signals `numbers`, and `abort` at one that comes `AGAIN_AFTER_S` later.

    Signals in between are dropped. SIGHUP stays ignored where the caller ignores it (``nohup``). Needs a
    running event loop in the main thread. The returned function restores the previous handlers; after a first
    signal the rule stays in force instead, while the last output is written.
    """
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in numbers}
    caught = [number for number in numbers if (number, before[number]) != (signal.SIGHUP, signal.SIG_IGN)]
    first: float | None = None

    def arrived(number: signal.Signals) -> None:
        nonlocal first
        now = time.monotonic()
        if first is None:
            first = now
            stop()
        elif now - first >= AGAIN_AFTER_S:
            abort(number)

    def restore() -> None:
        for number in caught:
            loop.remove_signal_handler(number)
            signal.signal(
                number, before[number] if first is None else lambda late, _: arrived(signal.Signals(late))
            )

    for number in caught:
        loop.add_signal_handler(number, arrived, number)
    return restore
