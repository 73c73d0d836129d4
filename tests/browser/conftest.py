"""The studio as a process of its own, and Debian's Chromium to look at it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from data_tools.store import Store

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium")
UNANSWERED = (
    "Failed to load resource",
    "Failed to fetch",
    "Connection errored out",
    "AbortError",
    "net::ERR_",
)
PATIENCE = 240  # seconds until a studio on a busy machine must answer
expect.set_options(timeout=30_000)  # milliseconds


class Studio:
    """`python app.py` of this checkout, or another one, over a workspace, on a port of its own."""

    def __init__(self, root: Path, *options: str, checkout: Path = ROOT) -> None:
        self.root, self.log, self.options = root, root.with_name(root.name + ".log"), options
        self.checkout = checkout
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "app.py", f"--workspace={self.root}", f"--port={self.port}"]
        command += self.options
        environment = os.environ | {
            "GRADIO_TEMP_DIR": str(self.root.with_name(self.root.name + "-uploads")),
            "OMP_NUM_THREADS": "1",
        }
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.checkout,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the studio did not start:\n{self.log.read_text()}")
            time.sleep(0.05)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/config", timeout=5) as answer:
                return answer.status == 200
        except urllib.error.HTTPError as error:
            return error.code == 401  # it is there, and wants a login
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def store(self) -> Store:
        return Store.of_workspace(self.root)


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict:
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    quiet = (
        "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
        "--disable-background-networking --disable-component-update"
    )
    return {"executable_path": CHROMIUM, "args": quiet.split()}


@pytest.fixture(scope="session")
def browser_context_args() -> dict:
    return {"viewport": {"width": 1440, "height": 900}}


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """One studio for all tests that can share it; each makes a collection of its own."""
    running = Studio(tmp_path_factory.mktemp("studio") / "workspace")
    yield running
    running.stop()


@pytest.fixture
def own_studio(tmp_path: Path) -> Iterator[Studio]:
    """A studio over an empty workspace, for a test that needs it empty or kills it."""
    running = Studio(tmp_path / "workspace")
    yield running
    running.stop()


@pytest.fixture
def page(page):
    """Watched: nothing may break or complain on it, and no request may leave this machine."""
    broken, foreign = [], []
    page.on("pageerror", lambda error: broken.append(error.stack or str(error)))

    def listen(message) -> None:
        # what was not answered is what some tests are about; everything else is a mistake of ours
        if message.type == "error" and not any(text in message.text for text in UNANSWERED):
            broken.append(message.text)

    page.on("console", listen)
    page.on(
        "request",
        lambda request: (
            request.url.startswith(("http://127.0.0.1:", "data:", "blob:"))
            or foreign.append(request.url)
        ),
    )
    yield page
    assert not broken
    assert not foreign
