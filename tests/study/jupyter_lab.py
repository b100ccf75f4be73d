"""A real JupyterLab for tests: a server over a project folder, and one of its notebooks in a headless Chromium."""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from tests.browser import Browser

PATIENCE = 900  # seconds, at most, for JupyterLab, a kernel with torch, or a model
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
    "notebook-extension/tracker": {"windowingMode": "none"},  # else a cell out of sight has no output in the page
}
NOTEBOOK = "[...(window.jupyterapp?.shell?.widgets('main') ?? [])].find(widget => widget.context)"
FIELD = """
(label => [...document.querySelectorAll('.widget-inline-hbox')]
  .find(box => box.querySelector('.widget-label')?.textContent === label && box.querySelector('select')))
"""


class Page:
    """A notebook in JupyterLab, and what a reader does with its widgets."""

    def __init__(self, browser: Browser):
        self.browser = browser

    def until(self, script: str, seconds: float = PATIENCE):
        """Value of a JavaScript expression as soon as it is true."""
        return self.browser.until(script, seconds)

    def text(self) -> str:
        """What the page says."""
        return self.browser.run("document.body.innerText")

    def run_all(self) -> None:
        """Run all cells of the open notebook."""
        self.browser.focus()
        self.until(f"{NOTEBOOK}?.sessionContext.session?.kernel?.status === 'idle'")
        self.browser.run(f"jupyterapp.shell.activateById({NOTEBOOK}.id)")
        self.until("jupyterapp.commands.isEnabled('notebook:run-all-cells')")
        self.browser.run("void jupyterapp.commands.execute('notebook:run-all-cells')")

    def choose(self, label: str, value: str) -> None:
        """Choose an entry of the drop-down list with this label."""
        arguments = json.dumps(label), json.dumps(value)
        self.browser.run(f"""(() => {{
            const field = {FIELD}({arguments[0]}).querySelector("select");
            const plain = text => text.replaceAll("\\xa0", " ");  // the widget puts no-break spaces into its entries
            field.selectedIndex = [...field.options].findIndex(o => plain(o.text) === plain({arguments[1]}));
            field.dispatchEvent(new Event("change", {{bubbles: true}}));
        }})()""")

    def click(self, element: str) -> None:
        """Press the left button in the middle of the element that a JavaScript expression gives."""
        self.browser.run(f"{element}.scrollIntoView({{block: 'center'}})")
        time.sleep(0.5)
        x, y = self.browser.run(
            f"(({{left, right, top, bottom}}) => [(left + right) / 2, (top + bottom) / 2])"
            f"({element}.getBoundingClientRect())"
        )
        self.browser.tap(x, y)


@contextmanager
def server(root: Path, own: Path):
    """A JupyterLab over the project `root`; its address. own: an empty folder for its settings and the server's log."""
    for name, content in SETTINGS.items():
        file = own / f"settings/@jupyterlab/{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    names = {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "IPYTHONDIR": "ipython"}
    names |= {f"JUPYTER_{name}_DIR": name.lower() for name in ("CONFIG", "DATA", "RUNTIME")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.port={port}"]
    command += [f"--ServerApp.root_dir={root}", "--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True"]
    with (own / "log.txt").open("w") as log:
        environment = os.environ | {name: str(own / folder) for name, folder in names.items()}
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            wait_for(port, process, own / "log.txt")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def wait_for(port: int, process: subprocess.Popen, log: Path) -> None:
    """Wait until a server listens. Raises RuntimeError where it ends before."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    raise RuntimeError(f"JupyterLab does not listen on port {port}; its last words: {log.read_text()[-1000:]}")


@contextmanager
def notebook(root: Path, own: Path, name: str, width: int = 1300, height: int = 1000):
    """The notebook `name` of the project `root` in JupyterLab, a `Page`; its cells are not run yet."""
    with server(root, own) as address, Browser(width, height, patience=PATIENCE) as browser:
        browser.open(f"{address}/lab/tree/notebooks/{name}")
        yield Page(browser)
