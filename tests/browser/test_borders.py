"""Attacked from pages of other hosts in a real browser: nothing read, nothing done, not framed."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Studio
from tests.ui.client import Event, built, named
from ui import users

PASSWORD = "correct horse"
NAMES = ("studio.test", "evil.studio.test", "evil.example", "rebound.example")

# Everything a page can try: each attempt is "refused" or what it got. The event makes a collection,
# the recorder's route another, the demo.
ATTACK = """async ([site, event]) => {
    const got = {};
    const attempt = async (name, work) => {
        try { got[name] = await work() || "refused"; } catch { got[name] = "refused"; }
    };
    const read = (path, options = {}) => async () => {
        const answer = await fetch(site + path, { credentials, ...options });
        return answer.ok ? (await answer.text()).slice(0, 200) : "";
    };
    const credentials = "include";
    const body = JSON.stringify({ fn_index: event, session_hash: "forged", data: ["taken"] });
    const post = (type, mode) => (
        { method: "POST", mode, body, credentials, headers: { "content-type": type } });
    await attempt("token", read("/gradio_api/token"));
    await attempt("config", read("/config"));
    await attempt("page", read("/"));
    await attempt("event", read("/gradio_api/queue/join", post("application/json", "cors")));
    await attempt("simple event", read("/gradio_api/queue/join", post("text/plain", "cors")));
    await attempt("recorder", read("/recorder/demo", { method: "POST", mode: "cors", body: "{}" }));
    await attempt("upload", () => {
        const body = new FormData();
        body.append("files", new Blob(["x"]), "x.txt");
        return read("/gradio_api/upload", { method: "POST", body })();
    });
    await attempt("blind event", async () => {
        await fetch(site + "/gradio_api/queue/join", post("text/plain", "no-cors"));
        const path = "/gradio_api/queue/data?session_hash=forged";
        const answer = await fetch(site + path, { credentials });
        return answer.ok ? "an answer" : "";
    });
    await attempt("script", () => new Promise((done, failed) => {
        const script = document.createElement("script");
        const end = { onload: () => done("loaded"), onerror: failed };
        Object.assign(script, { src: site + "/config", ...end });
        document.head.append(script);
    }));
    await attempt("image", () => new Promise((done, failed) => {
        const image = new Image();
        const end = { onload: () => done("loaded"), onerror: failed };
        Object.assign(image, { src: site + "/favicon.ico", ...end });
    }));
    return got;
}"""
FRAME = """(site) => new Promise((done) => {
    const frame = document.createElement("iframe");
    Object.assign(frame, { name: "victim", src: site, onload: done });
    document.body.append(frame);
})"""


class EvilPage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>evil</title><body>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def evil_port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), EvilPage)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def chromium(browser_type, browser_type_launch_args) -> Iterator[Browser]:
    """A browser for which all of NAMES are this machine."""
    rules = ", ".join(f"MAP {name} 127.0.0.1" for name in NAMES)
    arguments = [*browser_type_launch_args["args"], f"--host-resolver-rules={rules}"]
    running = browser_type.launch(**browser_type_launch_args | {"args": arguments})
    yield running
    running.close()


@pytest.fixture(scope="module")
def adding(tmp_path_factory) -> Event:
    """The event that adds a collection, in a team's studio."""
    return named(built(tmp_path_factory.mktemp("built"))[0], "DataTab._add")


@pytest.fixture(scope="module")
def adding_alone(tmp_path_factory) -> Event:
    """The same without logins, where the page has fewer tabs."""
    return named(built(tmp_path_factory.mktemp("built"), has_users=False)[0], "DataTab._add")


@pytest.fixture(scope="module")
def team(tmp_path_factory) -> Iterator[Studio]:
    """As the README sets a team up, over plain http."""
    root = tmp_path_factory.mktemp("team")
    users.add(root / "users", "eve", "admin", PASSWORD)
    running = Studio(root / "workspace", f"--users={root / 'users'}", "--host=0.0.0.0")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Iterator[Studio]:
    """A studio without logins, on this machine alone."""
    running = Studio(tmp_path_factory.mktemp("alone") / "workspace")
    yield running
    running.stop()


def num_collections(studio: Studio) -> int:
    store = studio.store()
    collections = store.collections()
    store.close()
    return len(collections)


def log_in(page: Page, address: str) -> None:
    page.goto(address)
    page.get_by_label("username").fill("eve")
    page.get_by_label("password").fill(PASSWORD)
    page.get_by_role("button", name="Login").click()
    expect(page.get_by_role("tab", name="Export")).to_be_visible()


def frame_text(page: Page, address: str) -> str:
    page.evaluate(FRAME, address)
    frame = page.frame("victim")
    return f"{frame.url} {frame.content()}"


@pytest.mark.parametrize("host", ["evil.studio.test", "evil.example"])
@pytest.mark.parametrize("own", ["studio.test", "localhost"])
def test_a_page_of_another_host_gets_nothing_of_an_admins_session(
    chromium, team, adding, evil_port, own, host
):
    site, context = f"http://{own}:{team.port}", chromium.new_context()
    page = context.new_page()
    log_in(page, site)
    evil = context.new_page()
    evil.goto(f"http://{host}:{evil_port}/")
    results = evil.evaluate(ATTACK, [site, adding.id])
    assert len(results) == 10 and set(results.values()) == {"refused"}, results
    assert "LocTex" not in frame_text(evil, site) and "gradio" not in frame_text(evil, site)
    assert num_collections(team) == 0

    link = context.new_page()  # what is no attack: a link to the studio, in a message of a friend
    link.goto(f"http://{host}:{evil_port}/")
    link.evaluate("(site) => { location.href = site; }", site)
    expect(link.get_by_role("tab", name="Export")).to_be_visible()
    cookies = [cookie for cookie in context.cookies(site) if "access-token" in cookie["name"]]
    assert cookies and {cookie["sameSite"] for cookie in cookies} == {"Lax"}
    assert all(cookie["httpOnly"] for cookie in cookies)
    context.close()


@pytest.mark.parametrize("host", ["evil.example", "rebound.example"])
def test_a_studio_without_logins_is_nobodys_by_rebinding(
    chromium, alone, adding_alone, evil_port, host
):
    context = chromium.new_context()
    evil = context.new_page()
    is_rebound = host == "rebound.example"
    address = f"http://{host}:{alone.port if is_rebound else evil_port}/evil"
    evil.route(address, lambda route: route.fulfill(body="<body>", content_type="text/html"))
    evil.goto(address)
    site = f"http://{host}:{alone.port}" if is_rebound else alone.url
    results = evil.evaluate(ATTACK, [site, adding_alone.id])
    assert len(results) == 10 and set(results.values()) == {"refused"}, results
    assert "gradio" not in frame_text(evil, site)
    assert num_collections(alone) == 0
    answer = context.new_page().goto(f"http://rebound.example:{alone.port}/")
    assert answer is not None and answer.status == 403 and "--allowed-host" in answer.text()
    context.close()


def test_the_same_attempts_from_the_studios_own_page_succeed(chromium, own_studio, adding_alone):
    """Else the tests above would show nothing."""
    context = chromium.new_context()
    page = context.new_page()
    page.goto(own_studio.url)
    results = page.evaluate(ATTACK, [own_studio.url, adding_alone.id])
    refused = {name for name, result in results.items() if result == "refused"}
    assert refused <= {"token", "simple event", "script", "blind event"}, results
    deadline = time.monotonic() + 30
    while num_collections(own_studio) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert num_collections(own_studio) == 2
    context.close()
