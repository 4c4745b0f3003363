"""What ends a request early, as Azure Resource Manager says it."""

from __future__ import annotations

from typing import NoReturn

from crossdock.service.identity.tokens import Refused
from crossdock.service.values import Problem


def refuse(status: int, code: str, message: str, *, target: str = "") -> NoReturn:
    """Raise `Refused` in these words. No header goes with it, ``Retry-After`` least of all."""
    raise Refused(Problem(status=status, code=code, message=message, target=target), {})
