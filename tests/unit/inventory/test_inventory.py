"""The inventory: parsing, errors with their line, and look-ups."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from crossdock.errors import CredentialsError, InvalidInput
from crossdock.inventory.find import find_inventory, open_inventory
from crossdock.inventory.read import parse_inventory, schema
from crossdock.inventory.values import Entry, EntryCredentials, Inventory, ResourceId
from crossdock.options import CreateOptions, Credentials, RegistryOptions

SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
OTHER = "11111111-1111-1111-1111-111111111111"
WHOLE = f"""
registries:
  - name: myregistry                  # ARM resource name
    login_server: 127.0.0.1:5001      # default NAME.azurecr.io
    subscription: {SUBSCRIPTION}
    resource_group: rg
    credentials: {{username: u, password_env: MY_PASSWORD}}
    tls: {{ca: ca.pem, plain_http: false}}
    public_network_access: Disabled
    network_rule_bypass_options: None
    export_policy: disabled
    location: westeurope
  - name: other
hosts:
  docker.io: 127.0.0.1:5002
  mcr.microsoft.com: 127.0.0.1:5003
"""


def read(text: str, folder: Path = Path("/etc/crossdock")) -> Inventory:
    return parse_inventory(text.encode(), "inv.yaml", folder)


def test_all_keys_of_the_documentation_are_read() -> None:
    inventory = read(WHOLE)
    assert inventory.registries[0] == Entry(
        name="myregistry",
        login_server="127.0.0.1:5001",
        subscription=SUBSCRIPTION,
        resource_group="rg",
        location="westeurope",
        credentials=EntryCredentials(username="u", password_env="MY_PASSWORD"),
        ca_file=Path("/etc/crossdock/ca.pem"),
        public_network_access="Disabled",
        network_rule_bypass_options="None",
        export_policy="disabled",
        place="inv.yaml:3",
    )
    assert inventory.registries[1] == Entry(
        name="other", login_server="other.azurecr.io", place="inv.yaml:13"
    )
    assert inventory.hosts == {"docker.io": "127.0.0.1:5002", "mcr.microsoft.com": "127.0.0.1:5003"}


def test_an_empty_file_is_an_empty_inventory() -> None:
    assert read("# nothing yet\n") == Inventory(place="inv.yaml")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("registries: []\nhots: {}\n", 2, "unknown key 'hots'"),
        ("registries:\n  - name: a\n    login: b\n", 3, "unknown key 'login'"),
        ("registries:\n  - name: a\n    tls:\n      insecure: true\n", 4, "unknown key 'insecure'"),
        ("registries:\n  - name: a\n    credentials:\n      password: x\n", 4, "unknown key 'password'"),
        ("registries:\n  - login_server: a.example\n", 2, "has no name"),
        ("registries:\n  - name: [a]\n", 2, "must be a string, not a list"),
        ("registries: {}\n", 1, "must be a list, not a mapping"),
        ("registries:\n  - a\n", 2, "must be a mapping, not a string"),
        ("registries:\n  - name: a\n    location:\n", 3, "has no value"),
        ("registries:\n  - name: a\n    tls: {plain_http: 'true'}\n", 3, "true or false"),
        ("registries:\n  - name: a\n    tls: {plain_http: true, ca: x}\n", 3, "contradict"),
        ("registries:\n  - name: a\n    export_policy: off\n", 3, "enabled or disabled"),
        ("registries:\n  - name: a\n    public_network_access: enabled\n", 3, "Enabled or Disabled"),
        ("registries:\n  - name: a\n    login_server: https://a.example\n", 3, "login_server is not"),
        ("registries:\n  - name: a\n    login_server: a.example:99999\n", 3, "port"),
        ("registries:\n  - name: a\n    credentials: {username: u}\n", 3, "credentials must have"),
        (
            "registries:\n  - name: a\n    credentials: {username: u, password_env: A, helper: h}\n",
            3,
            "credentials must have",
        ),
        ("registries:\n  - name: a\n\n  - name: A\n", 4, "is the same as that of inv.yaml:2"),
        ("registries:\n  - name: a\n    name: b\n", 3, "'name' twice"),
        ("hosts:\n  docker.io: 5002/x\n", 2, "not of the form"),
        ("hosts:\n  docker.io: 127.0.0.1:0\n", 2, "the port from 1 to 65535"),
        ("hosts:\n  docker.io: 5002\n", 2, "put it in quotes"),
        ("registries:\n  - name: a\n    subscription: 1234\n", 3, "put it in quotes"),
        ("registries:\n  - name: a\n    credentials: {helper: ../h}\n", 3, "not of the form"),
        ("hosts:\n  docker.io/library: 127.0.0.1:1\n", 2, "a key of hosts"),
        ("hosts:\n  a.example: b\n  A.example: c\n", 3, "twice"),
        ("hosts: [\n", 2, "not YAML"),
        ("a: b\n  c: d\n", 2, "not YAML"),
    ],
)
def test_a_mistake_is_reported_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        read(text)
    assert str(raised.value).startswith(f"inv.yaml:{line}: ")
    assert words in str(raised.value)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a: \x01"])
def test_a_file_that_is_not_text_is_refused_by_its_name(data: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"inv\.yaml"):
        parse_inventory(data, "inv.yaml", Path())


@pytest.mark.parametrize(
    "port", [0, 1, 9, 80, 9999, 10000, 59999, 60000, 64999, 65000, 65535, 65536, 70000, 100000]
)
def test_the_schema_itself_says_what_a_port_is(port: int) -> None:
    form = schema()["$defs"]["host"]["pattern"]
    assert (re.search(form, f"a.example:{port}") is not None) is (1 <= port <= 65535)


def test_a_secret_is_not_read_for_who_has_credentials_of_their_own() -> None:
    inventory = read("registries:\n  - name: a\n    credentials: {username: u, password_env: P}\n")
    assert inventory.options_for("a.azurecr.io", {}, with_credentials=False) == RegistryOptions()
    with pytest.raises(CredentialsError, match="P, the environment variable of its password, is not set"):
        inventory.options_for("a.azurecr.io", {})


def test_the_schema_is_a_schema_of_each_value() -> None:
    document = schema()
    assert json.dumps(document)
    assert set(document["$defs"]["registry"]["properties"]) == {
        *("name", "login_server", "subscription", "resource_group", "credentials", "tls", "upload", "create"),
        *("kind", "limits", "mounts", "referrers", "lists", "ranges", "head"),
        *("public_network_access", "network_rule_bypass_options", "export_policy", "location"),
    }


def test_an_entry_says_whether_missing_repositories_are_created() -> None:
    text = "registries: [{name: a, create: {immutable: true, scan: true}}, {name: b, create: {}}, {name: c}]"
    inventory = parse_inventory(text.encode(), "i.yaml", Path())
    found = [inventory.options_for(f"{name}.azurecr.io", {}) for name in "abc"]
    assert [each and each.create for each in found] == [
        CreateOptions(immutable=True, scan=True),
        CreateOptions(),
        None,
    ]
    with pytest.raises(InvalidInput, match=r"i\.yaml:1: .*scan"):
        parse_inventory(b"registries: [{name: a, create: {scan: 1}}]", "i.yaml", Path())


def test_an_entry_says_how_blobs_are_uploaded_to_it() -> None:
    text = """
registries:
  - {name: a, upload: {min_chunk: 5MiB, max_chunk: 10MiB, chunk_multiple: 1MiB}}
  - {name: b, kind: ecr, upload: {chunk: 10MiB}, limits: {blob: 1GiB}, mounts: never}
  - {name: c}
"""
    inventory = parse_inventory(text.encode(), "i.yaml", Path())
    a, b, c = (inventory.options_for(f"{name}.azurecr.io", {}) for name in "abc")
    assert a is not None
    assert b is not None
    assert c is not None
    assert (a.kind, dict(a.values)) == (
        "",
        {"upload.min_chunk": "5MiB", "upload.max_chunk": "10MiB", "upload.chunk_multiple": "1MiB"},
    )
    assert (b.kind, dict(b.values)) == (
        "ecr",
        {"upload.chunk": "10MiB", "limits.blob": "1GiB", "mounts": "never"},
    )
    assert (c.kind, c.values) == ("", ())
    assert RegistryOptions(helper="h").over(a).values == a.values


def test_kinds_of_its_own() -> None:
    text = """
kinds:
  corp: {like: harbor, hosts: ["*.corp.example"], limits: {blob: 20GiB}, answers: [{server: "corp/*"}]}
"""
    assert parse_inventory(text.encode(), "i.yaml", Path()).kinds == {
        "corp": {
            "like": "harbor",
            "hosts": ["*.corp.example"],
            "limits.blob": "20GiB",
            "answers": [{"server": "corp/*"}],
        }
    }


@pytest.mark.parametrize(
    ("upload", "words"),
    [
        ("{max_chunk: 0}", "i.yaml:2"),
        ("{max_chunk: ten}", "i.yaml:2"),
        ("{dialect: other}", "i.yaml:2"),
        ("{chunk: 5MiB, max_chunk: 5MiB}", "i.yaml:2: upload: chunk is exact"),
        ("{min_chunk: 6MiB, max_chunk: 5MiB}", "i.yaml:2: upload: no chunk is within"),
    ],
)
def test_an_upload_that_cannot_be_is_refused_with_its_line(upload: str, words: str) -> None:
    text = f"registries:\n  - {{name: a, upload: {upload}}}\n"
    with pytest.raises(InvalidInput, match=words):
        parse_inventory(text.encode(), "i.yaml", Path())


# -- finding ---------------------------------------------------------------------------------------------

TWINS = f"""
registries:
  - {{name: twin, subscription: {SUBSCRIPTION}, resource_group: rg, login_server: "127.0.0.1:1"}}
  - {{name: twin, subscription: {OTHER}, resource_group: rg, login_server: "127.0.0.1:2"}}
  - {{name: alone, login_server: alone.example}}
"""


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("alone", "alone.example"),
        ("ALONE", "alone.example"),
        ("Alone.Example", "alone.example"),
        ("alone.azurecr.io", "alone.example"),
        ("127.0.0.1:2", "127.0.0.1:2"),
        (str(ResourceId(OTHER, "RG", "Twin")), "127.0.0.1:2"),
        (str(ResourceId(SUBSCRIPTION, "rg", "twin")).lower(), "127.0.0.1:1"),
        (str(ResourceId("any", "any", "alone")), "alone.example"),
        ("nobody", None),
        (str(ResourceId("third", "rg", "twin")), None),
        (str(ResourceId(OTHER, "another", "twin")), None),
    ],
)
def test_a_registry_is_found_by_name_login_server_or_resource_id(text: str, server: str | None) -> None:
    found = read(TWINS).find(text)
    assert (found.login_server if found else None) == server


def test_two_of_one_name_are_distinguished_by_their_subscription() -> None:
    inventory = read(TWINS)
    found = inventory.find("twin", subscription=OTHER)
    assert found is not None
    assert found.login_server == "127.0.0.1:2"
    with pytest.raises(InvalidInput, match=r"More than one registries were found by twin: inv.yaml:3, inv"):
        inventory.find("twin", resource_group="rg")


# -- secrets ---------------------------------------------------------------------------------------------


def test_secrets_are_read_when_they_are_needed(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("pass\n")
    (tmp_path / "t").write_text("token\r\n")
    ways = {
        "{username: u, password_env: P}": RegistryOptions(credentials=Credentials("u", "env")),
        "{username: u, password_file: p}": RegistryOptions(credentials=Credentials("u", "pass")),
        "{token_file: t}": RegistryOptions(credentials=Credentials("", "token")),
        "{helper: ecr-login}": RegistryOptions(helper="ecr-login"),
    }
    for way, options in ways.items():
        inventory = read(f"registries: [{{name: a, login_server: a.example, credentials: {way}}}]", tmp_path)
        assert inventory.options_for("A.example", {"P": "env"}) == options


@pytest.mark.parametrize("way", ["password_env: P", "password_file: none", "password_file: empty"])
def test_a_secret_that_is_not_there_names_the_entry(way: str, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    text = f"registries:\n  - {{name: a, credentials: {{username: u, {way}}}}}"
    with pytest.raises(CredentialsError, match=r"inv\.yaml:2: registry a: "):
        read(text, tmp_path).options_for("a.azurecr.io", {})


def test_entries_with_one_login_server_and_other_credentials_are_ambiguous_for_a_bare_reference() -> None:
    text = "registries: [{name: a, subscription: s}, {name: a, subscription: t, credentials: {helper: h}}]"
    with pytest.raises(InvalidInput, match="several registries"):
        read(text).options_for("a.azurecr.io", {})


def test_a_flag_goes_before_the_entry() -> None:
    entry = RegistryOptions(credentials=Credentials("u", "p"), ca_file=Path("ca"))
    assert RegistryOptions().over(entry) == entry
    flags = RegistryOptions(credentials=Credentials("v", "q"), plain_http=True)
    assert flags.over(entry) == flags


# -- hosts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "port", "place"),
    [
        ("docker.io", 443, ("127.0.0.1", 5002)),
        ("registry-1.docker.io", 443, ("127.0.0.1", 5002)),
        ("auth.docker.io", 443, None),
        ("plain.example", 80, ("10.0.0.1", 80)),
        ("plain.example", 8080, ("10.0.0.1", 8080)),
        ("port.example", 5000, ("::1", 6000)),
        ("port.example", 5001, None),
        ("V6.example", 443, ("::1", 443)),
        ("::2", 443, ("::1", 7000)),
    ],
)
def test_hosts_are_served_where_the_map_says(host: str, port: int, place: tuple[str, int] | None) -> None:
    inventory = read(
        "hosts:\n  docker.io: 127.0.0.1:5002\n  plain.example: 10.0.0.1\n"
        '  port.example:5000: "[::1]:6000"\n  v6.EXAMPLE: "[::1]"\n  "[::2]": "[::1]:7000"\n'
    )
    assert inventory.served_at(host, port) == place


# -- the file --------------------------------------------------------------------------------------------


def test_the_file_is_the_named_one_else_the_environments_else_the_usual_one(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    assert open_inventory(None, home) is None
    usual = tmp_path / ".config" / "crossdock" / "inventory.yaml"
    usual.parent.mkdir(parents=True)
    usual.write_text("hosts: {a.example: b.example}")
    assert find_inventory(None, home) == usual
    assert find_inventory(None, {**home, "XDG_CONFIG_HOME": str(tmp_path / ".config")}) == usual
    assert find_inventory(None, {**home, "CROSSDOCK_INVENTORY": "/e"}) == Path("/e")
    assert find_inventory("/n", {**home, "CROSSDOCK_INVENTORY": "/e"}) == Path("/n")
    inventory = open_inventory(None, home)
    assert inventory is not None
    assert inventory.hosts == {"a.example": "b.example"}


def test_a_named_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="No such file"):
        open_inventory(str(tmp_path / "none"), {})
