"""Over plain http a browser gives no microphone: the page says so, and what to do."""

import socket

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Studio
from ui import users

PASSWORD = "correct horse"


def own_address() -> str:
    """An address of this machine that is not its loopback; skips where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but its loopback")
        return probe.getsockname()[0]


def test_a_page_over_plain_http_says_how_to_get_a_microphone(context, tmp_path):
    users.add(tmp_path / "users", "ann", "annotator", PASSWORD)
    studio = Studio(tmp_path / "workspace", f"--users={tmp_path / 'users'}", "--host=0.0.0.0")
    page, host = context.new_page(), own_address()
    for address, is_plain in ((f"http://{host}:{studio.port}", True), (studio.url, False)):
        page.goto(address)
        page.get_by_label("username").fill("ann")
        page.get_by_label("password").fill(PASSWORD)
        page.get_by_role("button", name="Login").click()
        expect(page.get_by_role("tab", name="Annotate")).to_be_visible()
        help = page.locator(".insecure")
        expect(help).to_be_visible(visible=is_plain)
        if is_plain:
            help.locator("summary").click()
            expect(help).to_contain_text(f"ssh -L {studio.port}:localhost:{studio.port} {host}")
            expect(help).to_contain_text("--ssl-certfile FILE")
    studio.stop()
