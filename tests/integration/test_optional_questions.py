"""A question that only saves work is no verdict: refused, stale or unclear, the copy is made all the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.command import AUTH, NOT_FOUND, SOURCE, TARGET, Crossdock
from support.scripted import INDEX, MANIFEST, Before, Reply, Request, ScriptedRegistry, digest_of

Start = Callable[..., ScriptedRegistry]
ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
ORAS = "application/vnd.cncf.oras.artifact.manifest.v1+json"


@pytest.fixture
def start(closing: ExitStack) -> Start:
    return lambda before=None, **how: ScriptedRegistry(closing, before, is_strict=True, **how)


def refusing(status: int, kind: str, *methods: str) -> Before:
    return lambda request: Reply.error(status, "DENIED") if request.is_for(kind, *methods) else None


def is_look(request: Request) -> bool:
    return request.is_for("manifests", "GET", "HEAD")


def importing(
    crossdock: Crossdock, target: ScriptedRegistry, source: str, *flags: str
) -> tuple[str | Path, ...]:
    """An import into `target`."""
    inventory = crossdock.home / "inventory.yaml"
    entry = {"name": "myregistry", "login_server": target.host}
    inventory.write_text(json.dumps({"registries": [entry]}))
    return ("acr", "import", "-n", "myregistry", "--source", source, "--inventory", inventory, *flags)


# -- HEAD of a manifest at the source ------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 403, 404, 405, 406, 500, 501])
def test_where_head_of_a_manifest_is_refused_get_decides(
    crossdock: Crossdock, start: Start, status: int
) -> None:
    source, target = start(refusing(status, "manifests", "HEAD")), start()
    image = source.image("app", "v1")
    index = source.index("app", [image], "v2")
    for tag, named in (("v1", image), ("v2", index)):
        crossdock.copy(f"{source.host}/app:{tag}", f"{target.host}/app:{tag}", "--retries", "1")
        assert target.has("app", tag, named["digest"])
    shown = crossdock.ok("inspect", f"{source.host}/app:v1", "--output", "json")
    assert shown.result["digest"] == image["digest"]
    crossdock.ok("mirror", source.host, f"{target.host}/mirrored", "--retries", "1")
    assert target.has("mirrored/app", "v2", index["digest"])


def test_a_tag_that_is_not_there_is_not_found_by_either(crossdock: Crossdock, start: Start) -> None:
    source = start()
    source.image("app", "v1")
    crossdock.fail_copy(f"{source.host}/app:v2", "other.example/app:v2", code=NOT_FOUND, naming=["v2"])


def stale(registry: ScriptedRegistry, old: bytes) -> Before:
    """HEAD of a tag names an earlier manifest, which no longer exists."""

    def before(request: Request) -> Reply | None:
        if request.method != "HEAD" or not request.path.endswith("/manifests/v1"):
            return None
        return Reply(200, old, {"Content-Type": MANIFEST, "Docker-Content-Digest": digest_of(old)})

    return before


def by_tag_alone(request: Request) -> Reply | None:
    """A cache that serves tags and nothing by digest."""
    is_digest = request.is_for("manifests") and "sha256:" in request.path
    return Reply.error(404, "MANIFEST_UNKNOWN") if is_digest else None


def wrong(request: Request) -> Reply | None:
    """HEAD names a digest that nothing has."""
    if request.method != "HEAD" or not request.is_for("manifests") or "sha256:" in request.path:
        return None
    headers = {"Content-Type": MANIFEST, "Docker-Content-Digest": digest_of(b"nothing")}
    return Reply(200, b"x" * 400, headers)


@pytest.mark.parametrize("how", ["stale", "wrong digest", "by tag alone"])
@pytest.mark.parametrize("command", ["copy", "mirror", "import", "inspect"])
def test_a_stale_head_is_corrected_by_get(crossdock: Crossdock, start: Start, how: str, command: str) -> None:
    source, target = start(), start()
    image = source.image("app", "v1")
    old = b'{"schemaVersion": 2, "config": {}, "layers": []}'
    source.before = {"stale": stale(source, old), "wrong digest": wrong, "by tag alone": by_tag_alone}[how]
    if command == "inspect":
        shown = crossdock.ok("inspect", f"{source.host}/app:v1", "--output", "json")
        assert shown.result["digest"] == image["digest"]
        return
    reference, name = f"{source.host}/app:v1", f"{target.host}/app:v1"
    words = {
        "copy": ("copy", reference, name),
        "mirror": ("mirror", source.host, target.host),
        "import": importing(crossdock, target, reference, "-t", "app:v1", "-t", "app:v2"),
    }[command]
    crossdock.ok(*words, "--retries", "1")
    assert target.has("app", "v1", image["digest"])


def test_tags_that_move_apart_while_they_are_mirrored_get_what_each_means(
    crossdock: Crossdock, start: Start
) -> None:
    """They meant one manifest when they were listed, and one of them was at the target already."""
    source, target = start(), start()
    old = source.image("app", "v1")
    for tag in ("v2", "v3"):
        source.manifests["app", tag] = source.manifests["app", "v1"]
    crossdock.ok("mirror", source.host, target.host, "--tags", "v1")
    moved = {tag: source.image("other", seed=tag) for tag in ("v1", "v2", "v3")}

    def before(request: Request) -> Reply | None:
        if request.method == "GET" and request.path.endswith(old["digest"]):
            source.manifests.pop(("app", old["digest"]), None)
            for tag, image in moved.items():
                for name in (tag, image["digest"]):
                    source.manifests["app", name] = source.manifests["other", image["digest"]]
        return None

    source.before = before
    done = crossdock.ok("mirror", source.host, target.host, "--repository", "app", "--output", "json").result
    assert (done["totals"]["unchanged"], done["totals"]["copied"]) == (1, 2)
    assert target.has("app", "v1", old["digest"])
    assert target.has("app", "v2", moved["v2"]["digest"])
    assert target.has("app", "v3", moved["v3"]["digest"])


# -- the look at the target ----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 500, 501])
def test_a_login_that_may_push_and_not_read_copies(crossdock: Crossdock, start: Start, status: int) -> None:
    source = start()
    target = start(lambda request: Reply.error(status, "DENIED") if is_look(request) else None)
    image, other = source.image("app", "v1"), source.image("app", "", "2")
    index = source.index("app", [image, other], "v2")
    for tag, named in (("v1", image), ("v2", index)):
        result = crossdock.copy(f"{source.host}/app:{tag}", f"{target.host}/app:{tag}", "--retries", "1")
        assert target.has("app", tag, named["digest"])
        assert result["warnings"] == []
    crossdock.ok("mirror", source.host, f"{target.host}/mirrored", "--retries", "1")
    assert target.has("mirrored/app", "v2", index["digest"])


def test_an_import_by_force_needs_no_look_and_one_without_does(crossdock: Crossdock, start: Start) -> None:
    source = start()
    target = start(lambda request: Reply.error(403, "DENIED") if is_look(request) else None)
    image = source.image("app", "v1")
    words = importing(crossdock, target, f"{source.host}/app:v1", "-t", "app:v1")
    crossdock.fail(*words, code=AUTH, naming=["resolve target"])
    assert target.count("manifests", "PUT") == 0
    crossdock.ok(*words, "--force")
    assert target.has("app", "v1", image["digest"])


@pytest.mark.parametrize("status", [400, 401, 403, 405, 500, 501])
def test_a_blob_that_may_not_be_looked_for_is_uploaded(
    crossdock: Crossdock, start: Start, status: int
) -> None:
    source, target = start(), start(refusing(status, "blobs", "HEAD"))
    image = source.image("app", "v1")
    result = crossdock.copy(f"{source.host}/app:v1", f"{target.host}/app:v1", "--retries", "1")
    assert target.has("app", "v1", image["digest"])
    assert result["blobs_moved"] == 2


def test_a_target_that_takes_nothing_is_still_an_error(crossdock: Crossdock, start: Start) -> None:
    """Not being able to look is no leave to claim anything."""
    source, target = (
        start(),
        start(lambda request: None if request.path == "/v2/" else Reply.error(403, "DENIED")),
    )
    source.image("app", "v1")
    crossdock.fail_copy(
        f"{source.host}/app:v1", f"{target.host}/app:v1", code=AUTH, naming=["target", target.host, "403"]
    )


def test_a_target_that_is_busy_ends_the_copy_at_the_first_look(crossdock: Crossdock, start: Start) -> None:
    source, target = start(), start(lambda request: Reply.error(503, "BUSY"))
    source.image("app", "v1")
    crossdock.fail_copy(
        f"{source.host}/app:v1", f"{target.host}/app:v1", "--retries", "0", code=TARGET, naming=["503"]
    )
    assert target.count("blobs/uploads") == 0


# -- what is attached ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["application/json", "text/plain; charset=utf-8", "", INDEX])
def test_the_body_of_a_list_of_referrers_counts_and_not_its_type(
    crossdock: Crossdock, start: Start, kind: str
) -> None:
    source, target = start(has_referrers=True), start(has_referrers=True)
    image = source.image("app", "v1")
    signature = source.referrer("app", image)

    def before(request: Request) -> Reply | None:
        if not request.is_for("referrers"):
            return None
        reply = source.usual(request)
        reply.headers["Content-Type"] = kind
        return reply

    source.before = before
    result = crossdock.copy(f"{source.host}/app:v1", f"{target.host}/app:v1", "--referrers")
    assert target.has("app", signature["digest"], signature["digest"])
    assert result["referrers_copied"] == 1


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"message": "hello"}', b"[]", b""])
@pytest.mark.parametrize("kind", ["text/html", "application/json"])
def test_other_documents_than_a_list_of_referrers_mean_no_api(
    crossdock: Crossdock, start: Start, body: bytes, kind: str
) -> None:
    """The list is under its tag then, and must not be lost for a web page."""
    source = start(
        lambda request: Reply(200, body, {"Content-Type": kind}) if request.is_for("referrers") else None
    )
    target = start(has_referrers=True)
    image = source.image("app", "v1")
    signature = source.referrer("app", image)
    source.index("app", [signature], image["digest"].replace(":", "-"))
    crossdock.copy(f"{source.host}/app:v1", f"{target.host}/app:v1", "--referrers")
    assert target.has("app", signature["digest"], signature["digest"])


def test_an_entry_that_is_none_does_not_hide_the_other_referrers(crossdock: Crossdock, start: Start) -> None:
    source, target = start(), start(has_referrers=True)
    image = source.image("app", "v1")
    signature = source.referrer("app", image)

    def before(request: Request) -> Reply | None:
        if not request.is_for("referrers"):
            return None
        listed = [None, signature] if request.path.endswith(image["digest"]) else []
        return Reply.json({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed})

    source.before = before
    names = f"{source.host}/app:v1", f"{target.host}/app:v1"
    crossdock.fail_copy(*names, "--referrers", code=SOURCE, naming=["1 invalid entry was left out: null"])
    assert target.tags("app") == []
    result = crossdock.copy(*names)
    assert "1 invalid entry was left out: null" in result["warnings"][0]
    assert target.has("app", signature["digest"], signature["digest"])


def lose_layer(registry: ScriptedRegistry, seed: str) -> None:
    del registry.blobs[digest_of(b"layer " + seed.encode())]


def refuse_tags(request: Request) -> Reply | None:
    """Immutable tags, or a right that ends at them."""
    is_attached = request.is_for("manifests", "PUT") and "/sha256-" in request.path
    return Reply.error(403, "DENIED") if is_attached else None


def hide_tags(request: Request) -> Reply | None:
    """The tags cannot be read, and may be the target's own."""
    is_attached = request.is_for("manifests") and "/sha256-" in request.path
    return Reply.error(403, "DENIED") if is_attached else None


def refuse_types(request: Request) -> Reply | None:
    """Old registries know neither kind of artifact manifest."""
    return (
        Reply.error(400, "MANIFEST_INVALID")
        if request.headers.get("content-type") in (ARTIFACT, ORAS)
        else None
    )


def attach(source: ScriptedRegistry, image: dict[str, object], what: str) -> str:
    """Attach a referrer that cannot be copied; returns the name in the warning."""
    digest = str(image["digest"])
    if what.startswith("broken referrer"):
        named = source.referrer("app", image, "broken")
        lose_layer(source, "broken")
        return str(named["digest"])
    if what == "broken tag":
        tag = digest.replace(":", "-") + ".sig"
        source.image("app", tag, "broken")
        lose_layer(source, "broken")
        return tag
    if what in ("refused tag", "hidden tag"):
        tag = digest.replace(":", "-") + ".sig"
        source.image("app", tag, "cosign")
        return tag
    if what == "fallback list refused":
        return str(source.referrer("app", image)["digest"])
    kind = ARTIFACT if what == "artifact manifest" else ORAS
    document = {
        "mediaType": kind,
        "artifactType": "x/y",
        "blobs": [source.put_blob(b"jws")],
        "subject": image,
    }
    return str(source.put("app", document, kind)["digest"])


UNFIT = [
    "broken referrer",
    "broken tag",
    "refused tag",
    "hidden tag",
    "fallback list refused",
    "artifact manifest",
    "oras manifest",
]


@pytest.mark.parametrize("what", UNFIT)
def test_a_referrer_that_cannot_be_copied_is_a_warning_and_with_the_flag_a_failure(
    crossdock: Crossdock, start: Start, what: str
) -> None:
    source = start(has_referrers=True)
    refuse = hide_tags if what == "hidden tag" else refuse_tags
    target = start(lambda request: refuse(request) or refuse_types(request), has_referrers="broken" in what)
    image = source.image("app", "v1")
    named = attach(source, image, what)
    whole = source.referrer("app", image, "whole") if what == "broken referrer" else None
    names = f"{source.host}/app:v1", f"{target.host}/app:v1"
    failed = crossdock("copy", *names, "--referrers", "--progress", "none")
    assert failed.code in (NOT_FOUND, AUTH, SOURCE, TARGET), str(failed)
    assert "--no-referrers" in failed.error
    assert "docker login" not in failed.error
    assert target.tags("app") == []

    report = crossdock.home / "report.json"
    done = crossdock.ok("copy", *names, "--output", "json", "--progress", "plain", "--report", report)
    assert target.has("app", "v1", str(image["digest"]))
    (warning,) = done.result["warnings"]
    assert warning.startswith(f"{named}, which is attached to the image, is missing at the target: ")
    assert json.loads(report.read_text())["warnings"] == [warning]
    assert f"warning: {named}" in done.stderr
    if whole is not None:
        assert target.has("app", whole["digest"], whole["digest"])

    assert crossdock.copy(*names, "--no-referrers")["warnings"] == []


@pytest.mark.parametrize("what", ["broken tag", "refused tag", "hidden tag"])
def test_a_mirror_leaves_out_a_tag_that_is_attached_and_cannot_be_copied(
    crossdock: Crossdock, start: Start, what: str
) -> None:
    source, target = start(), start(hide_tags if what == "hidden tag" else refuse_tags)
    image = source.image("app", "v1")
    tag = attach(source, image, what)
    words = ("mirror", source.host, target.host, "--output", "json", "--progress", "plain")
    done = crossdock.ok(*words)
    assert target.has("app", "v1", str(image["digest"]))
    assert (done.result["totals"]["left_out"], done.result["totals"]["failed"]) == (1, 0)
    (left,) = [each for each in done.result["copies"] if each["status"] == "left out"]
    assert left["source"] == f"{source.host}/app:{tag}"
    assert left["error"]["side"] == ("source" if what == "broken tag" else "target")
    assert "left out, as it is attached to an image and cannot be copied" in done.stderr
    failed = crossdock(*words, "--referrers")
    assert failed.result["totals"]["failed"] >= 1
    assert failed.code in (NOT_FOUND, AUTH)


@pytest.mark.parametrize("what", ["broken referrer", "artifact manifest", "oras manifest"])
def test_a_mirror_of_what_has_something_broken_attached_succeeds(
    crossdock: Crossdock, start: Start, what: str
) -> None:
    source, target = start(has_referrers=True), start(refuse_types, has_referrers=True)
    image = source.image("app", "v1")
    named = attach(source, image, what)
    done = crossdock.ok("mirror", source.host, target.host, "--output", "json", "--progress", "none")
    assert target.has("app", "v1", str(image["digest"]))
    (copied,) = done.result["copies"]
    assert named in copied["warnings"][0]
    assert crossdock("mirror", source.host, target.host, "--referrers").code != 0


def test_an_import_with_something_broken_attached_succeeds(crossdock: Crossdock, start: Start) -> None:
    source, target = start(has_referrers=True), start(has_referrers=True)
    image = source.image("app", "v1")
    named = attach(source, image, "broken referrer")
    words = importing(crossdock, target, f"{source.host}/app:v1", "-t", "app:v1")
    done = crossdock.ok(*words, "-o", "json")
    assert target.has("app", "v1", str(image["digest"]))
    assert named in done.stdout + done.stderr


# -- GitLab: the tag sha256-HEX is the manifest with that digest ----------------------------------------


@pytest.mark.parametrize("root", ["image", "index"])
def test_a_target_that_resolves_tags_of_digests(crossdock: Crossdock, start: Start, root: str) -> None:
    source, target = start(has_referrers=True), start(resolves_digest_tags=True)
    image = source.image("app", "v1")
    named = image if root == "image" else source.index("app", [image], "v1")
    signature = source.referrer("app", named)
    names = f"{source.host}/app:v1", f"{target.host}/app:v1"
    for _ in range(2):
        assert crossdock.copy(*names, "--referrers")["referrers"] == 1
        assert target.has("app", "v1", named["digest"])
    _, data = target.manifests["app", named["digest"].replace(":", "-")]
    assert [each["digest"] for each in json.loads(data)["manifests"]] == [signature["digest"]]


@pytest.mark.parametrize("status", [200, 405])
def test_a_source_that_resolves_tags_of_digests(crossdock: Crossdock, start: Start, status: int) -> None:
    source, target = start(resolves_digest_tags=True), start(has_referrers=True)
    image = source.image("app", "")
    index = source.index("app", [image], "v1")
    if status == 405:
        source.before = refusing(405, "tags")
    result = crossdock.copy(f"{source.host}/app:v1", f"{target.host}/app:v1", "--referrers")
    assert (result["referrers"], result["warnings"]) == (0, [])
    assert target.has("app", "v1", index["digest"])


# -- chains --------------------------------------------------------------------------------------------


def test_a_chain_beyond_the_fourth_step_is_a_warning_and_with_the_flag_a_failure(
    crossdock: Crossdock, start: Start
) -> None:
    source, target = start(has_referrers=True), start(has_referrers=True)
    last = source.image("app", "v1")
    for number in range(5):
        last = source.referrer("app", last, f"r{number}")
    names = f"{source.host}/app:v1", f"{target.host}/app:v1"
    crossdock.fail_copy(*names, "--referrers", code=SOURCE, naming=["4 steps", "--no-referrers"])
    assert target.tags("app") == []
    result = crossdock.copy(*names)
    assert "4 steps" in result["warnings"][0]
    assert target.tags("app") == ["v1"]
