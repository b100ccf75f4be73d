"""A headless Chromium for tests: opens a page, and says what it logged, what it asked the network for, how it looks."""

import base64
import io
import itertools
import json
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
]


class Browser:
    """One Chromium with one tab, driven over the DevTools protocol; use it as a context manager.

    `errors` holds console errors and uncaught exceptions, `requests` every address asked for, since the last `open`.
    """

    def __init__(self, width: int = 1280, height: int = 900, patience: float = 30):
        """patience: seconds that Chromium may take for an answer."""
        websocket = pytest.importorskip("websocket", reason="websocket-client is not installed: no browser test")
        if CHROMIUM is None:
            pytest.skip("no chromium, chromium-browser or google-chrome on the PATH: no browser test")
        self.errors, self.requests, self._loaded = [], [], False
        self._numbers = itertools.count(1)
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            address = self._debugger()
            self._socket = websocket.create_connection(address, timeout=patience)
            target = next(t for t in self._call("Target.getTargets")["targetInfos"] if t["type"] == "page")
            attach = self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
            self._session = attach["sessionId"]
            for domain in ("Page", "Runtime", "Network", "Log"):
                self._call(f"{domain}.enable")
            self.resize(width, height)
        except BaseException:
            self._stop()
            raise

    def _debugger(self) -> str:
        port = Path(self._profile.name) / "DevToolsActivePort"
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(FileNotFoundError, ValueError):
                number, path = port.read_text().split()
                return f"ws://127.0.0.1:{number}{path}"
            time.sleep(0.05)
        raise RuntimeError(f"{CHROMIUM} did not open its debugging port within 30 s; start it by hand to see why")

    def _call(self, method: str, **params) -> dict:
        number = next(self._numbers)
        session = {"sessionId": self._session} if hasattr(self, "_session") else {}
        self._socket.send(json.dumps({"id": number, "method": method, "params": params} | session))
        while (message := self._receive()).get("id") != number:
            pass
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']['message']}")
        return message["result"]

    def _receive(self) -> dict:
        message = json.loads(self._socket.recv())
        params = message.get("params", {})
        match message.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                self.errors.append(details.get("exception", {}).get("description", details["text"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "assert"):
                self.errors.append(" ".join(str(a.get("value", a.get("description"))) for a in params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        return message

    def open(self, page: str | Path, settle: float = 0.5) -> None:
        """Load a file (or an address), then wait `settle` seconds for its scripts."""
        self.errors, self.requests, self._loaded = [], [], False
        address = Path(page).resolve().as_uri() if "://" not in str(page) else str(page)
        if trouble := self._call("Page.navigate", url=address).get("errorText"):
            raise RuntimeError(f"{address} did not open: {trouble}")
        while not self._loaded:
            self._receive()
        time.sleep(settle)
        self.run("0")  # collects the events that came meanwhile

    def run(self, script: str):
        """Value of a JavaScript expression in the page; a promise is awaited."""
        result = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"].get("exception", {}).get("description", script))
        return result["result"].get("value")

    def until(self, script: str, seconds: float = 20):
        """Value of a JavaScript expression as soon as it is true."""
        deadline = time.monotonic() + seconds
        while not (value := self.run(script)):
            text = self.run("document.body.innerText")
            assert time.monotonic() < deadline, f"{script} is still {value!r}: {text[-2000:]}"
            time.sleep(0.5)
        return value

    def resize(self, width: int, height: int, phone: bool = False) -> None:
        """Set the size of the window, in CSS pixels; a phone also obeys the page's viewport tag."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def prefer(self, scheme: str) -> None:
        """Let the reader's system prefer the colour scheme `light` or `dark`."""
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def print(self) -> bytes:
        """The page as a PDF file, A4, as the reader's own Ctrl-P makes it."""
        given = {"paperWidth": 8.27, "paperHeight": 11.69, "preferCSSPageSize": True}
        return base64.b64decode(self._call("Page.printToPDF", **given)["data"])

    def focus(self) -> None:
        """Let the page believe that its window is in front: JupyterLab's commands are for what has the focus."""
        self._call("Emulation.setFocusEmulationEnabled", enabled=True)

    def hover(self, x: float, y: float) -> None:
        """Move the mouse to a place in the window, in CSS pixels."""
        for dx in (-3, 0):
            self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x + dx, y=y)
            time.sleep(0.15)

    def tap(self, x: float, y: float) -> None:
        """Press and release the left button at a place in the window, in CSS pixels."""
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        time.sleep(0.15)

    def type(self, text: str) -> None:
        """Write text where the cursor is, then press Enter."""
        self._call("Input.insertText", text=text)
        for kind in ("keyDown", "keyUp"):
            key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
            self._call("Input.dispatchKeyEvent", type=kind, text="\r" if kind == "keyDown" else "", **key)

    def screenshot(self, path: str | Path | None = None, whole: bool = True) -> np.ndarray:
        """What the page looks like: (height, width, 3), uint8; `whole` goes beyond the window. Written to `path`."""
        data = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        if whole:
            size = self._call("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
            data = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]
        image = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
        if path:
            image.save(path)
        return np.asarray(image)

    def external_requests(self) -> list[str]:
        """Addresses asked for that are neither a local file nor data in the page."""
        return [r for r in self.requests if not r.startswith(("file:", "data:", "blob:", "about:"))]

    def _stop(self) -> None:
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._profile.cleanup()

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_) -> None:
        with suppress(Exception):
            self._socket.close()
        self._stop()
