"""The steps of a copy, as its errors name them."""

from __future__ import annotations

from crossdock.errors import Cancelled, CopyError, CrossdockError, Side, UploadInterrupted

_COMPLETE = (CopyError, Cancelled, UploadInterrupted)  # name their step already, or are not failures


class during:
    """In a ``with`` block: turn an error into the `CopyError` that names step, side and place."""

    __slots__ = ("_names_side", "_operation", "_reference", "_side")

    def __init__(self, operation: str, side: Side, reference: str, *, names_side: bool = True) -> None:
        self._operation = operation
        self._side = side
        self._reference = reference
        self._names_side = names_side

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, CrossdockError) and not isinstance(error, _COMPLETE):
            side = f" {self._side}" if self._names_side else ""
            raise CopyError(
                f"{self._operation}{side} {self._reference}: {error}",
                operation=self._operation,
                side=self._side,
                reference=self._reference,
                cause=error,
                names_side=self._names_side,
            ) from error


def named(error: CrossdockError, operation: str, side: Side, reference: str) -> CrossdockError:
    """The error that `during` would raise for `error`."""
    try:
        with during(operation, side, reference):
            raise error
    except CrossdockError as found:
        return found
