"""The upload state machine as tables: request, response, next step."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.errors import RedirectRefused
from crossdock.protocol.upload import (
    MANY_BYTES,
    SMALLEST_CHUNK,
    Ask,
    Done,
    Look,
    Open,
    Send,
    Upload,
    UploadRules,
    Verdict,
)
from crossdock.url import Url

MiB = 1 << 20
DIGEST = "sha256:" + "a" * 64
POST_URL = Url.parse("https://registry.test/v2/x/blobs/uploads/")
SIZE = 100 * MiB
CHUNK = 10 * MiB
CHUNKED = UploadRules(chunked=True, chunk_size=CHUNK)

TAKEN, AGAIN, REFUSED = Verdict.TAKEN, Verdict.AGAIN, Verdict.REFUSED


def begin(rules: UploadRules = UploadRules(), size: int = SIZE, retries: int = 5, **headers: str) -> Upload:  # noqa: B008
    upload = Upload(DIGEST, size, rules, retries=retries)
    upload.opened({"location": "/v2/x/blobs/uploads/1?_state=s", **_dashed(headers)}, POST_URL)
    return upload


def _dashed(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def sending(upload: Upload) -> Send:
    assert isinstance(upload.step, Send), upload.step
    return upload.step


def answer(upload: Upload, status: int, *codes: str, sent: int | None = None, **headers: str) -> Verdict:
    send = sending(upload)
    written = send.stop - send.start if sent is None else sent
    return upload.answered(status, _dashed(headers), written, codes)


def after_chunks(count: int, rules: UploadRules = CHUNKED, **options: Any) -> Upload:
    """An upload whose first `count` chunks were accepted."""
    upload = begin(rules, **options)
    for _ in range(count):
        send = sending(upload)
        assert answer(upload, 202, location=f"/v2/x/blobs/uploads/1?_state=s{send.stop}") is TAKEN
    return upload


# -- redirects ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("rules", [UploadRules(), CHUNKED])
def test_a_redirected_request_is_sent_again_as_it_was(status: int, rules: UploadRules) -> None:
    upload = begin(rules, retries=0)
    first = sending(upload)
    assert answer(upload, status, sent=0, location="https://other.test/y?a=b") is AGAIN
    second = sending(upload)
    assert second.url.text == "https://other.test/y?a=b"
    assert (second.method, second.start, second.stop, second.final, second.headers) == (
        *(first.method, first.start, first.stop, first.final),
        first.headers,
    )
    assert upload.failures == 0
    assert upload.abandoned == []


def test_the_location_in_a_redirected_chunks_response_is_relative_to_its_own_url() -> None:
    upload = begin(CHUNKED)
    answer(upload, 307, location="https://other.test/y/1")
    assert answer(upload, 202, location="2?_state=t") is TAKEN
    assert sending(upload).url.text == "https://other.test/y/2?_state=t"


def test_a_redirected_chunk_that_moves_nothing_leaves_the_session_where_it_is() -> None:
    upload = begin(CHUNKED)
    before = sending(upload).url.text
    answer(upload, 307, location="https://other.test/y/1")
    assert answer(upload, 202) is TAKEN
    assert sending(upload).url.text == before


def test_a_shorter_chunk_goes_where_the_longer_one_was_redirected_to() -> None:
    upload = begin(CHUNKED)
    answer(upload, 307, location="https://other.test/y/1")
    upload.shorten(1)
    send = sending(upload)
    assert (send.url.text, send.stop < CHUNK) == ("https://other.test/y/1", True)


def test_redirects_in_circles_end() -> None:
    upload = begin()
    for _ in range(10):
        assert answer(upload, 307, location=sending(upload).url.text) is AGAIN
    with pytest.raises(RedirectRefused, match="more than 10 redirects"):
        answer(upload, 307, location=sending(upload).url.text)


def test_each_request_may_be_redirected_as_often() -> None:
    upload = begin(CHUNKED)
    while isinstance(upload.step, Send):
        for _ in range(6):
            assert answer(upload, 308, location=sending(upload).url.text) is AGAIN
        assert answer(upload, 202 if not sending(upload).final else 201) is TAKEN
    assert isinstance(upload.step, Done)


@pytest.mark.parametrize("status", [301, 302, 303])
def test_other_redirects_end_an_upload(status: int) -> None:
    upload = begin()
    assert answer(upload, status, location="https://other.test/") is AGAIN
    assert isinstance(upload.step, Look)  # a PUT that was sent whole may have worked
    assert upload.looked(False) is REFUSED


# -- the way up --------------------------------------------------------------------------------------


def test_a_blob_goes_up_in_one_put_to_the_session_with_its_digest_and_query() -> None:
    upload = begin()
    send = sending(upload)
    assert (send.method, send.start, send.stop, send.final) == ("PUT", 0, SIZE, True)
    assert send.url.text == f"https://registry.test/v2/x/blobs/uploads/1?_state=s&digest=sha256%3A{'a' * 64}"
    assert "Content-Range" not in dict(send.headers)
    assert answer(upload, 201) is TAKEN
    assert isinstance(upload.step, Done)
    assert upload.offset == SIZE


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_every_success_closes_a_put(status: int) -> None:
    upload = begin()
    assert answer(upload, status) is TAKEN
    assert isinstance(upload.step, Done)


def test_an_empty_blob_is_an_empty_put_in_either_way() -> None:
    for rules in (UploadRules(), CHUNKED):
        upload = begin(rules, size=0)
        send = sending(upload)
        assert (send.method, send.start, send.stop, send.final) == ("PUT", 0, 0, True)
        assert answer(upload, 201) is TAKEN


def test_chunks_go_in_order_each_to_the_newest_location_and_an_empty_put_ends_them() -> None:
    upload = begin(CHUNKED, size=25 * MiB)
    seen = []
    while not isinstance(upload.step, Done):
        send = sending(upload)
        seen.append(
            (send.method, send.start, send.stop, dict(send.headers).get("Content-Range"), send.url.text)
        )
        next_location = f"/v2/x/blobs/uploads/1?_state=s{send.stop}"
        assert answer(upload, 202, location=next_location, range=f"0-{send.stop - 1}") is TAKEN
    base = "https://registry.test/v2/x/blobs/uploads/1?_state=s"
    digest = f"digest=sha256%3A{'a' * 64}"
    assert seen == [
        ("PATCH", 0, 10 * MiB, f"0-{10 * MiB - 1}", base),
        ("PATCH", 10 * MiB, 20 * MiB, f"{10 * MiB}-{20 * MiB - 1}", f"{base}{10 * MiB}"),
        ("PATCH", 20 * MiB, 25 * MiB, f"{20 * MiB}-{25 * MiB - 1}", f"{base}{20 * MiB}"),
        ("PUT", 25 * MiB, 25 * MiB, None, f"{base}{25 * MiB}&{digest}"),
    ]


def test_the_last_chunk_travels_in_the_put_where_an_empty_one_fails() -> None:
    upload = after_chunks(2, UploadRules(chunked=True, chunk_size=CHUNK, last_in_put=True), size=25 * MiB)
    send = sending(upload)
    assert (send.method, send.start, send.stop, send.final) == ("PUT", 20 * MiB, 25 * MiB, True)
    assert dict(send.headers)["Content-Range"] == f"{20 * MiB}-{25 * MiB - 1}"


@pytest.mark.parametrize(
    ("rules", "headers", "expected"),
    [
        (CHUNKED, {}, CHUNK),
        (CHUNKED, {"oci_chunk_min_length": str(20 * MiB)}, 20 * MiB),
        (CHUNKED, {"oci_chunk_max_length": str(5 * MiB)}, 5 * MiB),
        (CHUNKED, {"oci_chunk_min_length": "junk"}, CHUNK),
        (UploadRules(), {"oci_chunk_max_length": str(50 * MiB)}, 50 * MiB),  # one PUT would be over it
        (UploadRules(), {"oci_chunk_max_length": str(SIZE)}, None),
        (UploadRules(may_chunk=False), {"oci_chunk_max_length": "1"}, None),
    ],
)
def test_chunks_keep_to_what_the_registry_asks_for(
    rules: UploadRules, headers: dict[str, str], expected: int | None
) -> None:
    send = sending(begin(rules, **headers))
    assert (None if send.final else send.stop) == expected


# -- the ladder --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 405, 411, 413, 415, 416, 417, 501])
def test_a_refused_put_becomes_chunks_in_a_new_session(status: int) -> None:
    upload = begin(retries=0)
    assert answer(upload, status, sent=MiB) is AGAIN
    assert isinstance(upload.step, Open)
    assert upload.chunked
    assert upload.put_refused == status
    assert not upload.lost
    assert upload.failures == 0  # a change of the way costs no try
    assert [each.text for each in upload.abandoned] == ["https://registry.test/v2/x/blobs/uploads/1?_state=s"]


def test_a_host_that_takes_no_chunks_refuses_for_good() -> None:
    assert answer(begin(UploadRules(may_chunk=False)), 413, sent=MiB) is REFUSED


def test_each_way_is_left_once() -> None:
    upload = begin(CHUNKED)
    assert answer(upload, 405, sent=0) is AGAIN
    assert not upload.chunked
    upload.opened({"location": "/2"}, POST_URL)
    assert answer(upload, 405, sent=0) is REFUSED


def test_413_halves_the_chunk_down_to_the_smallest_and_keeps_the_session() -> None:
    upload = after_chunks(1, UploadRules(chunked=True, chunk_size=30 * MiB), retries=0)
    sizes = []
    while answer(upload, 413, sent=0) is AGAIN:
        send = sending(upload)
        assert send.start == 30 * MiB
        sizes.append(send.stop - send.start)
    assert sizes == [15 * MiB, 15 * MiB // 2, 2 * MiB]  # up to the next multiple of 4 MiB
    assert upload.chunk_size == SMALLEST_CHUNK
    assert upload.chunk_lowered


def test_413_never_halves_the_chunk_below_the_registrys_least() -> None:
    upload = begin(
        UploadRules(chunked=True, chunk_size=30 * MiB), retries=0, oci_chunk_min_length=str(5_000_000)
    )
    sizes = []
    while answer(upload, 413, sent=0) is AGAIN:
        sizes.append(sending(upload).stop)
    assert sizes == [15 * MiB, 15 * MiB // 2, 5_000_000]


def test_a_put_over_the_limit_gives_chunks_below_its_size_at_once() -> None:
    upload = begin(size=21 * MiB)
    assert answer(upload, 413, sent=0) is AGAIN
    assert upload.chunk_size == 16 * MiB


@pytest.mark.parametrize(("sent", "chunked"), [(MANY_BYTES - 1, False), (MANY_BYTES, True)])
def test_a_break_after_many_bytes_becomes_chunks(sent: int, chunked: bool) -> None:
    upload = begin()
    assert upload.broken(sent) is AGAIN
    assert isinstance(upload.step, Open)
    assert upload.chunked is chunked
    upload = begin()
    assert answer(upload, 502, sent=sent) is AGAIN
    assert upload.chunked is chunked


# -- where to go on ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers", "start"),
    [
        (416, {"range": f"0-{15 * MiB - 1}"}, 15 * MiB),
        (416, {"range": f"bytes=0-{15 * MiB - 1}", "location": "/v2/new"}, 15 * MiB),
        (400, {"range": f"0-{20 * MiB - 1}", "location": "/v2/new"}, 20 * MiB),
        (409, {"range": f"0-{10 * MiB - 1}", "location": "/v2/new"}, 10 * MiB),
    ],
)
def test_a_refusal_with_an_offset_moves_there(status: int, headers: dict[str, str], start: int) -> None:
    upload = after_chunks(2)
    assert answer(upload, status, **headers) is AGAIN
    assert sending(upload).start == upload.offset == start
    assert upload.lost is (start < 20 * MiB)
    if "location" in headers:
        assert sending(upload).url.text == "https://registry.test/v2/new"


@pytest.mark.parametrize("failure", [416, 400, 500, 503, 408, 0])
def test_a_failure_without_an_offset_asks_the_session(failure: int) -> None:
    upload = after_chunks(2)
    verdict = upload.broken(5) if failure == 0 else answer(upload, failure, sent=5)
    assert verdict is AGAIN
    assert isinstance(upload.step, Ask)
    assert upload.step.url.text.endswith(f"_state=s{20 * MiB}")
    assert upload.asked(204, {"range": f"0-{23 * MiB - 1}", "location": "/v2/fresh"}) is AGAIN
    assert sending(upload).start == 23 * MiB  # distribution 3 keeps the bytes of a cut PATCH
    assert sending(upload).url.text == "https://registry.test/v2/fresh"
    assert not upload.lost
    assert upload.failures == 0  # 23 MiB is further than ever: progress


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (404, {}),
        (0, {}),
        (500, {}),
        (204, {}),
        (204, {"range": "0-0"}),
        (204, {"range": f"0-{90 * MiB}"}),  # more than was ever sent
    ],
)
def test_a_session_that_cannot_say_is_replaced_and_the_loss_announced(
    status: int, headers: dict[str, str]
) -> None:
    upload = after_chunks(2)
    upload.broken(0)
    assert upload.asked(status, headers) is AGAIN
    assert isinstance(upload.step, Open)
    assert upload.lost
    assert upload.offset == upload.acknowledged == 0


@pytest.mark.parametrize("code", ["BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"])
@pytest.mark.parametrize("status", [404, 400])
def test_a_lost_session_starts_again_from_zero_announced(code: str, status: int) -> None:
    upload = after_chunks(3)
    assert answer(upload, status, code) is AGAIN
    assert isinstance(upload.step, Open)
    assert upload.lost
    assert upload.abandoned  # a proxy may have said it of one that the registry still has


def test_a_target_that_takes_a_few_bytes_of_each_request_is_given_up() -> None:
    upload = begin(CHUNKED, retries=2)
    for held in (200, 400):
        assert upload.broken(200) is AGAIN
        assert upload.asked(204, {"range": f"0-{held - 1}"}) is AGAIN
        assert sending(upload).start == held
    assert upload.broken(200) is REFUSED


@pytest.mark.parametrize("status", [416, 500])
def test_a_closing_put_that_always_fails_ends_though_the_session_has_everything(status: int) -> None:
    upload = after_chunks(SIZE // CHUNK, retries=3)
    for failures in range(4):
        verdict = answer(upload, status)
        if isinstance(upload.step, Look):
            verdict = upload.looked(False)
        if failures < 3:
            assert verdict is AGAIN
            assert upload.asked(204, {"range": f"0-{SIZE - 1}"}) is AGAIN
            assert sending(upload).final
    assert verdict is REFUSED


def test_a_session_lost_at_the_same_place_every_time_ends() -> None:
    upload = begin(CHUNKED, retries=2)
    verdicts = []
    for _ in range(4):
        answer(upload, 202)
        verdicts.append(answer(upload, 404, "BLOB_UPLOAD_UNKNOWN"))
        if verdicts[-1] is REFUSED:
            break
        upload.opened({"location": "/again"}, POST_URL)
    # The first loss came after progress; from then on nothing new is acknowledged.
    assert verdicts == [AGAIN, AGAIN, REFUSED]


@pytest.mark.parametrize("rules", [UploadRules(), CHUNKED])
def test_failures_without_progress_are_counted(rules: UploadRules) -> None:
    upload = begin(rules, retries=2)
    for _ in range(2):
        assert upload.broken(0) is AGAIN
        if isinstance(upload.step, Ask):
            upload.asked(204, {"range": "0-0"})
        upload.opened({"location": "/again"}, POST_URL)
    assert upload.broken(0) is REFUSED


# -- answers that leave the way as it is -------------------------------------------------------------


def test_an_expired_token_is_renewed_once_without_progress() -> None:
    upload = after_chunks(2, retries=0)
    assert answer(upload, 401, sent=0) is AGAIN
    assert sending(upload).start == 20 * MiB
    assert answer(upload, 401, sent=0) is REFUSED


def test_progress_permits_another_renewal() -> None:
    upload = after_chunks(2, retries=0)
    for _ in range(3):
        assert answer(upload, 401, sent=0) is AGAIN
        assert answer(upload, 202) is TAKEN


def test_a_rate_limit_continues_from_what_is_acknowledged() -> None:
    upload = after_chunks(2)
    assert answer(upload, 429, sent=0) is AGAIN
    assert sending(upload).start == 20 * MiB
    assert upload.failures == 1


@pytest.mark.parametrize(
    ("status", "codes"),
    [(403, ("DENIED",)), (400, ("DIGEST_INVALID",)), (404, ("NAME_UNKNOWN",)), (422, ())],
)
@pytest.mark.parametrize("rules", [UploadRules(), CHUNKED])
def test_a_fault_that_cannot_be_repaired_is_refused_at_once(
    status: int, codes: tuple[str, ...], rules: UploadRules
) -> None:
    assert answer(begin(rules), status, *codes, sent=5) is REFUSED


# -- ECR ---------------------------------------------------------------------------------------------


def test_a_range_that_stands_still_twice_is_not_believed() -> None:
    upload = after_chunks(1)
    stuck = f"0-{CHUNK - 1}"
    assert answer(upload, 201, range=stuck) is TAKEN
    assert isinstance(upload.step, Ask)
    assert upload.asked(204, {"range": stuck}) is TAKEN
    assert sending(upload).start == 2 * CHUNK
    assert upload.trust_range is False
    assert answer(upload, 201, range=stuck) is TAKEN  # not asked again
    assert sending(upload).start == 3 * CHUNK


def test_the_first_doubt_is_settled_by_the_session_itself() -> None:
    upload = after_chunks(1)
    assert answer(upload, 202, range=f"0-{CHUNK - 1}") is TAKEN
    assert upload.asked(204, {"range": f"0-{2 * CHUNK - 1}"}) is TAKEN
    assert upload.trust_range
    assert sending(upload).start == 2 * CHUNK


def test_a_chunk_taken_in_part_continues_inside_it() -> None:
    upload = after_chunks(1)
    part = f"0-{CHUNK + MiB - 1}"
    assert answer(upload, 202, range=part) is TAKEN
    assert upload.asked(204, {"range": part}) is AGAIN
    assert sending(upload).start == CHUNK + MiB


def test_no_answer_to_the_question_leaves_our_own_count() -> None:
    upload = after_chunks(1)
    answer(upload, 202, range=f"0-{CHUNK - 1}")
    assert upload.asked(405, {}) is TAKEN
    assert sending(upload).start == 2 * CHUNK


# -- the closing PUT ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rules", [UploadRules(), CHUNKED])
@pytest.mark.parametrize("failure", [0, 500, 504, 404])
def test_a_closing_put_sent_whole_may_have_worked(rules: UploadRules, failure: int) -> None:
    upload = after_chunks(10, rules) if rules.chunked else begin(rules)
    send = sending(upload)
    assert send.final
    verdict = upload.broken(send.stop - send.start) if failure == 0 else answer(upload, failure)
    assert verdict is AGAIN
    assert isinstance(upload.step, Look)
    assert upload.looked(True) is TAKEN
    assert isinstance(upload.step, Done)


def test_a_closing_put_that_did_not_work_is_sent_again() -> None:
    upload = after_chunks(10)
    upload.broken(0)
    assert upload.looked(False) is AGAIN
    assert isinstance(upload.step, Ask)
    assert upload.asked(204, {"range": f"0-{SIZE - 1}"}) is AGAIN
    send = sending(upload)
    assert (send.method, send.start, send.stop) == ("PUT", SIZE, SIZE)


def test_a_refusal_for_good_stands_when_the_blob_is_not_there() -> None:
    upload = begin()
    assert answer(upload, 422) is AGAIN
    assert upload.looked(False) is REFUSED


def test_a_success_before_all_bytes_were_sent_is_not_a_success() -> None:
    upload = begin()
    assert answer(upload, 201, sent=5) is AGAIN
    assert isinstance(upload.step, Open)


def test_a_session_that_is_lost_again_and_again_ends_although_its_first_chunk_is_held() -> None:
    upload = begin(UploadRules(chunked=True))
    for _ in range(20):
        if isinstance(upload.step, Open):
            upload.opened({"location": "/s"}, POST_URL)
        send = sending(upload)
        if upload.broken(0) is REFUSED:  # the first chunk of each session is there all the same …
            return
        if upload.asked(204, {"range": f"0-{send.stop - 1}"}) is REFUSED:
            return
        if isinstance(upload.step, Send) and answer(upload, 404) is REFUSED:  # … and then the session is gone
            return
    raise AssertionError("the dialogue does not end")


def test_a_chunk_limit_of_a_few_bytes_is_not_obeyed() -> None:
    upload = Upload(DIGEST, SIZE, UploadRules(), retries=3)
    upload.opened({"location": "/s", "oci-chunk-max-length": "5"}, POST_URL)
    assert sending(upload).stop == min(SIZE, MiB)


# -- in general --------------------------------------------------------------------------------------


ANSWERS = st.sampled_from(
    ["ok", "ok", "ok", "break", "cut", "500", "gone", "413", "416", "401", "429", "lost"]
)


@given(st.lists(ANSWERS, max_size=60), st.booleans(), st.integers(0, 40 * MiB))
def test_whatever_fails_the_upload_ends_and_only_with_all_bytes(
    script: list[str], chunked: bool, size: int
) -> None:
    """The model registry checks every offset as a strict one does; failures come from the script."""
    upload = Upload(DIGEST, size, UploadRules(chunked=chunked, chunk_size=8 * MiB), retries=3)
    held, complete, moves = 0, False, iter(script)
    for _ in range(600):
        step = upload.step
        if isinstance(step, Done):
            assert complete
            return
        if isinstance(step, Open):
            held = 0
            upload.opened({"location": "/s"}, POST_URL)
            continue
        if isinstance(step, Look):
            verdict = upload.looked(complete)
        elif isinstance(step, Ask):
            verdict = upload.asked(204, {"range": f"0-{held - 1}" if held else "0-0"})
        else:
            assert step.start == upload.offset
            verdict, held, complete = _play(upload, step, next(moves, "ok"), held, complete)
        if verdict is REFUSED:
            return
    raise AssertionError("the dialogue does not end")


def _play(upload: Upload, step: Send, move: str, held: int, complete: bool) -> tuple[Verdict, int, bool]:
    length = step.stop - step.start
    if move == "ok":
        if step.start != held:
            return upload.answered(416, {"range": f"0-{held - 1}"}, 0), held, complete
        complete = complete or (step.final and step.stop == upload.size)
        return upload.answered(201, {"range": f"0-{step.stop - 1}"}, length), step.stop, complete
    if move == "lost":  # it worked, and the answer did not arrive
        if step.start == held:
            held, complete = step.stop, complete or (step.final and step.stop == upload.size)
        return upload.broken(length), held, complete
    if move == "cut":
        kept = length // 2 if step.start == held else 0
        return upload.broken(length // 2), held + kept, complete
    if move == "gone":
        return upload.answered(404, {}, 0, ("BLOB_UPLOAD_UNKNOWN",)), 0, complete
    if move == "break":
        return upload.broken(0), held, complete
    return upload.answered(int(move), {}, 0), held, complete


def test_a_slow_feeder_never_makes_a_chunk_smaller_than_the_rules_allow() -> None:
    rules = UploadRules(chunked=True, chunk_size=12 * MiB, least_chunk=5 * MiB, chunk_multiple=3 * MiB)
    upload = Upload(DIGEST, 100 * MiB, rules, retries=0)
    upload.opened({"location": "/u/1"}, Url.parse("https://r.example/v2/x/blobs/uploads/"))
    upload.shorten(MiB)
    assert isinstance(upload.step, Send)
    assert upload.step.stop == 12 * MiB
    upload.shorten(7 * MiB)
    assert upload.step.stop == 6 * MiB


# -- what the kind of registry decides ---------------------------------------------------------------


@pytest.mark.parametrize(("kind_says", "refusals"), [("way", 1), ("codes", 2)])
def test_a_400_to_a_whole_blob_leads_to_chunks(kind_says: str, refusals: int) -> None:
    """At once where the kind means that by it (Docker Hub), else when it comes again."""
    upload = begin(UploadRules(bad_request=kind_says))
    for number in range(refusals):
        if number:
            upload.opened({"location": "/v2/x/blobs/uploads/2"}, POST_URL)
        assert sending(upload).method == "PUT"
        assert answer(upload, 400, "BLOB_UPLOAD_INVALID", sent=0) is AGAIN
    upload.opened({"location": "/v2/x/blobs/uploads/3"}, POST_URL)
    assert (sending(upload).method, upload.put_refused) == ("PATCH", 400)


def test_a_persons_limit_holds_whatever_the_registry_says() -> None:
    """Neither a larger least chunk nor refused chunks lead to a request that carries more."""
    rules = UploadRules(chunked=True, may_put=False, chunk_size=MiB, most_chunk=MiB, chunk_multiple=MiB)
    upload = begin(rules, oci_chunk_min_length=str(8 * MiB))
    assert sending(upload).stop == MiB
    assert answer(upload, 405, sent=0) is REFUSED
