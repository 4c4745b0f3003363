"""The hours of a day in which work may be begun."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import datetime

from msgspec import Struct

from crossdock.errors import InvalidInput
from crossdock.oci.text import quote

_HOURS = re.compile(r"(\d\d):(\d\d)\s*-\s*(\d\d):(\d\d)", re.ASCII)
_DAY = 24 * 60
LOOK_AGAIN_S = 60.0  # at the clock, outside the hours


class Hours(Struct, frozen=True):
    """From `start` to `stop`, in minutes since midnight, of local time. `stop` before `start` is the next
    day's."""

    start: int
    stop: int

    @classmethod
    def parse(cls, text: str) -> Hours:
        """The hours in ``20:00-06:00``; ``24:00`` is the end of a day. Raises `InvalidInput`."""
        parts = _HOURS.fullmatch(text.strip())
        if parts is None:
            raise InvalidInput(f"{quote(text)} is not of the form 20:00-06:00")
        hours, minutes = (int(parts[1]), int(parts[3])), (int(parts[2]), int(parts[4]))
        start, stop = (hour * 60 + minute for hour, minute in zip(hours, minutes, strict=True))
        if max(minutes) > 59 or start >= _DAY or stop > _DAY:
            raise InvalidInput(f"{quote(text)} has no such time of day")
        if start == stop:
            raise InvalidInput(f"{quote(text)} ends when it starts; 00:00-24:00 is the whole day")
        return cls(start, stop)

    def is_open(self, now: datetime) -> bool:
        """Whether work may be begun; `now` is local time."""
        minute = now.hour * 60 + now.minute
        if self.start < self.stop:
            return self.start <= minute < self.stop
        return minute >= self.start or minute < self.stop

    def seconds_until_open(self, now: datetime) -> float:
        """Seconds of the clock on the wall until work may be begun; 0 when it may be now.

        Where the clock is put forward or back meanwhile it is an hour less or more: look again then.
        """
        if self.is_open(now):
            return 0.0
        passed = (now.hour * 60 + now.minute) * 60 + now.second + now.microsecond / 1e6
        return (self.start * 60 - passed) % (_DAY * 60)

    async def wait(
        self,
        on_closed: Callable[[], None],
        *,
        clock: Callable[[], datetime] = datetime.now,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Return when work may be begun. `on_closed` is called if that is not now.

        `clock` gives local time; `sleep` waits so many seconds.
        """
        if not self.is_open(clock()):
            on_closed()
        while (left := self.seconds_until_open(clock())) > 0:
            await sleep(min(left, LOOK_AGAIN_S))

    def __str__(self) -> str:
        return "-".join(f"{each // 60:02}:{each % 60:02}" for each in (self.start, self.stop))
