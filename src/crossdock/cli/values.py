"""Values of flags: each converter raises `argparse.ArgumentTypeError` with words for a person."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from crossdock.errors import InvalidOption
from crossdock.options import expand_home

T = TypeVar("T")


def checked(
    convert: Callable[[str], T], check: Callable[[T], object] = lambda value: None
) -> Callable[[str], T]:
    """`convert` for argparse, which shows only messages of its own error. `check` may raise ValueError."""

    def value_of(text: str) -> T:
        try:
            value = convert(text)
            check(value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return value

    return value_of


def integer(text: str) -> int:
    """A whole number. Raises ValueError."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


def platform(text: str) -> str:
    """A platform, checked."""
    from crossdock.oci.platform import Platform

    try:
        Platform.parse(text)
    except InvalidOption as error:
        raise argparse.ArgumentTypeError(f"{error}; {error.hint}" if error.hint else str(error)) from None
    return text


def readable_file(text: str) -> Path:
    """A file that can be read, found out now rather than in the middle of a copy."""
    try:
        with open(found := file_path(text), "rb"):
            return found
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot read {text!r}: {error.strerror}") from None


def folder(text: str) -> str:
    """A folder's path, which need not exist."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError("is no folder")
    return expand_home(text, os.environ)


def folder_path(text: str) -> Path:
    """As `folder`."""
    return Path(folder(text))


def file_path(text: str) -> Path:
    """A file or folder, which need not exist."""
    return Path(expand_home(text, os.environ))


def location(text: str) -> str:
    """A source or target, which is parsed later."""
    if not text.startswith("oci:"):
        return text
    place, colon, rest = text.removeprefix("oci:").partition(":")
    return f"oci:{expand_home(place, os.environ)}{colon}{rest}"


def listen(text: str) -> str:
    """An address to listen on, checked."""
    from crossdock.listening import parse_listen

    try:
        parse_listen(text)
    except InvalidOption as error:
        raise argparse.ArgumentTypeError(f"{error}; {error.hint}") from None
    return text
