"""Converters for the values of flags. Those for argparse raise `argparse.ArgumentTypeError`."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from crossdock.errors import Advice, InvalidOption
from crossdock.options import expand_home

T = TypeVar("T")


class WrongValue(argparse.ArgumentTypeError):
    """The value of a flag is wrong; ``advice`` is printed below the error."""

    def __init__(self, message: str, advice: Advice | None = None) -> None:
        super().__init__(message)
        self.advice = advice


def checked(
    convert: Callable[[str], T], check: Callable[[T], object] = lambda value: None
) -> Callable[[str], T]:
    """A converter for argparse: `convert`, then `check`, with `WrongValue` in place of ValueError."""

    def value_of(text: str) -> T:
        try:
            value = convert(text)
            check(value)
        except ValueError as error:
            raise WrongValue(str(error), getattr(error, "advice", None)) from None
        return value

    return value_of


def integer(text: str) -> int:
    """A whole number. Raises ValueError."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


def number(text: str) -> float:
    """A number, with or without decimals. Raises ValueError."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ValueError(f"{text!r} is not a number")
    return found


def platform(text: str) -> str:
    """A platform, checked but unchanged."""
    from crossdock.oci.platform import Platform

    try:
        Platform.parse(text)
    except InvalidOption as error:
        raise WrongValue(str(error), error.advice) from None
    return text


def readable_file(text: str) -> Path:
    """The path of a file, which is opened now, so that a copy does not fail later."""
    try:
        with open(found := file_path(text), "rb"):
            return found
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot read {text!r}: {error.strerror}") from None


def folder(text: str) -> str:
    """A folder's path, which need not exist."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError("is not a folder")
    return expand_home(text, os.environ)


def folder_path(text: str) -> Path:
    """As `folder`."""
    return Path(folder(text))


def file_path(text: str) -> Path:
    """The path of a file or folder, which need not exist."""
    return Path(expand_home(text, os.environ))


def location(text: str) -> str:
    """A reference, which is parsed later; ``~/`` in the folder of a layout is expanded."""
    from crossdock.oci.reference import scheme_of  # help has no reference

    if scheme_of(text) is None:
        return text
    scheme, place, *rest = text.split(":", 2)
    return ":".join([scheme, expand_home(place, os.environ), *rest])


def listen(text: str) -> str:
    """An address to listen on, checked but unchanged."""
    from crossdock.listening import parse_listen

    try:
        parse_listen(text)
    except InvalidOption as error:
        raise WrongValue(str(error), error.advice) from None
    return text


def archive_path(text: str) -> str:
    """The file of ``[oci-archive:|docker-archive:]FILE``; its content shows the format."""
    return text.removeprefix("docker-archive:").removeprefix("oci-archive:")
