"""The upload of one blob: `protocol.upload` decides, this module sends and waits.

Rules:

1. No session is opened before there are bytes to send (U15), and every request gets its own token (U14).
2. Before they return, `append` and `commit` recover from failures as the state machine decides: they query
   the session and renew tokens; the next call opens a new session if needed. They raise `UploadInterrupted`
   only if bytes must be supplied again.
3. A failing clean-up never hides the error that led to it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from crossdock.content import SavedSession, SessionLog
from crossdock.errors import (
    Advice,
    CrossdockError,
    LimitExceeded,
    NotFound,
    ProtocolError,
    RateLimited,
    RedirectRefused,
    RegistryError,
    TokenExpired,
    TransportError,
    Unauthorized,
    UploadInterrupted,
    UploadRejected,
)
from crossdock.oci.descriptor import Descriptor
from crossdock.protocol.contentcoding import coding_of, decoded_start
from crossdock.protocol.errorcode import MAX_BODY
from crossdock.protocol.redirect import next_hop
from crossdock.protocol.resume import StartAgain
from crossdock.protocol.upload import Ask, Done, Look, Open, Send, Upload, Verdict
from crossdock.registry.blobs.blob import blob_exists
from crossdock.registry.uploads.kept import check_kept, check_stated
from crossdock.registry.uploads.pace import PATIENCE, Idle, Pace
from crossdock.registry.uploads.requests import CANCEL_TIMEOUT_S, UploadRequests, checked
from crossdock.url import Url

if TYPE_CHECKING:
    from crossdock.registry.client import Reply
    from crossdock.registry.handle import Repository
    from crossdock.transport.base import Exchange

_AGAIN = "the upload starts again at byte 0, in a new session: "


class RegistryUpload:
    """`content.UploadSession` at a registry.

    `opened` is the response that already opened a session: a mount that became an upload (M1). With
    `chunk_size` the blob is uploaded in chunks, as a `content.ResumableSession`; `log` records each chunk,
    and `saved` is the session that `resume` queries.
    """

    def __init__(
        self,
        repository: Repository,
        descriptor: Descriptor,
        opened: Reply | None = None,
        *,
        chunk_size: int | None = None,
        log: SessionLog | None = None,
        saved: SavedSession | None = None,
    ) -> None:
        client = repository.client
        self._client = client
        self._repository = repository
        self._descriptor = descriptor
        self._scope = repository.scope
        self._memory = repository.memory
        self._opened = opened
        self._requests = UploadRequests(repository, descriptor)
        self._exchange: Exchange | None = None
        self._offset = 0
        self._begun_at = 0  # offset of the current request in the blob
        self._log = log
        self._saved = saved
        self._logged: tuple[int, Url | None] = (0, None)  # the last entry of the log
        self._is_busy = False
        self._pace = Pace(client.network.timeout)
        self._idle = Idle(PATIENCE * client.network.timeout, self._leave_chunk)
        self._left: int | None = None  # bytes sent of a chunk that was abandoned because no more arrived
        self._upload = Upload(
            descriptor.digest,
            descriptor.size,
            repository.memory.rules_for(descriptor.size, chunk_size),
            retries=client.network.retries,
            resolve=self._resolve,
        )

    @property
    def offset(self) -> int:
        """Bytes accepted so far by `append`."""
        return self._offset

    @property
    def boundary(self) -> int | None:
        """Requests end at multiples of this; None: one request for the whole blob."""
        return self._upload.boundary

    @property
    def is_between_requests(self) -> bool:
        """No request is running or about to start."""
        return not self._is_busy

    async def resume(self) -> tuple[int, str]:
        """Query the saved session. # network

        Returns the offset to resume at, and a note about it. Raises no network error: a session without a
        response is replaced by a new session.
        """
        saved = self._saved
        if saved is None:
            return 0, ""
        base = await self._client.base_url()
        try:
            location = self._resolve(base, saved.location)  # it comes from a file
        except TransportError as error:
            return 0, f"{_AGAIN}{error}"
        self._upload.take_up(location, saved.acknowledged, saved.chunk_size, trust_range=saved.trust_range)
        found = self._upload.taken_up(*await self._requests.ask(location))
        if isinstance(found, StartAgain):
            return 0, f"{_AGAIN}{found.reason}" if found.announce else ""
        if self._opened is not None:
            unused, self._opened = self._opened, None
            with suppress(TransportError):
                await self._requests.drop(self._resolve(unused.url, unused.headers.get("Location", "")))
        self._offset = found.offset
        self._tell_log()
        return found.offset, f"{found.lost} bytes that it had acknowledged are lost" if found.lost else ""

    async def find(self) -> bool:
        """As `content.FindsOnUpload`; if the blob is missing, its session may be open afterwards. # network

        HEAD confirms a 201, because it states the size, and is sent if the mount is refused.
        """
        contents, path = self._memory.contents, self._repository.path
        if self._opened is not None or contents.is_absent(path):
            return False
        reply = await self._requests.find()
        contents.looked_by_mount(reply is not None)
        if reply is not None and self._requests.leads_to_session(reply):
            self._opened, found = reply, False
        else:
            found = await blob_exists(self._repository, self._descriptor)
        contents.looked(found)
        if found:
            contents.add(path, self._descriptor)
        return found

    def prepare(self) -> None:
        """Open the session now, since the first bytes will follow soon. `append` raises any failure."""
        size = self._descriptor.size
        if self._opened is None and not self._requests.is_begun and not self._memory.may_post_whole(size):
            self._requests.prepare()

    async def append(self, data: memoryview) -> None:
        """Send the next bytes; `data` may cross chunk boundaries. # network

        Raises `UploadInterrupted` if bytes must be supplied again, `UploadRejected` and other `RegistryError`
        if the target refuses permanently, `TransportError` if it cannot be reached after all retries.
        """
        if len(data) > self._descriptor.size - self._offset:
            raise ValueError(f"{len(data)} bytes at {self._offset} exceed the size {self._descriptor.size}")
        self._is_busy = True
        try:
            is_whole = self._is_whole(data) and self._memory.take_whole_post(len(data))
            if is_whole and await self._post_whole(data):
                return
            while len(data):
                start = self._offset
                await self._append_once(data)
                data = data[self._offset - start :]
        finally:
            self._is_busy = self._exchange is not None

    async def commit(self) -> None:
        """Commit the blob; waits for the response up to the commit timeout (U13). Raises as `append`."""
        if self._offset != self._descriptor.size:
            raise ValueError(f"commit after {self._offset} of {self._descriptor.size} bytes")
        while not isinstance(self._upload.step, Done):
            if self._exchange is None and not await self._start():
                continue
            await self._finish(self._client.network.commit_timeout)
        self._memory.learn(self._upload)
        if self._descriptor.digest.algorithm != "sha256":
            await check_kept(self._repository, self._descriptor)
        self._memory.contents.add(self._repository.path, self._descriptor, self._repository.rank)

    async def cancel(self) -> None:
        """Delete the session; a no-op after `commit`. Never raises an error; bounded in time."""
        self._close_exchange()
        if isinstance(self._upload.step, Done):
            return
        await self._finish_opening()
        for location in (self._upload.location, *self._upload.abandoned):
            await self._requests.drop(location)

    async def suspend(self) -> None:
        """End the current request and keep the session. Never raises an error; bounded in time."""
        self._close_exchange()
        await self._finish_opening()

    async def _finish_opening(self) -> None:
        """Adopt a session that was opened, or is being opened, but never used. # network"""
        with suppress(CrossdockError, TimeoutError):
            async with asyncio.timeout(CANCEL_TIMEOUT_S):
                self._opened = await self._requests.late_answer() or self._opened
                if self._opened is not None:
                    await self._open()

    # -- sending -------------------------------------------------------------------------------------

    async def _append_once(self, data: memoryview) -> None:
        """Send as much of `data` as the current request may carry. Returns also after a recovered failure."""
        if self._exchange is None and not await self._start(len(data)):
            return
        assert self._exchange is not None
        send = self._sending()
        piece = data[: send.stop - self._offset]
        size = len(piece)
        self._idle.ends()
        try:
            await self._exchange.write(piece)  # network
        except TransportError as error:
            self._close_exchange()
            await self._settle(self._upload.broken(self._offset - send.start), error)
            return
        ends = self._offset + size == send.stop
        if self._exchange.responded_early:
            # The response may arrive before the last write returns; the digest decides whether it was
            # complete.
            await self._finish(None, size if ends else 0)
            return
        self._offset += size
        if ends and not send.final:
            await self._finish(None)
        elif not send.final and self._memory.keeps_cut_chunks:
            self._idle.begins()

    async def _start(self, ready: int = 0) -> bool:
        """Open the session or the next request. False: it failed and was recovered. # network

        `ready` bytes can be sent at once.
        """
        if self._left is not None:
            await self._continue_after(self._left)
            return False
        if isinstance(self._upload.step, Open):
            await self._open()
        self._upload.shorten(self._pace.most(self._offset, ready))
        send = self._sending()
        self._begun_at = send.start
        try:
            self._exchange = await self._client.start(
                send.method,
                send.url,
                scope=self._scope,
                headers=(*send.headers, *self._requests.cookies.headers_for(send.url)),
                content_length=send.stop - send.start,
            )
        except TransportError as error:
            if not error.retryable:
                raise
            await self._settle(self._upload.broken(0), error)
            return False
        return True

    def _leave_chunk(self) -> None:
        """Abandon a chunk that waited too long for bytes: its open request would eventually be cut."""
        self._left = self._offset - self._sending().start
        self._close_exchange()
        self._is_busy = False

    async def _continue_after(self, sent: int) -> None:
        """Continue after `_leave_chunk`, which had sent `sent` bytes of its chunk."""
        self._left = None
        send, waited_s = self._sending(), self._client.network.timeout * PATIENCE
        error = TransportError(
            f"{send.method} {send.url}: abandoned after {sent} of {send.stop - send.start} bytes:"
            f" the source kept it waiting for {waited_s:g} s"
        )
        await self._settle(self._upload.left(), error)

    async def _open(self) -> None:
        await self._client.base_url()
        reply, self._opened = self._opened, None
        reply = checked(reply) if reply is not None else await self._requests.open()
        self._requests.cookies.clear()
        self._requests.cookies.keep(reply.url, reply.headers.getall("Set-Cookie"))
        self._upload.opened(reply.headers, reply.url)
        upload = self._upload
        if self._log is not None and upload.location is not None:
            self._log.opened(upload.location.text, upload.chunk_size, trust_range=upload.trust_range)
            self._logged = (0, upload.location)
        await self._drop_abandoned()

    # -- in a single request ------------------------------------------------------------------------------

    def _is_whole(self, data: memoryview) -> bool:
        """Whether `data` is the whole blob and no request has been sent for it."""
        return len(data) == self._descriptor.size and not self._requests.is_begun and self._opened is None

    async def _post_whole(self, data: memoryview) -> bool:
        """POST the whole blob (end-4b). False: upload as usual, in the session that the registry may have
        opened.

        Not retried. Raises `UploadInterrupted` after a transient failure.
        """
        taken: bool | None = None  # None: the attempt shows nothing about the registry
        try:
            reply = await self._requests.post_whole(bytes(data))
            taken = reply.status == 201 and await self._is_kept(reply)
            if taken:
                self._offset = len(data)
                self._upload.posted()
            elif reply.status == 202 and self._requests.leads_to_session(reply):
                self._opened = reply
        except CrossdockError as error:
            if error.retryable:
                self._interrupt(error)  # counted as a retry, then uploaded as usual
            if isinstance(error, RegistryError) and error.status not in (401, 403):
                taken = False
        finally:
            self._memory.posted_whole(taken)
        return taken is True

    async def _is_kept(self, reply: Reply) -> bool:
        """Whether a 201 means that the blob exists: some registries return it when they opened a session."""
        if self._requests.leads_to_session(reply):
            return False
        return self._memory.takes_whole_posts or await self._requests.look()

    async def _finish(self, timeout: float | None, early: int = 0) -> None:
        """Read the response to the current request. `early` bytes were written but not counted. # network"""
        assert self._exchange is not None
        exchange, send = self._exchange, self._sending()
        url = exchange.url
        sent = self._offset - send.start + early
        try:
            head = await exchange.response(timeout)
            body = b""
            with suppress(TransportError, LimitExceeded):  # only the status matters
                body = decoded_start(
                    coding_of(head.get("content-encoding")), await exchange.read(MAX_BODY), MAX_BODY
                )
        except TransportError as error:
            await self._settle(self._upload.broken(sent), error)
            return
        finally:
            self._close_exchange()
        self._requests.cookies.keep(url, (value for name, value in head.headers if name == "set-cookie"))
        refusal, is_renewed = None, False
        if not 200 <= head.status < 300:
            self._client.throttle(url.origin, head.status, head.headers)
            refusal = self._client.error_from(head.status, head.headers, body, send.method, url, self._scope)
            if url.origin == self._client.origin and (head.status == 401 or not refusal.retryable):
                is_renewed = await self._client.improve(
                    self._scope, exchange.authorization, head.status, head.headers, body
                )
                # A young token may not be valid yet on every instance: it is sent again.
                is_renewed = is_renewed or (head.status == 401 and refusal.retryable)
        elif send.final:
            check_stated(self._descriptor.digest, head.get("docker-content-digest"), url)
        status = _meaning(head.status, refusal, is_renewed=is_renewed)
        try:
            verdict = self._upload.answered(status, head, sent, refusal.codes if refusal else ())
        except RedirectRefused as error:
            raise RedirectRefused(f"{send.method} {url}: {error}") from None
        await self._settle(verdict, refusal, early)

    # -- recovery -------------------------------------------------------------------------------------

    async def _settle(self, verdict: Verdict, error: CrossdockError | None, early: int = 0) -> None:
        """Send the queries that the machine needs, then continue, interrupt, or raise `error`."""
        if self._upload.failures and verdict is Verdict.AGAIN:
            await asyncio.sleep(self._client.network.backoff_s(self._upload.failures))
        while verdict is not Verdict.REFUSED and isinstance(self._upload.step, Ask | Look):
            if isinstance(self._upload.step, Look):
                verdict = self._upload.looked(await self._requests.look())
            else:
                verdict = self._upload.asked(*await self._requests.ask(self._upload.step.url))
        self._memory.learn(self._upload)
        if verdict is Verdict.REFUSED:
            self._give_up(error)
        self._tell_log()
        if self._log is None:  # else the log keeps naming it until a new session is open
            await self._drop_abandoned()
        if self._offset <= self._upload.offset <= self._offset + early:
            self._offset = self._upload.offset
            is_repeated = self._offset == self._begun_at and not isinstance(self._upload.step, Done)
            if is_repeated and error is not None and not isinstance(error, Unauthorized):
                # No bytes are needed again, so the engine, which counts interruptions, does not see this one.
                self._repository.note_retry("push blob", error)
        else:
            self._interrupt(error)

    def _tell_log(self) -> None:
        upload = self._upload
        reached = (upload.acknowledged, upload.location)
        if self._log is not None and upload.location is not None and reached != self._logged:
            self._log.acknowledged(
                upload.acknowledged,
                upload.location.text,
                upload.chunk_size,
                trust_range=upload.trust_range,
            )
            self._logged = reached

    async def _drop_abandoned(self) -> None:
        while self._upload.abandoned:
            await self._requests.drop(self._upload.abandoned[-1])
            self._upload.abandoned.pop()

    def _interrupt(self, cause: CrossdockError | None) -> NoReturn:
        self._offset = self._upload.offset
        announce, self._upload.lost = self._upload.lost, False
        raise UploadInterrupted(
            f"the upload of {self._descriptor.digest} must be repeated from byte {self._offset}",
            offset=self._offset,
            announce=announce,
            cause=cause,
        ) from cause

    def _give_up(self, error: CrossdockError | None) -> NoReturn:
        if error is None:
            error = ProtocolError(
                f"the target's responses to the upload of {self._descriptor.digest} make no sense"
            )
        if type(error) is RegistryError:  # the client does not recognize every Location as that of an upload
            error = UploadRejected(str(error), **vars(error))
        advice = error.advice
        if "DIGEST_INVALID" in getattr(error, "codes", ()):
            advice = Advice("retry", why="the bytes changed in transit, or the target stores something else")
        elif getattr(error, "status", 0) == 413:
            advice = Advice("raise-body-limit")
        elif isinstance(error, NotFound):
            advice = Advice(
                "share-uploads",
                "the target loses upload sessions: its instances must share storage and the HTTP secret",
            )
        elif isinstance(error, UploadRejected) and advice is None:
            advice = Advice("see-log", "see the target's log for its reason")
        raise error.replace(advice=advice) from error.__cause__

    def _close_exchange(self) -> None:
        self._idle.reset()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.close()

    def _sending(self) -> Send:
        assert isinstance(self._upload.step, Send)
        return self._upload.step

    def _resolve(self, base: Url, location: str) -> Url:
        return next_hop(base, location, registry=self._client.origin)


def _meaning(status: int, refusal: RegistryError | None, *, is_renewed: bool) -> int:
    """The effective status: registries also send 403 for rate limits and expired logins.

    401 is returned only if there is a newer token to send; otherwise 403.
    """
    if isinstance(refusal, RateLimited) or (status == 401 and refusal is not None and refusal.retryable):
        return 429
    if is_renewed:
        return 401
    return 403 if status == 401 or isinstance(refusal, TokenExpired) else status
