"""Which addresses and options a cluster may be used with."""

from __future__ import annotations

import pytest

from crossdock.clusters.place import ClusterPlace
from crossdock.errors import InvalidOption
from crossdock.options import CopyOptions, Credentials, RegistryOptions

SECRET = CopyOptions(source=RegistryOptions(credentials=Credentials("user", "secret")))
HELPER = CopyOptions(source=RegistryOptions(helper="pass"))


@pytest.mark.parametrize(
    ("address", "options"),
    [
        (None, SECRET),
        ("tls://scheduler:8786", SECRET),
        ("tcp://127.0.0.1:8786", SECRET),
        ("tcp://[::1]:8786", SECRET),
        ("tcp://localhost:8786", SECRET),
        ("tcp://scheduler:8786", CopyOptions()),
        ("tcp://192.0.2.1:8786", HELPER),  # the name of a helper is no secret
    ],
)
def test_what_may_be_sent(address: str | None, options: CopyOptions) -> None:
    ClusterPlace(address=address).check(options)


@pytest.mark.parametrize(
    ("place", "options", "said"),
    [
        (ClusterPlace(address="tcp://192.0.2.1:8786"), SECRET, "192.0.2.1 unencrypted"),
        (ClusterPlace(address="tcp://scheduler:8786"), SECRET, "scheduler unencrypted"),
        (ClusterPlace(address="http://127.0.0.1:1"), CopyOptions(), "tcp://HOST:PORT"),
        (ClusterPlace(address="scheduler:8786"), CopyOptions(), "tcp://HOST:PORT"),
        (ClusterPlace(address="tcp://scheduler"), CopyOptions(), "tcp://HOST:PORT"),
        (ClusterPlace(address="tcp://scheduler:x"), CopyOptions(), "tcp://HOST:PORT"),
        (ClusterPlace(address="tcp://scheduler:1", ca_file="ca.pem"), CopyOptions(), "for tls://"),
        (ClusterPlace(workers=2, ca_file="ca.pem"), CopyOptions(), "for the address"),
    ],
)
def test_what_may_not(place: ClusterPlace, options: CopyOptions, said: str) -> None:
    with pytest.raises(InvalidOption, match=said):
        place.check(options)


def test_without_tls_urls_of_uploads_do_not_travel() -> None:
    assert ClusterPlace(address="tls://scheduler:1").is_private
    assert not ClusterPlace(address="tcp://scheduler:1").is_private
