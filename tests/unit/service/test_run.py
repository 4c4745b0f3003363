"""Where the service refuses to start."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from msgspec.structs import replace

from crossdock.cli.command import run as run_command
from crossdock.cli.commands import serve as command
from crossdock.errors import InvalidOption
from crossdock.inventory.values import Entry, Inventory
from crossdock.service.config import IdentitySettings, Settings
from crossdock.service.run import GROUP, SUBSCRIPTION, ServiceOptions, complete, run

CERT = Path("cert.pem")
KNOWN = Settings(identity=IdentitySettings())


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.0.2.1", "example.com"])
@pytest.mark.parametrize(
    ("settings", "cert", "words"),
    [
        (Settings(), CERT, "anybody could import"),
        (Settings(), None, "anybody could import"),
        (KNOWN, None, "tokens would be sent in clear"),
        (replace(KNOWN, identity=None, tls="elsewhere"), None, "anybody could import"),
        (replace(KNOWN, tls="elsewhere"), CERT, "can have no certificate of its own"),
    ],
)
def test_off_loopback_it_needs_identities_and_a_certificate(
    host: str, settings: Settings, cert: Path | None, words: str, tmp_path: Path
) -> None:
    options = ServiceOptions(
        inventory=Inventory(), listen=f"{host}:0", cert=cert, state=tmp_path, settings=settings
    )
    with pytest.raises(InvalidOption, match=words):
        run(options, {}, lambda url, page: pytest.fail("it listens"))


class _Listening(Exception):
    """It gets as far as listening."""


@pytest.mark.parametrize(
    ("settings", "by_flag"), [(KNOWN, True), (replace(KNOWN, tls="elsewhere"), False)], ids=["flag", "key"]
)
def test_off_loopback_it_needs_no_certificate_when_tls_is_ended_elsewhere(
    settings: Settings, by_flag: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def ready(url: str, page: str) -> None:
        assert not page
        assert url.startswith("http://0.0.0.0:")
        raise _Listening

    options = ServiceOptions(
        inventory=Inventory(),
        listen="0.0.0.0:0",
        tls_ended_elsewhere=by_flag,
        state=tmp_path,
        settings=settings,
    )
    with pytest.raises(_Listening):
        run(options, {}, ready)
    assert "only the proxy may reach it" in caplog.text


def test_registries_that_say_no_subscription_get_one() -> None:
    bare = Entry(name="bare", login_server="a.test")
    (found,) = complete(Inventory(registries=(bare,))).registries
    assert (found.subscription, found.resource_group) == (SUBSCRIPTION, GROUP)
    full = Entry(name="full", login_server="b.test", subscription="s", resource_group="g")
    found, same = complete(Inventory(registries=(bare, full))).registries
    assert (found.subscription, found.resource_group) == ("s", GROUP)
    assert same == full


def test_without_its_packages_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "jwt" else real(name))
    assert run_command(["serve", "--inventory", "none.yaml"]) == 2
    assert "crossdock[service]" in capsys.readouterr().err
