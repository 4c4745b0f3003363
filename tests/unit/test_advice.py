"""Advice is a value, and each face words it: its own settings and those of no other."""

from __future__ import annotations

import ast
import pickle
import re
from pathlib import Path

import pytest

import crossdock
from crossdock import advice as library
from crossdock import errors
from crossdock.advice import LIBRARY
from crossdock.cli.advice import ACR, COPY, advice_document, advice_text
from crossdock.cli.display import event_document
from crossdock.cli.display import notice as display_notice
from crossdock.cli.failure import warning_text
from crossdock.cli.parser import full_parser
from crossdock.errors import (
    Advice,
    CopyError,
    CrossdockError,
    Notice,
    RetriesExhausted,
    Side,
)
from crossdock.events import Warned
from crossdock.service.advice import SERVICE

SRC = Path(crossdock.__file__).parent
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
OF_AZ = re.compile(r"az account get-access-token --resource \S+")
OF_LIBRARY = re.compile(r"\b(CopyOptions|RegistryOptions|NetworkOptions)\b|\b\w+=")
OF_SERVICE = re.compile(
    r"\bsource\.\w+|\bthe operator\b|targetTags|untaggedTargetRepositories|the mode Force"
)
KIND = re.compile(r"[a-z]{2}[a-z0-9-]+")
SIDES: tuple[Side | None, ...] = ("source", "target", None)


def filled(kind: str, side: Side | None = None, *, entry: str = "") -> Advice:
    """Advice of this kind with every field."""
    return Advice(
        kind,
        side=side,
        registry="reg.example:5000",
        repository="team/app",
        option="ca_file",
        variable="HTTPS_PROXY",
        file="inventory.yaml",
        entry=entry,
        platforms=("linux/arm64",),
    )


def given_kinds() -> dict[str, bool]:
    """Every kind of advice in the code, and whether it occurs without its own text."""
    kinds: dict[str, bool] = {}
    for path in SRC.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            given = node.args[:1] if name == "Advice" else []
            given += [
                each.value for each in node.keywords if name.endswith(".replace") and each.arg == "kind"
            ]
            has_text = len(node.args) > 1
            for each in (each for value in given for each in ast.walk(value)):
                if isinstance(each, ast.Constant) and KIND.fullmatch(str(each.value)):
                    kinds[str(each.value)] = kinds.get(str(each.value), False) or not has_text
    return kinds


def usual_kinds() -> set[str]:
    """The usual kinds of the error classes, and their kinds for failed operations."""
    usual = {
        each.usual for each in vars(errors).values() if isinstance(each, type) and hasattr(each, "usual")
    }
    return {
        library.usual_kind(kind, operation, side, reference, names_side=names_side)
        for kind in usual
        for operation in ("resolve", "fetch blob", "list tags of", "inspect")
        for side in ("source", "target")
        for reference in ("h:1/r:t", "oci:L")
        for names_side in (True, False)
    } - {""}


KINDS = sorted({each.partition("/")[0] for each in (*LIBRARY, *COPY, *ACR, *SERVICE)})


def test_every_kind_that_is_given_has_words() -> None:
    without_text = {kind for kind, needs_words in given_kinds().items() if needs_words}
    assert without_text | usual_kinds() <= LIBRARY.keys()


def test_every_kind_of_a_face_is_one_of_the_librarys() -> None:
    assert set(KINDS) == {each.partition("/")[0] for each in LIBRARY}
    assert set(KINDS) <= given_kinds().keys() | usual_kinds()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_worded_by_each_face_in_its_own_terms(kind: str, side: Side | None) -> None:
    for entry in ("", "prod"):
        advice = filled(kind, side, entry=entry)
        said = {
            "library": str(advice),
            "copy": advice_text(advice),
            "acr": advice_text(advice, "acr"),
            "service": advice.worded(SERVICE),
        }
        assert all(said[face] for face in ("library", "copy", "acr")), said
        for face in ("library", "service"):
            assert not FLAG.search(OF_AZ.sub("", said[face])), said
        for face in ("copy", "acr", "service"):
            assert not OF_LIBRARY.search(said[face]), said
        for face in ("copy", "acr", "library"):
            assert not OF_SERVICE.search(said[face]), said
        assert not re.search(r"--(src|dest)-", said["acr"]), said
        assert "{" not in "".join(said.values()), said


@pytest.mark.parametrize(
    ("side", "flags"),
    [("source", ["--src-ca"]), ("target", ["--dest-ca"]), (None, ["--src-ca", "--dest-ca"])],
)
def test_the_command_names_the_flags_of_the_side(side: Side | None, flags: list[str]) -> None:
    assert FLAG.findall(advice_text(filled("give-ca", side))) == flags


@pytest.mark.parametrize("kind", ["give-ca", "plain-http", "correct-option", "check-login"])
@pytest.mark.parametrize("side", SIDES)
def test_an_option_of_the_inventory_is_spoken_of_by_file_and_entry(kind: str, side: Side | None) -> None:
    advice = filled(kind, side, entry="prod")
    for said in (str(advice), advice_text(advice), advice_text(advice, "acr")):
        assert "prod in inventory.yaml" in said
        assert not FLAG.search(said)
    assert "prod in the inventory" in advice.worded(SERVICE)


@pytest.mark.parametrize(
    ("advice", "wanted"),
    [
        (
            Advice("log-in", why="no credentials for h were found", side="source", registry="h"),
            {
                "library": "no credentials for h were found: log in to h with crossdock, docker or podman, "
                "or give RegistryOptions.credentials",
                "copy": "no credentials for h were found: crossdock login h, or give --src-creds-stdin",
                "acr": "no credentials for h were found: crossdock login h, or give credentials in the "
                "inventory or as flags",
                "service": "no credentials for h were found: give source.credentials in the request, or have "
                "the operator give the source registry's credentials in the inventory",
            },
        ),
        (
            Advice("log-in", side="target", registry="h"),
            {
                "copy": "crossdock login h, or give --dest-creds-stdin",
                "service": "the operator can give the target registry's credentials in the inventory",
            },
        ),
        (
            Advice("choose-present-platforms", why="an index lists it for linux/arm64 and lacks it"),
            {
                "copy": "an index lists it for linux/arm64 and lacks it: copy only the platforms that exist, "
                "with --platform",
                "service": "an index lists it for linux/arm64 and lacks it",
            },
        ),
        (
            Advice("overwrite-tags"),
            {
                "acr": "nothing was copied; --force overwrites the tag",
                "service": "nothing was copied; the mode Force overwrites the tag",
            },
        ),
        (Advice("check-name", "did you mean v1?"), dict.fromkeys(("copy", "service"), "did you mean v1?")),
        (Advice("check-name", "it lists {odd}"), {"library": "it lists {odd}"}),
        (Advice("unheard-of"), {"library": "", "copy": ""}),
    ],
)
def test_the_words_of_each_face(advice: Advice, wanted: dict[str, str]) -> None:
    said = {
        "library": str(advice),
        "copy": advice_text(advice),
        "acr": advice_text(advice, "acr"),
        "service": advice.worded(SERVICE),
    }
    assert {face: said[face] for face in wanted} == wanted


def test_advice_is_a_value() -> None:
    advice = filled("give-ca", "source")
    assert pickle.loads(pickle.dumps(advice)) == advice
    assert len({advice, filled("give-ca", "source")}) == 1
    with pytest.raises(AttributeError):
        advice.kind = "other"  # type: ignore[misc]


def test_the_document_has_kind_text_and_the_fields_that_are_known() -> None:
    assert advice_document(Advice("give-ca", side="source", registry="h:1")) == {
        "kind": "give-ca",
        "text": "if the certificate is from a private CA, give that CA with --src-ca",
        "side": "source",
        "registry": "h:1",
    }
    assert advice_document(filled("choose-platform"))["platforms"] == ["linux/arm64"]


def test_the_edge_gives_advice_its_side_and_registry() -> None:
    cause = errors.TlsFailed("refused", advice=Advice("give-ca"))
    error = CopyError("x", operation="resolve", side="target", reference="h:1/a:b", cause=cause)
    assert error.advice == Advice("give-ca", side="target", registry="h:1")
    assert error.cause is cause
    local = CopyError("x", operation="resolve", side="source", reference="oci:d", cause=cause)
    assert local.advice == Advice("give-ca", side="source")


def test_advice_behind_tries_is_that_of_the_last_one() -> None:
    last = errors.ServerBusy("503")
    spent = RetriesExhausted("503 (gave up after 2 tries)", attempts=(last, last))
    spent.__cause__ = last
    error = CopyError("x", operation="fetch blob", side="source", reference="h/a:b", cause=spent)
    assert error.advice == Advice("retry-copy", side="source", registry="h")


def test_a_replaced_error_is_the_same_but_for_what_was_given() -> None:
    error = errors.NotFound("404", status=404, codes=("NAME_UNKNOWN",), url="http://h/v2/")
    error.__cause__ = ValueError("behind")
    twin = error.replace(advice=Advice("check-name"))
    assert (type(twin), str(twin), twin.status, twin.codes) == (
        errors.NotFound,
        "404",
        404,
        ("NAME_UNKNOWN",),
    )
    assert twin.cause is error.cause
    assert error.advice is None
    assert str(error.replace("GET: 404")) == "GET: 404"


def test_every_error_has_the_five() -> None:
    error = CrossdockError("what failed")
    assert (error.side, error.operation, error.reference, error.cause, error.advice) == (None,) * 5


# Of commands that serve, mirror or spool.
NOT_OF_ACR = {"choose-spool", "raise-spool-size", "omit-untagged", "listen-elsewhere", "add-certificate"}
NOT_OF_ACR |= {"give-certificate", "give-identity", "give-users", "give-dev", "omit-certificate"}
NOT_OF_ACR |= {"omit-certificate-or-proxy"}


@pytest.mark.parametrize("kind", sorted(ACR.keys() - NOT_OF_ACR))
def test_acr_names_its_own_flags(kind: str) -> None:
    flags = {
        flag
        for each in full_parser().tree()
        if each.prog.startswith("crossdock acr")
        for flag in each.flags()
    }
    assert set(FLAG.findall(ACR[kind])) <= flags
    assert "{flag:" not in ACR[kind]


def test_a_warning_with_advice_is_text_that_a_face_may_word_again() -> None:
    notice = Notice("the spool is full", Advice("raise-spool-size"))
    assert notice == f"the spool is full; {LIBRARY['raise-spool-size']}"
    assert warning_text(notice) == f"the spool is full; {COPY['raise-spool-size']}"
    unwritable = Notice("the journal cannot be written", Advice("choose-state"))
    assert warning_text(unwritable, "acr") == f"the journal cannot be written; {ACR['choose-state']}"
    assert ACR["choose-state"] in display_notice(Warned(unwritable), face="acr")
    assert ACR["choose-state"] in event_document(Warned(unwritable), 0.0, face="acr")["message"]
    twin = pickle.loads(pickle.dumps(notice))
    assert (twin, twin.said, twin.advice) == (notice, notice.said, notice.advice)
    assert warning_text("plain\ntext") == "plain text"
