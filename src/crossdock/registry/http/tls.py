"""Which certificates are trusted and shown, per host. Verification is never off.

Roots: the system's, plus the side's ``ca_file`` for every host of that side (its token service and storage
are usually signed by the same private CA), plus ``*.crt`` of the host's ``certs.d`` directory.

A client certificate is shown to the registry's own host and port alone, never across a redirect: the side's
``cert_file``, else a ``*.cert`` with its ``*.key`` in ``certs.d``.

``certs.d`` is docker's and podman's: the first existing directory of ``HOST:PORT`` (and ``HOST`` for port
443) below ``~/.config/containers/certs.d``, ``~/.config/docker/certs.d``, ``/etc/containers/certs.d``,
``/etc/docker/certs.d``.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path

from crossdock.errors import Advice, InvalidOption, Side
from crossdock.options import RegistryOptions
from crossdock.transport.base import TlsSettings

_CERTS_D = Advice("repair-file")
SYSTEM_CERTS_DIRS = (Path("/etc/containers/certs.d"), Path("/etc/docker/certs.d"))


def certs_dirs(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """The base directories, the person's own first."""
    home = environ.get("HOME", "")
    own = tuple(Path(home, ".config", tool, "certs.d") for tool in ("containers", "docker")) if home else ()
    return own + SYSTEM_CERTS_DIRS


class TlsContexts:
    """TLS settings of one side, made when first needed (each takes about 20 ms) and kept."""

    def __init__(
        self, options: RegistryOptions, *, side: Side, host: str, port: int, base_dirs: Sequence[Path] = ()
    ) -> None:
        """`host` and `port` are the registry's own. Nothing is read yet."""
        self._options = options
        self._side = side
        self._entry = options.tls_entry or ("", "")
        self._own = (host.lower(), port)
        self._base_dirs = tuple(base_dirs)
        self._common: TlsSettings | None = None
        self._settings: dict[tuple[str, int], TlsSettings] = {}

    def settings_for(self, host: str, port: int) -> TlsSettings:
        """For connections to `host` and `port`, the same object every time: the context, and the client
        certificates that were loaded into it.

        Raises `InvalidOption` when a certificate or key cannot be loaded; the message names the file.
        """
        key = (host.lower(), port)
        settings = self._settings.get(key)
        if settings is None:
            settings = self._settings[key] = self._make(key)
        return settings

    def _make(self, key: tuple[str, int]) -> TlsSettings:
        directory = self._certs_dir(*key)
        shows_certificate = key == self._own and self._options.cert_file is not None
        if directory is None and not shows_certificate:
            if self._common is None:
                self._common = TlsSettings(self._base_context(), (), self._entry)
            return self._common
        context = self._base_context()
        pairs: list[tuple[Path, Path]] = []
        if directory is not None:
            with_pairs = key == self._own and not shows_certificate
            pairs += self._load_directory(context, directory, with_pairs=with_pairs)
        if shows_certificate and self._options.cert_file is not None:
            key_file = self._options.key_file or self._options.cert_file
            _load_pair(context, self._options.cert_file, key_file, self._advice("cert_file"))
            pairs.append((self._options.cert_file, key_file))
        return TlsSettings(context, tuple(pairs), self._entry)

    def _base_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        context.options |= ssl.OP_NO_RENEGOTIATION  # as Go's clients; rustls has none
        if self._options.ca_file is not None:
            _load_roots(context, self._options.ca_file, self._advice("ca_file", *self._entry))
        return context

    def _advice(self, option: str, file: str = "", entry: str = "") -> Advice:
        return Advice("correct-option", side=self._side, option=option, file=file, entry=entry)

    def _certs_dir(self, host: str, port: int) -> Path | None:
        literal = f"[{host}]" if ":" in host else host
        names = [f"{literal}:{port}", literal] if port == 443 else [f"{literal}:{port}"]
        for base in self._base_dirs:
            for name in names:
                directory = base / name
                try:
                    if directory.is_dir():
                        return directory
                except OSError:  # a base directory of another user: docker and podman pass over it as well
                    continue
        return None

    def _load_directory(
        self, context: ssl.SSLContext, directory: Path, *, with_pairs: bool
    ) -> list[tuple[Path, Path]]:
        """Returns the pairs that were loaded."""
        try:
            files = sorted(directory.iterdir())
        except OSError as error:
            raise InvalidOption(f"certificates of {directory} cannot be read: {error.strerror}") from None
        pairs: list[tuple[Path, Path]] = []
        for file in files:
            if file.suffix == ".crt":
                _load_roots(context, file, _CERTS_D)
            elif file.suffix == ".cert" and with_pairs:
                key_file = file.with_suffix(".key")
                if not key_file.exists():
                    raise InvalidOption(
                        f"client certificate {file} has no key {key_file.name} beside it", advice=_CERTS_D
                    )
                _load_pair(context, file, key_file, _CERTS_D)
                pairs.append((file, key_file))
        return pairs


def _load_roots(context: ssl.SSLContext, file: Path, advice: Advice) -> None:
    try:
        context.load_verify_locations(cafile=file)
    except ssl.SSLError:
        raise InvalidOption(f"CA file {file} holds no certificate in PEM form", advice=advice) from None
    except OSError as error:
        raise InvalidOption(f"CA file {file} cannot be read: {error.strerror}", advice=advice) from None


def _load_pair(context: ssl.SSLContext, cert_file: Path, key_file: Path, advice: Advice) -> None:
    def no_passphrase() -> str:
        # Without this OpenSSL would ask on the terminal and wait for ever.
        raise InvalidOption(
            f"the key {key_file} is encrypted",
            advice=advice.replace(kind="decrypt-key"),
        )

    pair = f"client certificate {cert_file} with key {key_file}"
    try:
        context.load_cert_chain(cert_file, key_file, password=no_passphrase)
    except ssl.SSLError as error:
        reason = (error.reason or "not in PEM form").lower().replace("_", " ")
        raise InvalidOption(f"{pair} cannot be used: {reason}", advice=advice) from None
    except OSError as error:
        raise InvalidOption(f"{pair} cannot be read: {error.strerror}", advice=advice) from None
