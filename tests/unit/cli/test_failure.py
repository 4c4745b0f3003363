"""An error is one line and the lines of its advice, whatever it holds."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock import errors
from crossdock.cli.failure import error_document, error_text, fold, shortened, traceback_text
from crossdock.errors import (
    Advice,
    Cancelled,
    ConnectFailed,
    CopyError,
    CrossdockError,
    NotFound,
    Resume,
    Side,
    StoreError,
)
from crossdock.steps import during


def at_edge(
    cause: CrossdockError, side: Side = "source", reference: str = "h:1/r:t", operation: str = "resolve"
) -> CopyError:
    return CopyError("long form", operation=operation, side=side, reference=reference, cause=cause)


def test_the_line_has_operation_side_reference_cause_and_next_step() -> None:
    advice = Advice("check-name", "check the tag")
    error = at_edge(NotFound("404 from GET /v2/r/manifests/t: MANIFEST_UNKNOWN", advice=advice))
    error.resume = Resume("crossdock copy a b", "to resume at 1 MiB of 2 MiB, run again: crossdock copy a b")
    assert error_text(error) == (
        "crossdock: resolve source h:1/r:t: 404 from GET /v2/r/manifests/t: MANIFEST_UNKNOWN\n"
        "  check the tag\n"
        "  to resume at 1 MiB of 2 MiB, run again: crossdock copy a b"
    )


@pytest.mark.parametrize(
    ("operation", "cause", "said"),
    [
        ("list tags of", errors.LimitExceeded("too long"), "report it to the registry's operator"),
        (
            "inspect",
            errors.DigestMismatch("odd"),
            "try again, and if it persists report it to the registry's operator",
        ),
        ("list repositories of", errors.ReadFailed("reset"), "try again"),
        ("inspect", errors.ServerBusy("503"), "try again"),
        (
            "resolve",
            errors.LimitExceeded("too long"),
            "nothing was tagged; report it to the registry's operator",
        ),
        ("resolve", errors.ReadFailed("reset"), "try again: blobs that have arrived are not copied again"),
    ],
)
def test_advice_speaks_of_tags_and_content_where_content_was_to_be_moved(
    operation: str, cause: CrossdockError, said: str
) -> None:
    error = at_edge(cause, operation=operation)
    assert error_text(error) == f"crossdock: {operation} source h:1/r:t: {cause}\n  {said}"


@pytest.mark.parametrize("side", ["source", "target"])
def test_content_missing_in_a_layout_has_no_advice_for_registries(side: Side) -> None:
    cause = NotFound("no tag v2 in L; its tags are v1")
    assert (
        error_text(at_edge(cause, side, "oci:L:v2"))
        == f"crossdock: resolve {side} oci:L:v2: no tag v2 in L; its tags are v1"
    )


def test_the_line_names_no_side_where_one_registry_takes_part() -> None:
    with pytest.raises(CopyError) as raised, during("untag", "source", "h:1/r:t", names_side=False):
        raise NotFound("404", advice=Advice("check-name", "h:1/r has no tag t"))
    assert str(raised.value) == "untag h:1/r:t: 404"
    assert error_text(raised.value) == "crossdock: untag h:1/r:t: 404\n  h:1/r has no tag t"
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
        (errors.RedirectRefused("to file:"), "the registry's operator"),
        (errors.ReadFailed("reset"), "try again"),
        (errors.ServerBusy("503"), "try again"),
        (errors.RegistryError("410"), "its log"),
    ],
)
def test_an_error_that_gives_no_next_step_gets_that_of_its_class(cause: CrossdockError, words: str) -> None:
    first, advice = error_text(at_edge(cause, "target")).splitlines()
    assert first == f"crossdock: resolve target h:1/r:t: {cause}"
    assert words in advice


def test_advice_that_is_in_the_message_already_is_not_repeated() -> None:
    error = StoreError("disk full; free some", advice=Advice("free-space", "free some"))
    assert error_text(error) == "crossdock: disk full; free some"


def test_an_unexpected_error_says_so_and_how_to_see_more() -> None:
    line, advice = error_text(ZeroDivisionError("division by zero")).splitlines()
    assert line == "crossdock: internal error: ZeroDivisionError: division by zero"
    assert "--debug" in advice


def test_ctrl_c_is_not_an_internal_error() -> None:
    assert error_text(KeyboardInterrupt()) == "crossdock: cancelled"
    assert error_text(Cancelled("copy of a to b was cancelled")) == "crossdock: copy of a to b was cancelled"


@given(st.text(), st.text(), st.text())
def test_any_text_from_a_server_stays_on_its_line_without_terminal_controls(
    message: str, advice: str, reference: str
) -> None:
    failed = CrossdockError(message, advice=Advice("report", advice))
    for error in (at_edge(failed, reference=reference), ValueError(message)):
        text = error_text(error)
        first, *further = text.splitlines()
        assert first.startswith("crossdock: ")
        assert len(further) <= 1
        assert all(each.startswith("  ") for each in further)
        assert "\x1b" not in text


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
    document = error_document(
        at_edge(NotFound("no such tag", advice=Advice("check-name", "look here")), "target")
    )
    assert document == {
        "class": "not found",
        "type": "NotFound",
        "exit_code": 4,
        "side": "target",
        "operation": "resolve",
        "reference": "h:1/r:t",
        "message": "resolve target h:1/r:t: no such tag",
        "advice": {"kind": "check-name", "text": "look here", "side": "target", "registry": "h:1"},
        "resume": None,
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


def test_a_process_without_descriptors_gets_advice() -> None:
    text = error_text(OSError(errno.EMFILE, "Too many open files", "/lib/module.py"))
    assert text.startswith("crossdock: this process may open no more files\n  raise the limit on open files")


LONG = f"sha256:{'0123456789abcdef' * 4}"


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("crossdock: short", "crossdock: short"),
        (f"crossdock: fetch blob {LONG} from h/r@{LONG}: 404" + "." * 60, None),
        (f"crossdock: GET https://h.example/v2/a/blobs/uploads/{'u' * 200}?x=1: 404", None),
        ("crossdock: " + "x" * 400, None),
        (
            f"crossdock: resolve source h.example/{'n' * 90}/{'m' * 90}:v1: GET https://h/v2/{'n' * 90}: 404",
            None,
        ),
        (f"crossdock: list tags of source h.example/{'n' * 200}: 404", None),
    ],
)
def test_a_line_fits_a_terminal_with_digests_and_urls_shortened(line: str, wanted: str | None) -> None:
    said = shortened(line, 160)
    assert len(said) <= 160
    assert LONG not in said
    assert said.startswith(line[:20])
    assert wanted is None or said == wanted
    assert line.endswith(": 404") <= said.endswith(": 404")  # what it ended by is not cut off with a URL
