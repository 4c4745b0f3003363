"""A headless Chromium, driven by its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from support.process import require, wait_until

PICTURES = Path(__file__).parents[2] / "build" / "pages"
"""Where screenshots are kept, to be looked at."""
PATIENCE_S = 60.0
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--remote-debugging-port=0",
    "--ignore-certificate-errors",
    "--hide-scrollbars",
)


class Browser:
    """One page of the browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._sent = 0
        self.requested: list[str] = []
        """URLs of all requests so far."""

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of one command of the protocol."""
        self._sent += 1
        await self._socket.send_json({"id": self._sent, "method": method, "params": params})
        while True:
            message = await self._socket.receive_json(timeout=PATIENCE_S)
            if message.get("method") == "Network.requestWillBeSent":
                self.requested.append(message["params"]["request"]["url"])
            if message.get("id") == self._sent:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result

    async def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = await self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, script: str) -> Any:
        """The value of an expression in the page, once it is true. The page may be another one meanwhile."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    if value := await self.run(script):
                        return value
                except AssertionError:
                    pass  # the page is being replaced
                await asyncio.sleep(0.05)

    async def click(self, selector: str) -> None:
        """Click an element, after this command: a page that is replaced answers none."""
        await self.run(f"void setTimeout(() => document.querySelector({selector!r}).click())")

    async def open(self, url: str) -> None:
        """Load a page."""
        await self.run("document.documentElement.dataset.before = 'yes'")
        await self.ask("Page.navigate", url=url)
        await self.until("document.readyState === 'complete' && !document.documentElement.dataset.before")

    async def picture(self, name: str, width: int) -> None:
        """Keep a screenshot of the whole page at this width; nothing may extend beyond it."""
        await self.until("document.readyState === 'complete'")  # with its style sheet
        await self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=844,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        beyond = await self.run(
            "[...document.querySelectorAll('body *')].filter(e => !e.closest('thead')"
            " && e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)"
            ".map(e => e.outerHTML.slice(0, 120))"
        )
        assert beyond == []
        assert await self.run("document.documentElement.scrollWidth") <= width
        shot = await self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        PICTURES.mkdir(parents=True, exist_ok=True)
        (PICTURES / f"{name}-{width}.png").write_bytes(base64.b64decode(shot["data"]))


@asynccontextmanager
async def chromium(folder: Path) -> AsyncIterator[Browser]:
    """A browser with a profile in `folder`."""
    profile = folder / "profile"
    command = [require("chromium"), *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *command, env={"HOME": str(folder)}, stdout=quiet, stderr=quiet
    )
    port = profile / "DevToolsActivePort"
    try:
        await asyncio.to_thread(wait_until, lambda: port.exists() and "\n" in port.read_text(), "Chromium")
        async with aiohttp.ClientSession() as session:
            number = port.read_text().splitlines()[0]
            async with session.get(f"http://127.0.0.1:{number}/json/list") as answer:
                pages = json.loads(await answer.text())
            url = next(each["webSocketDebuggerUrl"] for each in pages if each["type"] == "page")
            async with session.ws_connect(url, max_msg_size=0) as socket:
                browser = Browser(socket)
                await browser.ask("Network.enable")
                yield browser
    finally:
        process.terminate()
        await process.wait()
