"""The service's settings: parsing, and errors with their line."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from crossdock.errors import InvalidInput
from crossdock.service.config import (
    IdentitySettings,
    Limits,
    PrincipalSettings,
    Role,
    Settings,
    Sources,
    StaticToken,
    parse_settings,
    read_settings,
    schema,
)
from crossdock.webtokens.values import Issuer

HASH = "ab" * 32
LOGIN = "https://login.example.com/T/v2.0"
WHOLE = f"""
identity:
  issuers:
    - issuer: "{LOGIN}"
      audiences: ["https://management.azure.com"]
      jwks_uri: "https://k.example/jwks"
      ca: ca.pem
  tokens:
    - {{name: ci, sha256: {HASH.upper()}}}
principals:
  - id: ci
    roles: [{{actions: [importImage, read, pull], registries: [myregistry, "*"]}}]
  - {{id: "0000", issuer: "{LOGIN}", roles: []}}
sources:
  allow: [docker.io, "*.Example.com", "127.0.0.1:5000"]
  private_addresses: ["10.0.0.0/8", "::1"]
  trust_proxy: true
limits:
  imports: 8
  imports_per_registry: 3
  queue: 10
  manifests_per_image: 0
  requests_per_minute: 60
  memory: 64MiB
  keep_results_days: 1
state: var
key_file: /etc/crossdock/key
tls: elsewhere
"""


def read(text: str) -> Settings:
    return parse_settings(text.encode(), "s.yaml", Path("/etc/crossdock"))


def test_all_keys_are_read() -> None:
    assert read(WHOLE) == Settings(
        identity=IdentitySettings(
            issuers=(
                Issuer(
                    issuer=LOGIN,
                    audiences=("https://management.azure.com",),
                    jwks_uri="https://k.example/jwks",
                    ca_file=Path("/etc/crossdock/ca.pem"),
                ),
            ),
            tokens=(StaticToken(name="ci", sha256=HASH),),
        ),
        principals=(
            PrincipalSettings(
                id="ci",
                roles=(Role(actions=("importImage", "read", "pull"), registries=("myregistry", "*")),),
            ),
            PrincipalSettings(id="0000", issuer=LOGIN, roles=()),
        ),
        sources=Sources(
            allow=("docker.io", "*.example.com", "127.0.0.1:5000"),
            private_addresses=(ip_network("10.0.0.0/8"), ip_network("::1")),
            trust_proxy=True,
        ),
        limits=Limits(
            imports=8,
            imports_per_registry=3,
            queue=10,
            manifests_per_image=0,
            requests_per_minute=60,
            memory=64 << 20,
            keep_results_days=1,
        ),
        state=Path("/etc/crossdock/var"),
        key_file=Path("/etc/crossdock/key"),
        tls="elsewhere",
        place="s.yaml",
    )


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}"])
def test_keys_left_out_have_their_defaults(text: str) -> None:
    assert read(text) == Settings(place="s.yaml")


TWO = """identity:
  issuers:
    - {issuer: "https://a.example", audiences: [x]}
    - {issuer: "https://b.example", audiences: [x]}
  tokens: [{name: ci, sha256: HASH}]
principals:
  - id: ci
    roles: []
""".replace("HASH", HASH)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("- a\n", 1, "the settings must be a mapping"),
        ("state: a\nstate: b\n", 2, "has the key 'state' twice"),
        ("\nlisten: x\n", 2, "unknown key 'listen'"),
        ("identity:\n  tokens: []\n", 2, "identity.tokens must not be empty"),
        ("identity:\n  issuers:\n  - issuer: https://a\n", 3, "identity.issuers[0] has no audiences"),
        ("identity:\n  issuers:\n  - {issuer: 'http://a', audiences: [x]}\n", 3, "is not of the form"),
        ("identity:\n  issuers:\n  - {issuer: 'https://u@a', audiences: [x]}\n", 3, "is not of the form"),
        ("identity:\n  issuers:\n  - {issuer: 'https://a', audiences: []}\n", 3, "must not be empty"),
        ("identity:\n  tokens:\n  - {name: ci, sha256: abc}\n", 3, "is not of the form"),
        ("identity:\n  tokens:\n  - {name: ci, token: abc}\n", 3, "unknown key 'token'"),
        (
            f"identity:\n  tokens:\n  - {{name: a, sha256: {HASH}}}\n  - {{name: a, sha256: {'CD' * 32}}}\n",
            4,
            "token 'a' is listed twice",
        ),
        (
            f"identity:\n  tokens:\n  - {{name: a, sha256: {HASH}}}\n  - {{name: b, sha256: {'AB' * 32}}}\n",
            4,
            "the same hash as another one",
        ),
        (TWO.replace("b.example", "a.example"), 4, "is listed twice"),
        (TWO + "  - id: x\n    roles: []\n", 9, "has no issuer, and there are several"),
        (
            TWO + "  - id: x\n    issuer: https://c.example\n    roles: []\n",
            10,
            "not one of identity.issuers",
        ),
        (TWO + "  - {id: ci, roles: []}\n", 9, "principal 'ci' is listed twice"),
        ("principals:\n- id: a\n", 2, "principals[0] has no roles"),
        (
            "principals:\n- id: a\n  roles:\n  - {actions: [push], registries: [a]}\n",
            4,
            "importImage or read or",
        ),
        ("principals:\n- id: a\n  roles:\n  - {actions: [pull]}\n", 4, "has no registries"),
        ("sources:\n  allow:\n  - 'https://docker.io'\n", 3, "sources.allow[0] is not of the form"),
        ("sources:\n  allow:\n  - 'a.*.io'\n", 3, "is not of the form"),
        ("sources:\n  private_addresses:\n  - 10.0.0.0/8\n  - 10.0.0.1/8\n", 4, "host bits"),
        ("sources:\n  private_addresses: [10.0.0.0/64]\n", 2, "10.0.0.0/64"),
        ("limits:\n  imports: 0\n", 2, "limits.imports must be from 1 to 1000"),
        ("limits:\n  imports: many\n", 2, "limits.imports must be a whole number"),
        ("limits:\n  imports: '3'\n", 2, "must be a whole number"),
        ("limits:\n  imports: 1e3\n", 2, "must be a whole number"),
        ("limits:\n  imports: [1]\n", 2, "must be a whole number, not a list"),
        ("limits:\n  queue:\n", 2, "limits.queue has no value"),
        ("limits:\n  memory: 256\n", 2, "limits.memory is not of the form"),
        ("key_file: a\nkey_env: B\n", 2, "contradict each other"),
        ("key_env: A B\n", 1, "key_env is not of the form"),
        ("state: 'a\n", 2, "this is not YAML"),
    ],
)
def test_a_mistake_is_reported_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(text)
    assert str(caught.value).startswith(f"s.yaml:{line}: ")
    assert words in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"the settings .*none\.yaml.* cannot be read: No such file"):
        read_settings(tmp_path / "none.yaml")


def test_the_documented_settings_are_read() -> None:
    page = (Path(__file__).parents[3] / "docs" / "service-identities.md").read_text()
    first = page[page.index("    identity:") : page.index("## Tokens")]
    settings = parse_settings(first.encode(), "page", Path("/etc/crossdock"))
    assert settings.identity is not None
    assert [each.name for each in settings.identity.tokens] == ["ci"]
    assert [role.registries for role in settings.principals[0].roles] == [
        ("myregistry",),
        ("team*", "registry.example.com:5000"),
    ]


# -- the published schema --------------------------------------------------------------------------------


def published(name: str = "") -> Any:
    return schema()["$defs"][name]["properties"] if name else schema()["properties"]


@pytest.mark.parametrize(
    ("name", "struct", "elsewhere"),
    [
        ("", Settings, {"place"}),
        ("identity", IdentitySettings, set()),
        ("token", StaticToken, set()),
        ("principal", PrincipalSettings, set()),
        ("role", Role, set()),
        ("sources", Sources, set()),
        ("limits", Limits, set()),
    ],
)
def test_the_schema_has_the_keys_of_the_values(name: str, struct: type[Any], elsewhere: set[str]) -> None:
    assert set(published(name)) == set(struct.__struct_fields__) - elsewhere


def test_an_issuers_keys_are_fetched_never_written_down() -> None:
    assert set(published("issuer")) == {"issuer", "audiences", "jwks_uri", "ca"}


def test_another_reader_of_the_schema_agrees() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    yaml = pytest.importorskip("yaml")
    jsonschema.Draft202012Validator.check_schema(schema())
    document = yaml.safe_load(WHOLE)
    jsonschema.validate(document, schema())
    for wrong in ({"listen": "x"}, {"limits": {"imports": 0}}, {"identity": {"tokens": []}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema())


def test_the_documentation_has_every_key_and_default() -> None:
    page = (Path(__file__).parents[3] / "docs" / "service.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    said = " ".join(row[0] for row in rows)
    for name in ("", *("identity", "issuer", "token", "principal", "role", "sources", "limits")):
        for key in published(name):
            assert key in said, key
    defaults = {row[0].removeprefix("| ").strip("`"): row[1] for row in rows}
    for key in published("limits"):
        default = getattr(Limits(), key)
        assert defaults[f"limits.{key}"] == ("256MiB" if key == "memory" else str(default))
    assert Limits().memory == 256 << 20


def test_each_of_several_mistakes_is_reported_with_its_line() -> None:
    text = b"limits:\n  imports: x\n  queue: -1\nfoo: 1\nsources:\n  allow: ['http://x', y.example, '#']\n"
    with pytest.raises(InvalidInput) as raised:
        parse_settings(text, "page", Path("/"))
    said = [each.partition(": ")[0] for each in str(raised.value).split("; ") if each.startswith("page:")]
    assert said == ["page:2", "page:3", "page:4", "page:6", "page:6"]


def test_of_very_many_mistakes_some_are_reported_and_the_others_counted() -> None:
    text = b"".join(b"key%d: 1\n" % number for number in range(100))
    with pytest.raises(InvalidInput, match=r"and 80 more$"):
        parse_settings(text, "page", Path("/"))
