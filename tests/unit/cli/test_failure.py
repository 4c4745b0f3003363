"""An error is one line, whatever it holds."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock import errors
from crossdock.cli.failure import error_document, error_line, fold, traceback_text
from crossdock.errors import Cancelled, ConnectFailed, CopyError, CrossdockError, NotFound, Side, StoreError
from crossdock.transfer.steps import during


def at_edge(cause: CrossdockError, side: Side = "source", reference: str = "h:1/r:t") -> CopyError:
    error = CopyError("long form", operation="resolve", side=side, reference=reference, cause=cause)
    error.__cause__ = cause
    return error


def test_the_line_has_operation_side_reference_cause_and_next_step() -> None:
    error = at_edge(NotFound("404 from GET /v2/r/manifests/t: MANIFEST_UNKNOWN", hint="check the tag"))
    assert error_line(error) == (
        "crossdock: resolve source h:1/r:t: 404 from GET /v2/r/manifests/t: MANIFEST_UNKNOWN; check the tag"
    )


@pytest.mark.parametrize(
    ("operation", "cause", "said"),
    [
        ("list tags of", errors.LimitExceeded("too long"), "tell who runs that registry"),
        ("inspect", errors.DigestMismatch("odd"), "try again, and if it stays tell who runs that registry"),
        ("list repositories of", errors.ReadFailed("reset"), "try again"),
        ("inspect", errors.ServerBusy("503"), "try again"),
        ("resolve", errors.LimitExceeded("too long"), "nothing was tagged; tell who runs that registry"),
        ("resolve", errors.ReadFailed("reset"), "try again: what has arrived is not moved twice"),
    ],
)
def test_advice_speaks_of_tags_and_content_where_content_was_to_be_moved(
    operation: str, cause: CrossdockError, said: str
) -> None:
    error = at_edge(cause)
    error.operation = operation
    assert error_line(error) == f"crossdock: {operation} source h:1/r:t: {cause}; {said}"


@pytest.mark.parametrize("side", ["source", "target"])
def test_what_a_layout_lacks_has_no_advice_for_registries(side: Side) -> None:
    cause = NotFound("no tag v2 in L; its tags are v1")
    line = error_line(at_edge(cause, side, "oci:L:v2"))
    assert line == f"crossdock: resolve {side} oci:L:v2: no tag v2 in L; its tags are v1"


def test_the_line_names_no_side_where_one_registry_takes_part() -> None:
    with pytest.raises(CopyError) as raised, during("untag", "source", "h:1/r:t", names_side=False):
        raise NotFound("404", hint="h:1/r has no tag t")
    assert str(raised.value) == "untag h:1/r:t: 404"
    assert error_line(raised.value) == "crossdock: untag h:1/r:t: 404; h:1/r has no tag t"
    assert error_document(raised.value)["side"] == "source"


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (errors.Unauthorized("401"), "--dest-creds-stdin"),
        (errors.CredentialsError("no helper"), "--dest-creds-stdin"),
        (errors.Denied("403"), "access"),
        (errors.RateLimited("429"), "wait"),
        (errors.DigestMismatch("sha256:…", expected="a", actual="b"), "nothing was tagged"),
        (errors.ConnectFailed("refused"), "host and port"),
        (errors.TlsFailed("untrusted"), "--dest-ca"),
        (errors.TimedOut("first byte"), "--timeout"),
        (errors.RedirectRefused("to file:"), "who runs that registry"),
        (errors.ReadFailed("reset"), "try again"),
        (errors.ServerBusy("503"), "try again"),
        (errors.RegistryError("410"), "its log"),
    ],
)
def test_an_error_that_gives_no_next_step_gets_that_of_its_class(cause: CrossdockError, words: str) -> None:
    assert words in error_line(at_edge(cause, "target"))


def test_a_hint_that_is_in_the_message_already_is_not_repeated() -> None:
    assert error_line(StoreError("disk full; free some", hint="free some")).count("free some") == 1


def test_an_unexpected_error_says_so_and_how_to_see_more() -> None:
    line = error_line(ZeroDivisionError("division by zero"))
    assert line.startswith("crossdock: internal error: ZeroDivisionError: division by zero")
    assert "--debug" in line


def test_ctrl_c_is_no_internal_error() -> None:
    assert error_line(KeyboardInterrupt()) == "crossdock: cancelled"
    assert error_line(Cancelled("copy of a to b was cancelled")) == "crossdock: copy of a to b was cancelled"


@given(st.text(), st.text(), st.text())
def test_any_text_from_a_server_stays_on_one_line_without_terminal_controls(
    message: str, hint: str, reference: str
) -> None:
    for error in (at_edge(CrossdockError(message, hint=hint), reference=reference), ValueError(message)):
        line = error_line(error)
        assert len(line.splitlines()) == 1
        assert "\x1b" not in line


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("GET https://me:sesame@h/v2/ failed", "GET https://h/v2/ failed"),
        ("via http://me@proxy:3128", "via http://proxy:3128"),
        ("docker://alpine:3@sha256:00", "docker://alpine:3@sha256:00"),
        ("h:1/r:t@sha512:00", "h:1/r:t@sha512:00"),
        (" a\r\n\tb ", "a b"),
    ],
)
def test_folding_hides_user_information_and_keeps_digests(text: str, folded: str) -> None:
    assert fold(text) == folded


def test_the_report_names_class_code_side_operation_and_reference() -> None:
    document = error_document(at_edge(NotFound("no such tag", hint="look here"), "target"))
    assert document == {
        "class": "not found",
        "type": "NotFound",
        "exit_code": 4,
        "side": "target",
        "operation": "resolve",
        "reference": "h:1/r:t",
        "message": "resolve target h:1/r:t: no such tag; look here",
    }
    assert error_document(ValueError("x"))["side"] is None


def test_text_that_turns_the_direction_of_writing_is_neutralised() -> None:
    assert fold("a\u202egnp.exe\u2066b") == "a gnp.exe b"


def test_a_traceback_shows_no_query_of_a_url_and_no_terminal_controls() -> None:
    try:
        try:
            raise ValueError("url='https://u:pw@storage.test/b?sig=s3cr3t' \x1b[31m")
        except ValueError as error:
            raise ConnectFailed("no connection") from error
    except ConnectFailed as error:
        text = traceback_text(error)
    assert "s3cr3t" not in text
    assert "pw" not in text
    assert "\x1b" not in text
    assert "\n    raise ConnectFailed" in text


def test_a_process_without_descriptors_is_told_what_to_do() -> None:
    line = error_line(OSError(errno.EMFILE, "Too many open files", "/lib/module.py"))
    assert line == "crossdock: this process may open no more files; allow more with ulimit -n"
