"""Fuzz targets for documents: references, manifests, layouts, lists, credentials, tokens, the journal.

`wire` describes what a target is.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from crossdock.cli.pairlist import read_pairs
from crossdock.errors import ContentError, CrossdockError, InvalidReference, JournalUnavailable
from crossdock.kept.database import FILE, JournalDatabase
from crossdock.kept.uploads import SavedUpload, UploadKey
from crossdock.oci import mediatype
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.index import platform_of_config, raw_entries, with_entries
from crossdock.oci.manifest import parse_manifest
from crossdock.oci.reference import LayoutReference, Reference, is_tag, parse_location
from crossdock.protocol.challenge import Challenge
from crossdock.registry.auth.credentials import CredentialStore
from crossdock.registry.auth.tokens import TokenService, fetch_token
from crossdock.registry.http.headers import HeaderView
from crossdock.registry.http.reply import Reply
from crossdock.registry.http.retry import Clock
from crossdock.registry.listings import azure, ecr, google, harbor, quay
from crossdock.registry.listings.rows import merged
from crossdock.store.indexfile import IndexFile, name_of, set_tag
from crossdock.store.layout import LayoutStore
from crossdock.url import Url
from fuzz import opinions
from unit.kept.rows import CHUNK, KEY, saved

REALM = "https://auth.example/token"
ENTRY = {"mediaType": mediatype.OCI_MANIFEST, "digest": "sha256:" + "cd" * 32, "size": 7}
OLD, NEW = 1000.0, 5000.0  # seconds since 1970, of the two uploads in the journal


@contextmanager
def _folder() -> Iterator[Path]:
    """In memory where the machine has such a place: a run makes thousands."""
    memory = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(prefix="crossdock-fuzz-", dir=memory if memory.is_dir() else None))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def listing(data: bytes) -> None:
    """A page of each API that lists manifests: rows that hold, or an error in our words."""
    url = Url.parse("https://registry.example/api?page=1&limit=100")
    reply = Reply(200, HeaderView([("x-total-count", "1")]), data, url)
    for read in (azure.read, harbor.read, quay.read, google.read, ecr.read):
        with suppress(CrossdockError):
            page = read(reply)
            assert len(page.names) <= len(data)
            for row in merged(page.entries) or ():
                assert row.digest.algorithm in ("sha256", "sha512")
                assert all(map(is_tag, row.tags))
                assert row.size is None or row.size >= 0
                assert all(moment is None or moment > 0 for moment in (row.pushed, row.pulled))
            if page.following is not None:
                Url.parse(reply.url.with_target(page.following).text)


def reference(data: bytes) -> None:
    """A reference equals the parse of its text, and the result of a naive parser."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        found = parse_location(text)
    except InvalidReference as error:
        assert str(error).isprintable()
        other = not text.startswith("oci:") and opinions.reference(text)
        assert not other, f"{text!r} is refused, but is {other}"
        return
    assert parse_location(str(found)) == found
    if isinstance(found, Reference):
        assert (found.registry, found.repository, found.tag, found.digest) == opinions.reference(text)
    else:
        assert isinstance(found, LayoutReference)
        assert found.path


def manifest(data: bytes) -> None:
    """A manifest: its digests are those that plain JSON shows, and its kind is not two."""
    platform_of_config(data)
    for media_type in (None, mediatype.OCI_INDEX, mediatype.DOCKER_MANIFEST):
        try:
            found = parse_manifest(data, media_type)
        except ContentError as error:
            assert str(error).isprintable()
            continue
        document = json.loads(data, parse_int=str, parse_float=str)
        successors = [str(entry.digest) for entry in found.successors()]
        assert successors == opinions.digests(document)
        for entry in found.successors():
            assert 0 <= entry.size < 1 << 63
            assert Descriptor.from_json(msgspec.json.decode(msgspec.json.encode(entry.to_json()))) == entry
        if found.is_index:
            kept = found.manifests[::2]
            with suppress(ContentError):
                filtered = parse_manifest(with_entries(data, raw_entries(data)[::2]), found.media_type)
                assert filtered.manifests == kept


def layout(data: bytes) -> None:
    """A layout: ``index.json`` and ``oci-layout``, separated by a line feed; a tag is added to it."""
    index, _, mark = data.rpartition(b"\n")
    with _folder() as folder:
        (folder / "blobs" / "sha256").mkdir(parents=True)
        (folder / "index.json").write_bytes(index)
        (folder / "oci-layout").write_bytes(mark)
        try:
            store = LayoutStore(folder)
            tags = asyncio.run(store.tags())
            before = [entry for entry in IndexFile(folder).entries() if name_of(entry) not in (None, "new")]
        except CrossdockError:
            return
        for tag in ("", *tags[:5]):
            with suppress(CrossdockError):
                asyncio.run(store.resolve(tag))
        with suppress(CrossdockError):
            IndexFile(folder).update(lambda entries: set_tag(entries, dict(ENTRY), "new"))
            after = IndexFile(folder).entries()
            assert all(entry in after for entry in before)
            assert asyncio.run(LayoutStore(folder).resolve("new")).digest == ENTRY["digest"]


def pairs(data: bytes) -> None:
    """The list of ``--from-file``: pairs that were read are read again after they are written."""
    with _folder() as folder:
        listed = folder / "list"
        listed.write_bytes(data)
        try:
            found = read_pairs(str(listed))
        except CrossdockError as error:
            assert str(error).isprintable()
            return
        listed.write_text("".join(f"{source}\t{target} # again\n" for source, target in found))
        assert list(read_pairs(str(listed))) == list(found)


def credentials(data: bytes) -> None:
    """``config.json`` of docker, ``auth.json`` of podman."""
    with _folder() as folder:
        (folder / "auth.json").write_bytes(data)
        environ = {"REGISTRY_AUTH_FILE": str(folder / "auth.json"), "PATH": str(folder), "HOME": str(folder)}
        for host in ("registry.example:5000", "docker.io"):
            store = CredentialStore(host, given=None, environ=environ, side="source")
            try:
                asyncio.run(store.find("team/app"))
            except CrossdockError as error:
                assert str(error).isprintable()


def token(data: bytes) -> None:
    """The answer of a token service."""

    class Asker:
        origin = Url.parse("https://registry.example").origin
        is_inside = False

        async def ask(
            self,
            method: str,
            url: Url,
            headers: Any = None,
            body: bytes | None = None,
            *,
            follow: bool = False,
        ) -> Reply:
            return Reply(200, HeaderView(()), data, url)

    asker = Asker()
    challenge = Challenge("bearer", {"realm": REALM})
    with suppress(CrossdockError):
        service = TokenService.named_by(challenge, asker.origin, inside=False)
        found = asyncio.run(fetch_token(asker, service, ("repository:team/app:pull",), None, Clock()))
        assert found.value.isascii()
        assert found.value.isprintable()
        assert found.expires >= found.minted


# -- the journal -------------------------------------------------------------------------------------------


def rows() -> list[SavedUpload]:
    """The rows that the damaged journal had."""
    old = UploadKey("old.example", "team/app", KEY.digest)
    return [saved(updated=NEW), saved(key=old, updated=OLD)]


def journal_seed() -> bytes:
    """A journal with `rows` and two finished blobs."""
    with _folder() as folder:
        database = JournalDatabase(folder)
        for row in rows():
            database.write(row)
        for at in (OLD, NEW):
            database.add_finished("r", "blob", "t", KEY.digest, CHUNK, at)
        database.close()
        return (folder / FILE).read_bytes()


def journal(data: bytes) -> None:
    """A damaged journal: every row that it still gives is one that was written."""
    written = rows()
    with _folder() as folder:
        (folder / FILE).write_bytes(data)
        try:
            database = JournalDatabase(folder)
        except JournalUnavailable as error:
            assert str(folder) in str(error)
            return
        try:
            for found in (*database.uploads(), database.read(KEY)):
                assert found is None or found in written
            assert all(0 <= done.at < 1 << 38 for done in database.finished())
            database.prune((OLD + NEW) / 2)
            database.write(written[0])
            assert database.read(KEY) == written[0]
        except JournalUnavailable:
            pass
        finally:
            database.close()
