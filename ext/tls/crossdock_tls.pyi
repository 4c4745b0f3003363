from collections.abc import Callable
from typing import final

__version__: str

__sources__: str | None
"""A digest of the sources, from `scripts/tls`; None: built in another way."""

class TlsError(Exception):
    """``args``: the message; the number of the alert that the peer sent, or None."""

@final
class Client:
    """Cipher suites, versions and the client certificate. Immutable; may be used by any thread."""

    def __new__(
        cls,
        *,
        suites: list[int],
        tls13: bool,
        certificate: bytes | None = None,
        key: bytes | None = None,
    ) -> Client:
        """`suites`: IANA numbers, the preferred first; unknown ones are ignored. TLS 1.2 is
        offered when one of them is of TLS 1.2, TLS 1.3 likewise when `tls13`. `certificate` and `key`: PEM.

        Raises ValueError for a certificate or key that cannot be used, and when no suite is left.
        """

    def session(self, host: str, memory: Memory, verify: Callable[[list[bytes]], None]) -> Session:
        """A new session with the server `host`, a DNS name in ASCII or an IP address.

        `memory` takes the ciphertext of one session at a time. `verify` is called with the server's chain,
        DER, its own certificate first, before the server has proved that it holds the key, and raises to
        refuse it.
        Raises ValueError for a host that is neither.
        """

@final
class Memory:
    """Memory that takes the ciphertext of many sessions in turn, and so stays in the processor's cache."""

    def __new__(cls, size: int) -> Memory:
        """`size` in bytes. Raises ValueError when it does not hold two records."""

@final
class Session:
    """One TLS session. One thread at a time; a second one gets RuntimeError."""

    @property
    def asked(self) -> bool:
        """The server asked for a client certificate."""

    @property
    def closed(self) -> bool:
        """The peer has sent close_notify, and everything before it is delivered."""

    def get_buffer(self) -> memoryview:
        """Memory for the next ciphertext, never empty, valid until `received`.

        Raises BufferError when it is full of ciphertext that `read_into` has not taken, and when another
        session has received and neither read nor written since.
        """

    def received(self, count: int) -> None:
        """`count` bytes of ciphertext are in the buffer. Raises ValueError for more than it holds."""

    def handshake(self) -> bool:
        """Continue as far as the received bytes allow; True when the session is ready.

        Raises the exceptions of `verify`, and TlsError. There may be an alert to `take` afterwards.
        """

    def read_into(self, buffer: memoryview) -> int:
        """Fill `buffer` with plaintext as far as there is any, with the GIL released. Raises TlsError.

        Memory behind the plaintext may be cleared. After a TlsError every later call raises it too.
        """

    def write(self, data: memoryview) -> None:
        """Encrypt all of `data`, with the GIL released. Raises TlsError."""

    def take(self) -> bytes | memoryview:
        """The ciphertext to be sent, in order; empty when there is none. A view's memory is reused when the
        view and all slices of it are gone."""

    def close(self) -> None:
        """Queue close_notify. Raises TlsError."""
