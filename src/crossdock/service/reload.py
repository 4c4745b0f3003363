"""Reloads the settings that need no restart: identities and rights."""

from __future__ import annotations

import logging
from pathlib import Path

from msgspec.structs import replace

from crossdock.errors import Advice, InvalidOption
from crossdock.service.config import Settings, read_settings
from crossdock.service.identity.rights import Rights
from crossdock.service.identity.tokens import Identity
from crossdock.service.web.service import Service

log = logging.getLogger(__name__)


class SettingsReload:
    """Reads the settings file again for a running service."""

    def __init__(self, service: Service, settings: Settings) -> None:
        self._service = service
        self._settings = settings

    def __call__(self) -> None:
        """Apply `identity`, its CA files and `principals`; log that other changes need a restart. Blocks.

        Raises `InvalidInput`, `InvalidOption`; nothing has changed then.
        """
        before = self._settings
        if not before.place:
            return
        after = read_settings(Path(before.place))
        if (after.identity is None) != (before.identity is None):
            raise InvalidOption(
                f"{before.place}: identity settings can only be added or removed by a restart",
                advice=Advice("restart", "restart the service"),
            )
        rights = Rights(after.principals)
        if after.identity != before.identity:
            self._service.identity = Identity(after.identity)
        else:  # the fetched keys are kept
            self._service.identity.reload_trust()
        self._service.rights = rights
        self._settings = replace(before, identity=after.identity, principals=after.principals)
        if after != self._settings:
            log.warning("%s: only identity and principals were reloaded; restart for the rest", before.place)
