"""The flags of commands that serve: where, and with which certificate."""

from __future__ import annotations

import argparse

from crossdock.cli.argumentvalues import listen, readable_file


def add_listening(parser: argparse.ArgumentParser, default: str) -> None:
    """Add ``--listen``, ``--cert`` and ``--key``; `default` is ``HOST:PORT``."""
    parser.add_argument(
        "--listen",
        type=listen,
        default=default,
        metavar="HOST:PORT",
        help=f"address to listen on; port 0 takes a free one (default {default})",
    )
    parser.add_argument(
        "--cert", type=readable_file, metavar="FILE", help="serve HTTPS with this certificate"
    )
    parser.add_argument(
        "--key", type=readable_file, metavar="FILE", help="its key, unless it is in the same file"
    )
