"""The words of an import: az's checks in their order with their texts, and the body they become."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from crossdock.acr.command import NO_PASSWORD, NO_SOURCE_REGISTRY, Checked, ImportWords, check_words
from crossdock.acr.names import NAME_RULE, NO_SOURCE, NOT_QUALIFIED, REGIONAL, WRONG_SUFFIX
from crossdock.acr.plan import ImportPlan, check_plans, make_plan, options_of_all, plan_options
from crossdock.acr.request import ImportRequest, ImportSource, SourceCredentials
from crossdock.errors import CredentialsError, InvalidInput, PolicyRefused
from crossdock.inventory.values import Entry, EntryCredentials, Inventory, ResourceId
from crossdock.options import CopyOptions, Credentials

ONE, TWO = "sub-one", "sub-two"
SOURCE_ID = str(ResourceId(TWO, "rg2", "mysourceregistry"))
TARGET = Entry(name="myregistry", login_server="127.0.0.1:5001", subscription=ONE, resource_group="rg")
SOURCE = Entry(
    name="mysourceregistry",
    login_server="mysourceregistry.azurecr.io",
    subscription=TWO,
    resource_group="rg2",
)
INVENTORY = Inventory(
    (
        TARGET,
        SOURCE,
        Entry(name="twins", login_server="127.0.0.1:1", subscription="sub-a", place="i:1"),
        Entry(name="twins", login_server="127.0.0.1:2", subscription="sub-b", place="i:2"),
        Entry(name="my-lab", login_server="lab.example:5000"),
    ),
    {"docker.io": "127.0.0.1:5002"},
)
DIGEST = "sha256:" + "ab" * 32


def check(name: str = "myregistry", source: str = "docker.io/library/x:1", **words: object) -> Checked:
    return check_words(ImportWords(name=name, source=source, **words), INVENTORY)  # type: ignore[arg-type]


def planned(checked: Checked) -> ImportPlan:
    return make_plan(checked.request, checked.target, checked.source)


def body_of(request: ImportRequest) -> dict[str, Any]:
    """The body as clients of the service send it: without empty lists."""
    document: dict[str, Any] = msgspec.to_builtins(request)
    return {name: value for name, value in document.items() if value}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({"name": "my-registry", "username": "u"}, NAME_RULE),
        ({"name": "myregistry.example.com", "username": "u"}, WRONG_SUFFIX),
        ({"name": "four"}, NAME_RULE),
        ({"name": "x" * 51}, NAME_RULE),
        ({"username": "u", "source": "x", "resource_group": "no"}, NO_PASSWORD),
        ({"username": "u", "password": "p", "registry": "mysourceregistry"}, "contradict each other"),
        ({"password": "p", "registry": SOURCE_ID}, "contradict each other"),
        ({"resource_group": "no", "source": "x"}, "The resource with name 'myregistry' and type"),
        ({"subscription": TWO, "source": "x"}, f"could not be found in subscription '{TWO}'"),
        ({"name": "twins", "source": "x"}, "More than one registries were found by twins"),
        ({"registry": "mysourceregistry", "subscription": ONE, "source": "x"}, NO_SOURCE_REGISTRY),
        ({"registry": "twins", "source": "x"}, NO_SOURCE_REGISTRY),
        ({"registry": "twins", "source": "x"}, "More than one registries were found by twins"),
        ({"registry": "no/name", "source": "x"}, NO_SOURCE_REGISTRY),
        ({"source": "hello-world"}, NO_SOURCE),
        ({"source": "/hello-world"}, NO_SOURCE),
        ({"source": "localhost:5000/x"}, NOT_QUALIFIED),
        ({"source": "library/hello-world"}, NOT_QUALIFIED),
    ],
)
def test_the_first_check_that_fails_says_its_text(words: dict[str, str], text: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        check(**words)  # type: ignore[arg-type]
    assert text in str(raised.value)


@pytest.mark.parametrize(
    ("name", "server", "warned"),
    [
        ("myregistry", "127.0.0.1:5001", False),
        ("MyRegistry", "127.0.0.1:5001", False),
        ("127.0.0.1:5001", "127.0.0.1:5001", False),
        ("myregistry.azurecr.io", "127.0.0.1:5001", True),
        ("myregistry-hash1.azurecr.io", "127.0.0.1:5001", True),
        (str(ResourceId(ONE, "RG", "myregistry")), "127.0.0.1:5001", False),
        ("my-lab", "lab.example:5000", False),
        ("unlisted", "unlisted.azurecr.io", False),
        ("Unlisted.azurecr.io", "unlisted.azurecr.io", True),
    ],
)
def test_a_target_is_found_by_its_names(name: str, server: str, warned: bool) -> None:
    checked = check(name)
    assert checked.target.login_server == server
    assert ("is automatically omitted" in " ".join(checked.warnings)) is warned


@pytest.mark.parametrize(
    ("words", "source"),
    [
        (
            {"source": "docker.io/library/hello-world:latest"},
            {"registryUri": "docker.io", "sourceImage": "library/hello-world:latest"},
        ),
        (
            {"source": f"docker.io/library/hello-world@{DIGEST}"},
            {"registryUri": "docker.io", "sourceImage": f"library/hello-world@{DIGEST}"},
        ),
        (
            {"source": "127.0.0.1:5000/lib/a:1"},
            {"registryUri": "127.0.0.1:5000", "sourceImage": "lib/a:1"},
        ),
        (
            {"source": "docker.io/a/b", "username": "u", "password": "p"},
            {
                "registryUri": "docker.io",
                "sourceImage": "a/b",
                "credentials": {"password": "p", "username": "u"},
            },
        ),
        (
            {"source": "docker.io/a/b", "password": "TOKEN"},
            {"registryUri": "docker.io", "sourceImage": "a/b", "credentials": {"password": "TOKEN"}},
        ),
        (
            {"source": "mysourceregistry.azurecr.io/aci:latest"},
            {"resourceId": SOURCE_ID, "sourceImage": "aci:latest"},
        ),
        (
            {"source": "mysourceregistry.azurecr.io/aci:latest", "password": "p"},
            {
                "registryUri": "mysourceregistry.azurecr.io",
                "sourceImage": "aci:latest",
                "credentials": {"password": "p"},
            },
        ),
        (
            {"source": "aci:latest", "registry": "mysourceregistry"},
            {"resourceId": SOURCE_ID, "sourceImage": "aci:latest"},
        ),
        (
            {"source": "aci:latest", "registry": "mysourceregistry.azurecr.io"},
            {"resourceId": SOURCE_ID, "sourceImage": "aci:latest"},
        ),
        (
            {"source": "MySourceRegistry.azurecr.io/aci:latest", "registry": "mysourceregistry"},
            {"resourceId": SOURCE_ID, "sourceImage": "aci:latest"},
        ),
        (
            {"source": "mysourceregistry.azurecr.io/aci:latest", "registry": SOURCE_ID},
            {"resourceId": SOURCE_ID, "sourceImage": "aci:latest"},
        ),
        (
            {"source": "aci:latest", "registry": str(ResourceId("s", "g", "unlisted"))},
            {"resourceId": str(ResourceId("s", "g", "unlisted")), "sourceImage": "aci:latest"},
        ),
    ],
)
def test_the_source_becomes_the_body_that_az_sends(words: dict[str, str], source: dict[str, object]) -> None:
    body = body_of(check(**words).request)  # type: ignore[arg-type]
    assert body == {"source": source, "mode": "NoForce"}


def test_targets_and_force_become_the_body_that_az_sends() -> None:
    request = check(images=("a:1", "b:2"), repositories=("c", "d"), force=True).request
    body = body_of(request)
    assert body.pop("source")
    assert body == {
        "targetTags": ("a:1", "b:2"),
        "untaggedTargetRepositories": ("c", "d"),
        "mode": "Force",
    }
    assert ImportRequest.from_json(msgspec.json.encode(request)) == request


@pytest.mark.parametrize(
    "nulls",
    [
        {"targetTags": None},
        {"untaggedTargetRepositories": None},
        {"mode": None},
        {"targetTags": None, "untaggedTargetRepositories": None, "mode": None},
    ],
)
def test_a_member_that_is_null_is_one_that_is_not_given(nulls: dict[str, None]) -> None:
    source = {"registryUri": "docker.io", "sourceImage": "library/a:1"}
    bare = ImportRequest.from_json(json.dumps({"source": source}).encode())
    assert ImportRequest.from_json(json.dumps({"source": source, **nulls}).encode()) == bare
    full = {**source, "resourceId": None, "credentials": None}
    assert ImportRequest.from_json(json.dumps({"source": full}).encode()) == bare
    with_token = {**source, "credentials": {"username": None, "password": "p"}}
    found = ImportRequest.from_json(json.dumps({"source": with_token}).encode()).source.credentials
    assert found is not None
    assert (found.username, found.password) == (None, "p")
    for nobody in ({"username": None, "password": None}, {"password": None}, {}):
        without = {"source": {**source, "credentials": nobody}}
        assert ImportRequest.from_json(json.dumps(without).encode()) == bare
    of_acr = {"resourceId": "/s", "sourceImage": "a:1", "credentials": {"username": None, "password": None}}
    assert ImportRequest.from_json(json.dumps({"source": of_acr}).encode()).source.credentials is None


@pytest.mark.parametrize(
    ("image", "half"),
    [
        (r"\ud83d", r"\ud83d"),
        (r"x\uDE00", r"\uDE00"),
        (r"\ud83d\ude00\ud83d", r"\ud83d"),
        (r"a\ud800 and more of it", r"\ud800"),
    ],
)
@pytest.mark.parametrize("place", ["sourceImage", "registryUri", "targetTags", "unknown"])
def test_half_of_a_surrogate_pair_is_named(image: str, half: str, place: str) -> None:
    document = {
        "sourceImage": '{"source":{"sourceImage":"%s","registryUri":"b"}}',
        "registryUri": '{"source":{"sourceImage":"a","registryUri":"%s"}}',
        "targetTags": '{"source":{"sourceImage":"a","registryUri":"b"},"targetTags":["%s"]}',
        "unknown": '{"%s":1}',
    }[place]
    with pytest.raises(InvalidInput) as caught:
        ImportRequest.from_json((document % image).encode())
    assert str(caught.value) == (
        f"the body is not an import: {half} in a string is half of a surrogate pair, not a character"
    )


def test_other_damage_is_not_called_a_surrogate() -> None:
    whole = rb'{"source":{"sourceImage":"\ud83d\ude00 \\ud83d","registryUri":"b"}'
    with pytest.raises(InvalidInput, match="truncated"):
        ImportRequest.from_json(whole)


@pytest.mark.parametrize("credentials", [{"username": "ann"}, {"username": "ann", "password": None}])
def test_a_user_without_a_password_is_refused(credentials: dict[str, str | None]) -> None:
    source = {"registryUri": "a.b", "sourceImage": "x", "credentials": credentials}
    with pytest.raises(InvalidInput, match="the credentials have no password"):
        ImportRequest.from_json(json.dumps({"source": source}).encode())


@pytest.mark.parametrize(
    ("source", "warning"),
    [
        ("mysourceregistry.westus.geo.azurecr.io/aci:1", REGIONAL),
        ("mysourceregistry.azurecr.io/aci:1", None),
    ],
)
def test_a_regional_endpoint_is_its_registry(source: str, warning: str | None) -> None:
    checked = check(source=source)
    assert checked.request.source.resource_id == SOURCE_ID
    assert checked.warnings == ((warning,) if warning else ())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"source":{"sourceImage":"x"}}',
        b'{"source":{"sourceImage":"x","registryUri":"a.b","resourceId":"/s"}}',
        b'{"source":{"sourceImage":"x","resourceId":"/s","credentials":{"password":"p"}}}',
        b'{"source":{"sourceImage":"x","registryUri":"a.b","credentials":{"username":"p"}}}',
        b'{"source":{"sourceImage":"x","registryUri":"a.b"},"mode":"force"}',
        b'{"source":null}',
        b'{"source":{"sourceImage":null,"registryUri":"a.b"}}',
        b'{"source":{"sourceImage":"x","registryUri":"a.b"},"targetTags":[null]}',
        b'{"source":{"sourceImage":"x","registryUri":"a.b"},"targetTag":null}',
    ],
)
def test_a_body_that_is_not_an_import_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        ImportRequest.from_json(body)


# -- plans -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "images", "repositories", "reads", "writes"),
    [
        ("docker.io/nats:2", (), (), "docker.io/library/nats:2", ["nats:2"]),
        ("docker.io/library/x", (), (), "docker.io/library/x:latest", ["library/x:latest"]),
        ("reg.example/aci:7", ("a", "b:1"), (), "reg.example/aci:7", ["a:7", "b:1"]),
        (f"reg.example/aci@{DIGEST}", (), (), f"reg.example/aci@{DIGEST}", ["aci:latest"]),
        (f"reg.example/aci@{DIGEST}", (), ("h",), f"reg.example/aci@{DIGEST}", ["h"]),
        (f"reg.example/aci:7@{DIGEST}", (), (), f"reg.example/aci:7@{DIGEST}", ["aci:7"]),
        ("reg.example/aci:7", ("a:1", "a:1"), ("a", "a"), "reg.example/aci:7", ["a:1", "a"]),
    ],
)
def test_defaults_of_targets(
    source: str, images: tuple[str, ...], repositories: tuple[str, ...], reads: str, writes: list[str]
) -> None:
    plan = planned(check(source=source, images=images, repositories=repositories))
    assert str(plan.source) == reads
    assert [str(each).removeprefix("127.0.0.1:5001/") for each in plan.targets] == writes


@pytest.mark.parametrize(
    ("images", "repositories"),
    [((f"a@{DIGEST}",), ()), (("A:1",), ()), (("a:",), ()), ((), ("a:1",)), ((), (f"a@{DIGEST}",))],
)
def test_targets_that_are_none_are_refused(images: tuple[str, ...], repositories: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput) as raised:
        planned(check(images=images, repositories=repositories))
    assert "registry.invalid" not in str(raised.value)


@pytest.mark.parametrize(
    "words", [{"source": "docker.io/App:1"}, {"images": ("App:1",)}, {"repositories": ("App:1",)}]
)
def test_a_name_that_is_none_is_quoted_as_it_was_written(words: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=r"^invalid reference 'App:1': "):
        planned(check(**words))


@pytest.mark.parametrize("scheme", ["https://", "docker://"])
def test_a_scheme_before_the_source_is_recognised(scheme: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        check(source=f"{scheme}docker.io/library/hello-world")
    assert (str(raised.value), str(raised.value.advice)) == (NOT_QUALIFIED, f"leave {scheme} out")


def test_each_side_gets_its_entrys_options_and_the_callers_credentials_go_first() -> None:
    who = EntryCredentials(username="u", password_env="PW")
    target = Entry(name="twins", login_server="a.example", credentials=who, plain_http=True)
    source = Entry(name="source", login_server="b.example", credentials=who)
    inventory = Inventory((target, source), {"docker.io": "127.0.0.1:1"})
    words = ImportWords(name="twins", source="b.example/x:1")
    options = plan_options(planned(check_words(words, inventory)), CopyOptions(), inventory, {"PW": "secret"})
    assert options.source.credentials == options.target.credentials == Credentials("u", "secret")
    assert options.target.plain_http
    assert options.registries is not None
    assert options.registries.served_at("docker.io", 443) == ("127.0.0.1", 1)
    words = ImportWords(name="twins", source="b.example/x:1", username="me", password="mine")
    plan = planned(check_words(words, Inventory((source,))))
    options = plan_options(plan, CopyOptions(), inventory, {})  # the entry's own secret is not needed
    assert options.source.credentials == Credentials("me", "mine")
    assert options.target.credentials is None


def test_no_secret_is_in_a_repr() -> None:
    words = ImportWords(name="myregistry", source="docker.io/x/y", username="u", password="s3cret")
    checked = check_words(words, INVENTORY)
    shown = [repr(words), repr(checked), repr(planned(checked)), repr(SourceCredentials("s3cret"))]
    assert not [text for text in shown if "s3cret" in text]


# -- policies --------------------------------------------------------------------------------------------

CLOSED = {"public_network_access": "Disabled"}
SHUT = {**CLOSED, "network_rule_bypass_options": "None"}


@pytest.mark.parametrize(
    ("source", "target", "by_id", "by_server"),
    [
        ({}, {}, "", ""),
        ({"export_policy": "disabled"}, {}, "export policy", "export policy"),
        ({}, {"export_policy": "disabled"}, "", ""),
        (CLOSED, {}, "", "by its resource ID"),
        ({}, CLOSED, "", ""),
        (SHUT, {}, "trusted services", "trusted services"),
        ({}, SHUT, "trusted services", "trusted services"),
        ({"network_rule_bypass_options": "None"}, {}, "", ""),
    ],
)
def test_policies_allow_or_refuse(
    source: dict[str, str], target: dict[str, str], by_id: str, by_server: str
) -> None:
    entries = (
        Entry(name="myregistry", login_server="t.example", **target),  # type: ignore[arg-type]
        Entry(  # type: ignore[misc]
            name="sourceone",
            login_server="sourceone.azurecr.io",
            subscription="s",
            resource_group="g",
            **source,  # type: ignore[arg-type]
        ),
    )
    for words, refused in (
        (ImportWords(name="myregistry", source="a:1", registry=entries[1].resource_id), by_id),
        (ImportWords(name="myregistry", source="a:1", registry="sourceone"), by_id),
        (ImportWords(name="myregistry", source="sourceone.azurecr.io/a:1"), by_server),
        (ImportWords(name="myregistry", source="sourceone.azurecr.io/a:1", password="p"), by_server),
    ):
        checked = check_words(words, Inventory(entries))
        if not refused:
            planned(checked)
            continue
        with pytest.raises(PolicyRefused) as raised:
            planned(checked)
        assert refused in f"{raised.value} {raised.value.advice!s}"


def test_a_source_names_exactly_one_place() -> None:
    source = ImportSource(source_image="x", registry_uri="a.example")
    assert body_of(ImportRequest(source=source)) == {
        "source": {"sourceImage": "x", "registryUri": "a.example"},
        "mode": "NoForce",
    }


# -- several registries ----------------------------------------------------------------------------------


def test_imports_into_several_registries_have_one_source_and_a_registry_each() -> None:
    own = [Entry(name="source", login_server=f"127.0.0.1:{n}", subscription=f"sub-{n}") for n in (1, 2)]
    targets = [
        Entry(name=f"target{n}", login_server=f"127.0.0.1:{n}0", subscription=f"sub-{n}") for n in "12"
    ]
    inventory = Inventory((*own, *targets, Entry(name="alias", login_server="127.0.0.1:10")))

    def plans(*names: str, registry: str = "source") -> list[ImportPlan]:
        words = [ImportWords(name=name, source="x:1", registry=registry) for name in names]
        return [planned(check_words(each, inventory)) for each in words]

    with pytest.raises(InvalidInput, match=r"another one for target2 .* than for target1"):
        check_plans(plans("target1", "target2"))
    with pytest.raises(InvalidInput, match="target1 and alias have one login server"):
        check_plans(plans("target1", "alias", registry="other.example"))
    check_plans(plans("target1", "target2", registry="other.example"))


def test_each_registry_gets_the_options_of_its_own_entry() -> None:
    entries = [
        Entry(
            name=f"target{n}",
            login_server=f"{n}.example",
            credentials=EntryCredentials(username=n, password_env=f"PW_{n.upper()}"),
        )
        for n in "ab"
    ]
    inventory = Inventory((*entries, SOURCE), {"docker.io": "127.0.0.1:5002"})
    words = [ImportWords(name=each.name, source="docker.io/x:1") for each in entries]
    plans = [planned(check_words(each, inventory)) for each in words]
    with pytest.raises(CredentialsError, match="PW_B"):
        options_of_all(plans, CopyOptions(), inventory, {"PW_A": "1"})
    environ = {"PW_A": "1", "PW_B": "2"}
    options = options_of_all(plans, CopyOptions(), inventory, environ)
    assert options.registries is not None
    assert options.registries.served_at("docker.io", 443) == ("127.0.0.1", 5002)
    assert options.target.credentials is None
    for entry, password in zip(entries, "12", strict=True):
        known = options.registries.options_for(entry.login_server, environ)
        assert known is not None
        assert known.credentials == Credentials(username=entry.login_server[0], password=password)
    assert options.registries.options_for(SOURCE.login_server, environ) is None
