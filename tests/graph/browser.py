"""A headless Chromium, driven through the DevTools protocol. It resolves no names, so nothing leaves the machine."""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
from anyio.abc import TaskGroup
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless=new",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--mute-audio",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-port=0",
]
PATIENCE = 30.0  # seconds for anything the page should come to; a busy two-core machine needs a few

VALUE = "((value) => value?.constructor === Object || Object(value) !== value ? value : true)({})"


class BrowserError(Exception):
    pass


@dataclass
class Page:
    """One tab and its workers: what it requested, what it said, and what it was forbidden."""

    socket: ClientConnection
    session: str = ""
    requests: list[str] = field(default_factory=list)
    sockets: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    bytes_received: int = 0
    _next: int = 0
    _waiting: dict[int, tuple[anyio.Event, dict[str, Any]]] = field(default_factory=dict)

    async def open(self, url: str) -> None:
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState === 'complete'")

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page, awaited when it is a promise."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise BrowserError(json.dumps(answer["exceptionDetails"])[:1000])
        return answer["result"].get("value")

    async def until(self, expression: str) -> Any:
        """The first truthy value of an expression, true for one that JSON cannot say (an element, say).

        Raises BrowserError when it stays falsy for `PATIENCE` seconds.
        """
        with anyio.move_on_after(PATIENCE):
            while True:
                with suppress(BrowserError):  # the element may not be there yet
                    if value := await self.evaluate(VALUE.format(expression)):
                        return value
                await anyio.sleep(0.05)
        raise BrowserError(f"never became true: {expression}; complaints: {self.complaints}")

    async def click(self, selector: str) -> None:
        """Press and release the mouse in the middle of an element, once it is there."""
        box = await self.until(
            f"""(() => {{
                const box = document.querySelector({json.dumps(selector)})?.getBoundingClientRect();
                return box?.width ? {{x: box.x + box.width / 2, y: box.y + box.height / 2}} : null;
            }})()"""
        )
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **box)

    async def type(self, text: str) -> None:
        await self.call("Input.insertText", text=text)

    async def press(self, key: str, code: str, number: int, modifiers: int = 0) -> None:
        """Press one key; `modifiers` adds 1 for Alt, 2 for Control, 4 for Meta, 8 for Shift."""
        for kind in ("keyDown", "keyUp"):
            await self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=code,
                windowsVirtualKeyCode=number,
                modifiers=modifiers,
            )

    async def prefer(self, scheme: str) -> None:
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def screenshot(self, path: Path) -> None:
        answer = await self.call("Page.captureScreenshot", format="png")
        await anyio.Path(path).write_bytes(base64.b64decode(answer["data"]))

    def hosts(self) -> set[str]:
        """The hosts and ports that the tab and its workers spoke to. Blobs and data addresses have none."""
        return {host for url in [*self.requests, *self.sockets] if (host := urlsplit(url).netloc)}

    async def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        self._next += 1
        number, done, answer = self._next, anyio.Event(), dict[str, Any]()
        self._waiting[number] = done, answer
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if session := self.session if session is None else session:
            message["sessionId"] = session
        await self.socket.send(json.dumps(message))
        with anyio.fail_after(PATIENCE):
            await done.wait()
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    async def listen(self, tasks: TaskGroup) -> None:
        with suppress(ConnectionClosed):
            async for text in self.socket:
                message = json.loads(text)
                if "id" in message:
                    done, answer = self._waiting.pop(message["id"])
                    answer.update(message)
                    done.set()
                elif message["method"] == "Target.attachedToTarget":
                    tasks.start_soon(self._watch, message["params"]["sessionId"])
                else:
                    self._note(message["method"], message["params"])

    async def _watch(self, session: str) -> None:
        """Watch a worker from its first instruction: it was stopped at its start."""
        with suppress(BrowserError):  # a worker may end before we are done
            for domain in ("Network", "Log", "Runtime"):
                with suppress(BrowserError):  # not every kind of target knows every domain
                    await self.call(f"{domain}.enable", session)
            await self.call("Runtime.runIfWaitingForDebugger", session)

    def _note(self, method: str, params: dict[str, Any]) -> None:
        match method:
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Network.webSocketCreated":
                self.sockets.append(params["url"])
            case "Network.loadingFinished":
                self.bytes_received += int(params["encodedDataLength"])
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.complaints.append(json.dumps(params["args"])[:500])
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(params["exceptionDetails"])[:1000])
            case "Audits.issueAdded" if params["issue"]["code"] == "ContentSecurityPolicyIssue":
                self.complaints.append(json.dumps(params["issue"]["details"])[:500])
            case _:
                pass


@contextmanager
def chromium(profile: Path) -> Iterator[str]:
    """A new Chromium whose profile is the empty directory `profile`: the address of its debugger."""
    assert CHROMIUM, "chromium is not installed"
    flags = [*FLAGS, f"--user-data-dir={profile}"]
    if os.geteuid() == 0:
        flags.append("--no-sandbox")  # Chromium refuses to sandbox root
    process = subprocess.Popen([CHROMIUM, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield _debugger(profile)
    finally:
        process.terminate()
        process.wait()


@asynccontextmanager
async def tab(debugger: str, *, width: int = 1440, height: int = 900) -> AsyncIterator[Page]:
    """An empty tab, with a storage and a cache of its own."""
    async with connect(debugger, max_size=None) as socket, anyio.create_task_group() as tasks:
        page = Page(socket)
        tasks.start_soon(page.listen, tasks)
        context = await page.call("Target.createBrowserContext", disposeOnDetach=True)
        target = await page.call("Target.createTarget", url="about:blank", **context)
        attached = await page.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page.session = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime", "Audits"):
            await page.call(f"{domain}.enable")
        await page.call("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=True, flatten=True)
        await page.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        yield page
        tasks.cancel_scope.cancel()


def _debugger(profile: Path) -> str:
    """Chromium writes the port it chose, and the path of its socket, into its profile."""
    file, late = profile / "DevToolsActivePort", time.monotonic() + PATIENCE
    while time.monotonic() < late:
        if file.exists() and len(lines := file.read_text().split()) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(0.05)
    raise BrowserError("chromium does not say where its debugger is")
