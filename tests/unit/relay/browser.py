"""A headless Chromium that pages are looked at with, spoken to over its debugging protocol; skipped where it is not
installed (apt-get install chromium)."""

from __future__ import annotations

import base64
import itertools
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest

_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-extensions", "--remote-debugging-port=0",
)  # fmt: skip
_START_S = 60
WIDE = """(() => {
  const beyond = one => one.getBoundingClientRect().right > innerWidth + 1;
  const hidden = one => one.scrollWidth > one.clientWidth + 1;
  const wide = [...document.querySelectorAll('body *')].filter(beyond);
  const cut = [...document.querySelectorAll('.card')].filter(hidden);
  const page = document.documentElement.scrollWidth > innerWidth ? [document.body] : [];
  return [...page, ...wide, ...cut].map(one => one.outerHTML.replace(/\\s+/g, ' ').slice(0, 90));
})()"""
"""What is wider than the window, or than the card that it is in: a reader would have to scroll sideways for it."""


@dataclass
class Tab:
    """One page of the browser."""

    socket: aiohttp.ClientWebSocketResponse
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def _do(self, method: str, **params: Any) -> Any:
        number = next(self.numbers)
        await self.socket.send_json({"id": number, "method": method, "params": params})
        while True:
            heard = await self.socket.receive_json()
            if heard.get("id") == number:
                assert "error" not in heard, heard
                return heard["result"]

    async def see(self, width: int, *, dark: bool = False) -> None:
        """Look through a window of so many pixels."""
        size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
        await self._do("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self._do("Emulation.setEmulatedMedia", features=[scheme])

    async def open(self, url: str) -> None:
        """Go to a page and wait until everything on it is there."""
        await self._do("Page.enable")
        await self._do("Page.navigate", url=url)
        while True:
            heard = await self.socket.receive_json()
            if heard.get("method") == "Page.loadEventFired":
                return

    async def value(self, script: str) -> Any:
        """What a script of ours finds on the page, which itself runs none."""
        return (await self._do("Runtime.evaluate", expression=script, returnByValue=True))["result"]["value"]

    async def picture(self, path: Path) -> None:
        """The whole page as a PNG."""
        shot = await self._do("Page.captureScreenshot", captureBeyondViewport=True)
        await anyio.Path(path).write_bytes(base64.b64decode(shot["data"]))


@asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Tab]:
    """A fresh browser with one tab."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    profile = anyio.Path(folder) / "chromium"
    command = [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
    async with await anyio.open_process(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            port = await _port(profile / "DevToolsActivePort")
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as reply:
                    (page,) = [one for one in await reply.json() if one["type"] == "page"]
                async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    yield Tab(socket)
        finally:
            process.kill()


async def _port(path: anyio.Path) -> int:
    with anyio.fail_after(_START_S):
        while not await path.exists() or not await path.read_text():  # noqa: ASYNC110 - another process writes it
            await anyio.sleep(0.02)
    return int((await path.read_text()).splitlines()[0])
