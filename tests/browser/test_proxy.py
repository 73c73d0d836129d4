"""Behind a real nginx, under a path and with https, as docs/PROXY.md says: everything works."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from data_tools.store import Store
from tests.browser.conftest import ROOT, Studio
from tests.data_tools.samples import picture
from tests.ui.client import Client
from ui import users

PASSWORD = "correct horse"
MAIN = """
{user}
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {folder}/cert.pem;
        ssl_certificate_key {folder}/key.pem;
{documented}
    }}
}}
"""


@dataclass(frozen=True)
class Proxied:
    """A studio with logins, and the address at which nginx serves it."""

    studio: Studio
    url: str
    port: int


def documented_lines() -> str:
    """The ten lines of nginx in the docs."""
    text = (ROOT / "docs" / "PROXY.md").read_text()
    return re.findall(r"```nginx\n(.*?)```", text, re.DOTALL)[0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None or shutil.which("openssl") is None:
        pytest.skip("no nginx or no openssl on this machine: apt-get install nginx openssl")
    root = tmp_path_factory.mktemp("proxied")
    for name, role in (("ann", "annotator"), ("eve", "admin")):
        users.add(root / "users", name, role, PASSWORD)
    store = Store.of_workspace(root / "workspace", is_new=True)
    own = store.add_collection("own")
    for k in range(2):
        store.add_image(own, picture(k), dataset_id="studio", image_id=str(k))
    store.close()
    options = ("--root-path=/studio", "--trusted-proxy=127.0.0.1", f"--users={root / 'users'}")
    studio = Studio(root / "workspace", *options)

    folder, port = root / "nginx", free_port()
    folder.mkdir()
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([*request, *files], check=True, capture_output=True)
    documented = documented_lines().replace("127.0.0.1:7860", f"127.0.0.1:{studio.port}")
    configuration = folder / "nginx.conf"
    user = "user root;" if os.getuid() == 0 else ""  # else its workers may not enter the folder
    text = MAIN.format(user=user, folder=folder, port=port, documented=documented)
    configuration.write_text(text)
    process = subprocess.Popen([nginx, "-p", str(folder), "-c", str(configuration)])
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
    yield Proxied(studio, f"https://localhost:{port}/studio", port)
    process.terminate()
    process.wait(20)
    studio.stop()


class Browserless(Client):
    """A client of the proxied studio: over https, under the path."""

    def __init__(self, proxied: Proxied, name: str, password: str = PASSWORD) -> None:
        self.session = httpx.Client(base_url=proxied.url, timeout=60, verify=False)
        self.hash = name
        form = {"username": name, "password": password}
        self.answer = self.session.post("/login", data=form, headers=own_origin(proxied))


def own_origin(proxied: Proxied) -> dict[str, str]:
    return {"origin": f"https://localhost:{proxied.port}"}


def test_page_login_event_stream_picture_and_upload_work_under_a_path(
    browser, proxied, tmp_path_factory
):
    context = browser.new_context(ignore_https_errors=True)
    page, failures = context.new_page(), []
    page.on("response", lambda answer: answer.status >= 400 and failures.append(answer.url))
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.goto(proxied.url)  # nginx adds the slash
    page.get_by_label("username").fill("eve")
    page.get_by_label("password").fill(PASSWORD)
    page.get_by_role("button", name="Login").click()
    expect(page.get_by_role("tab", name="Annotate")).to_be_visible()
    image = page.locator(".recorder img, .recorder canvas").first
    expect(image).to_be_visible()
    page.get_by_role("tab", name="Data").click()  # an event, and its answer from the stream
    expect(page.locator("body")).to_contain_text("own")
    cookies = [cookie for cookie in context.cookies() if "access-token" in cookie["name"]]
    assert cookies and all(cookie["secure"] and cookie["httpOnly"] for cookie in cookies)
    outside = [url for url in failures if "manifest.json" not in url]
    page.get_by_role("link", name="Log out").click()
    expect(page.get_by_label("username")).to_be_visible()
    assert page.url.rstrip("/") == proxied.url and outside == []
    context.close()


def test_a_client_asks_reads_pictures_and_uploads_through_the_proxy(proxied):
    eve = Browserless(proxied, "eve")
    assert eve.answer.status_code == 200
    reply = eve.question("open")
    assert reply["image"]["dataset_id"] == "studio"
    (picture_file, *_) = (proxied.studio.root / "images").rglob("*.*")
    answer = eve.session.get(f"/gradio_api/file={picture_file}")
    assert answer.content == Path(picture_file).read_bytes()
    uploads = {"files": ("big.bin", b"x" * 3_000_000)}  # more than nginx takes unless it is told
    upload = eve.session.post("/gradio_api/upload", files=uploads, headers=own_origin(proxied))
    assert Path(upload.json()[0]).stat().st_size == 3_000_000
    eve.session.close()


def test_another_origin_is_refused_behind_the_proxy_too(proxied):
    with httpx.Client(base_url=proxied.url, verify=False) as client:
        for origin in ("https://localhost", f"http://localhost:{proxied.port}", "null"):
            assert client.get("/config", headers={"origin": origin}).status_code == 403
        assert client.get("/config", headers=own_origin(proxied)).status_code == 401


def test_the_throttle_counts_browsers_and_not_what_they_say_of_themselves(proxied):
    """Behind the proxy every address is 127.0.0.1; X-Forwarded-For of one's own changes nothing."""
    log = proxied.studio.root / "studio.log"
    with httpx.Client(base_url=proxied.url, verify=False, timeout=60) as client:
        for k in range(3):
            form = {"username": "ann", "password": "guess"}
            headers = {"x-forwarded-for": f"203.0.113.{k}"}
            assert client.post("/login", data=form, headers=headers).status_code == 400
    assert "203.0.113" not in log.read_text()
    assert log.read_text().count("wrong password for 'ann' from 127.0.0.1") == 3
    direct = httpx.HTTPTransport(local_address="127.0.0.2")  # no proxy of ours
    with httpx.Client(base_url=proxied.studio.url, transport=direct, timeout=60) as client:
        headers = {"x-forwarded-for": "203.0.113.9"}
        client.post("/login", data={"username": "ann", "password": "guess"}, headers=headers)
    assert "wrong password for 'ann' from 127.0.0.2" in log.read_text()
