"""Chromium without a window, driven by its own protocol over a pipe: JSON texts, each with a zero behind it."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium")
Json = dict[str, Any]


class Browser:
    """One page. `requests` are the addresses that it asked for, `errors` what its console and its scripts complained of."""

    def __init__(self, home: Path, width: int = 1280, height: int = 1000) -> None:
        assert PROGRAM is not None
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        words = [
            PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
            f"--user-data-dir={home}", "about:blank",
        ]  # fmt: skip
        # A shell puts the ends where Chromium looks for them, at 3 and 4.
        line = 'in=$1; out=$2; shift 2; exec "$@" 3<&"$in" 4>&"$out"'
        self._process = subprocess.Popen(
            ["bash", "-c", line, "bash", str(theirs_in), str(theirs_out), *words], pass_fds=(theirs_in, theirs_out),
            stderr=subprocess.DEVNULL, env={**os.environ, "HOME": str(home)},
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self._number, self._rest, self._session = 0, b"", ""
        self.requests: list[str] = []
        self.errors: list[str] = []
        (page,) = (one for one in self._ask("Target.getTargets")["targetInfos"] if one["type"] == "page")
        self._session = self._ask("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._ask(f"{domain}.enable")
        self.size(width, height)

    def size(self, width: int, height: int) -> None:
        """Of the page, in CSS pixels."""
        self._ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)

    def open(self, address: str) -> None:
        """That page, once the one before it has gone."""
        self.run("window.before = true")
        self._ask("Page.navigate", url=address)
        self.wait("!window.before && document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        found = self._ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = 60) -> Any:
        """The value of an expression, once it is true."""
        end = time.monotonic() + seconds
        while not (found := self.run(f"((found) => found instanceof Node || found)({script})")):
            assert time.monotonic() < end, f"never came: {script}"
            time.sleep(0.05)
        return found

    def press(self, selector: str) -> None:
        """A click of the mouse in the middle of an element."""
        self.wait(f"document.querySelector({json.dumps(selector)}) !== null")
        found = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{found}.scrollIntoView({{block: 'center'}})")
        x, y = self.run(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({found}.getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self._ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, selector: str, text: str) -> None:
        """Put text in the place of what a field has, and leave it."""
        self.press(selector)
        self.run(f"document.querySelector({json.dumps(selector)}).select()")
        if text:
            self._ask("Input.insertText", text=text)
        else:
            self.key("Backspace", 8)
        self.key("Tab", 9)

    def key(self, name: str, code: int) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            self._ask("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code)

    def picture(self, file: Path) -> None:
        """The window as a PNG."""
        file.write_bytes(base64.b64decode(self._ask("Page.captureScreenshot")["data"]))

    def close(self) -> None:
        self._session = ""
        self._ask("Browser.close")
        self._process.wait(30)
        os.close(self._in)
        os.close(self._out)

    def _ask(self, method: str, **params: Any) -> Json:
        self._number += 1
        asked = {"id": self._number, "method": method, "params": params}
        os.write(self._out, json.dumps(asked | ({"sessionId": self._session} if self._session else {})).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self._note(answer)
        assert "error" not in answer, (method, answer["error"])
        found: Json = answer["result"]
        return found

    def _next(self) -> Json:
        while b"\0" not in self._rest:
            assert select.select([self._in], [], [], 60)[0], "the browser says nothing"
            piece = os.read(self._in, 1 << 20)
            assert piece, "the browser has ended"
            self._rest += piece
        text, _, self._rest = self._rest.partition(b"\0")
        found: Json = json.loads(text)
        return found

    def _note(self, event: Json) -> None:
        params = event.get("params", {})
        match event.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Network.webSocketCreated":
                self.requests.append(params["url"])
            case "Runtime.exceptionThrown":
                self.errors.append(json.dumps(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "assert"):
                self.errors.append(json.dumps(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.errors.append(json.dumps(params["entry"]))
