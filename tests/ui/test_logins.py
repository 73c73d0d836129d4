"""A thousand wrong passwords, a certificate of one's own, and a page without one."""

import asyncio
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

import app
from tests.browser.conftest import Studio
from ui import users
from ui.guard.logins import FREE, PATIENCE, SLOWEST, Attempts, SlowLogins, network
from ui.guard.turns import Turns

PASSWORD = "correct horse"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_guesser_who_waits_for_each_answer_gets_one_try_every_few_seconds():
    clock = Clock()
    attempts, began = Attempts(clock), clock.now
    for _ in range(1000):
        clock.now += attempts.reserve("10.0.0.9")
        attempts.answered("10.0.0.9", is_wrong=True)
    assert clock.now - began > 4900  # seconds: 82 minutes
    assert attempts.reserve("10.0.0.1") == 0  # nobody else waits


def test_a_guesser_who_tries_a_thousand_at_once_is_heard_a_few_times():
    clock = Clock()
    attempts = Attempts(clock)
    waits = [attempts.reserve("10.0.0.9") for _ in range(1000)]
    heard = [wait for wait in waits if wait is not None]
    assert FREE <= len(heard) <= FREE + 12 and max(heard) <= PATIENCE
    clock.now += PATIENCE + SLOWEST  # then whoever shares the address is heard at once
    assert attempts.reserve("10.0.0.9") == 0


def test_a_person_who_mistypes_waits_for_nothing_and_is_forgiven():
    clock = Clock()
    attempts = Attempts(clock)
    for _ in range(FREE - 1):
        assert attempts.reserve("a") == 0
        attempts.answered("a", is_wrong=True)
    assert attempts.reserve("a") == 0
    attempts.answered("a", is_wrong=False)
    assert attempts.reserve("a") == 0
    assert network("2001:db8::1") == network("2001:db8::2") != network("2001:db8:1::1")
    assert network("10.0.0.1") != network("10.0.0.2")


def test_what_is_no_login_is_never_delayed_and_a_huge_form_is_refused():
    told: list[dict] = []

    async def site(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def ask(path: str, method: str, *headers: tuple[bytes, bytes]) -> None:
        told.clear()
        scope = {"type": "http", "method": method, "path": path, "headers": list(headers)}

        async def send(message: dict) -> None:
            told.append(message)

        await SlowLogins(site)(scope, None, send)

    def status(*request) -> int:  # in a thread: browser tests leave a loop running in this one
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, ask(*request)).result()
        return told[0]["status"]

    assert status("/login", "GET") == 200
    assert status("/login", "POST", (b"content-length", b"40")) == 200
    assert status("/studio/login/", "POST", (b"content-length", b"9000000")) == 413
    assert status("/login", "POST") == 413


def test_one_who_asks_much_waits_for_himself_and_others_do_not_wait_for_him():
    turns, order, num_inside = Turns(), [], 0

    async def ask(client: str) -> None:
        nonlocal num_inside
        async with turns.turn(client):
            num_inside += 1
            assert num_inside == 1
            order.append(client)
            await asyncio.sleep(0)
            num_inside -= 1

    async def all_ask() -> None:
        guesses = [asyncio.create_task(ask("guesser")) for _ in range(50)]
        await asyncio.sleep(0)
        people = [asyncio.create_task(ask(name)) for name in ("ann", "bob", "ann")]
        gone = asyncio.create_task(ask("gone"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(*guesses, *people, gone, return_exceptions=True)
        await ask("last")

    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, all_ask()).result(timeout=20)
    assert order.count("guesser") == 50 and order[-1] == "last" and "gone" not in order
    assert order.index("ann") <= 3 and order.index("bob") <= 4  # not behind 50
    assert [who for who in order[:8] if who == "ann"] == ["ann", "ann"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[str, str]:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with: apt-get install openssl")
    folder = tmp_path_factory.mktemp("certificate")
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            key,
            "-out",
            cert,
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


class Secure(Studio):
    """A studio that speaks https."""

    def answers(self) -> bool:
        trust = ssl.create_default_context(cafile=self.options[0].split("=")[1])
        try:
            address = self.url.replace("http:", "https:")
            return httpx.get(f"{address}/config", verify=trust).status_code == 200
        except httpx.TransportError:
            return False


def test_a_certificate_is_passed_on_and_the_page_is_served_with_it(certificate, tmp_path):
    cert, key = certificate
    studio = Secure(tmp_path / "workspace", f"--ssl-certfile={cert}", f"--ssl-keyfile={key}")
    assert studio.answers()
    assert "https://127.0.0.1" in studio.log.read_text()
    studio.stop()


def test_a_certificate_without_its_key_is_refused(capsys):
    with pytest.raises(SystemExit):
        app.parse(["--ssl-certfile", "cert.pem"])
    assert "--ssl-certfile and --ssl-keyfile go together" in capsys.readouterr().err


# --- a studio with logins, open to other machines


@pytest.fixture(scope="module")
def studio(tmp_path_factory) -> Iterator[Studio]:
    root = tmp_path_factory.mktemp("logins")
    users.add(root / "users", "ann", "annotator", PASSWORD)
    running = Studio(root / "workspace", f"--users={root / 'users'}", "--host=0.0.0.0")
    yield running
    running.stop()


def test_a_thousand_wrong_passwords_are_slowed_logged_and_lock_nobody_out(studio):
    wrong = {"username": "ann\nforged line", "password": "guess"}
    own = httpx.HTTPTransport(local_address="127.0.0.2")  # another machine, as far as they know
    with httpx.Client(transport=own, base_url=studio.url, timeout=60) as guesser:
        began = time.monotonic()
        with ThreadPoolExecutor(16) as pool:
            waiting = [pool.submit(guesser.post, "/login", data=wrong) for _ in range(1000)]
            right = {"username": "ann", "password": PASSWORD}
            entered = httpx.post(f"{studio.url}/login", data=right, timeout=60)
            assert entered.status_code == 200
            statuses = [one.result().status_code for one in waiting]
        seconds = time.monotonic() - began
    assert set(statuses) == {400, 429}
    assert FREE <= statuses.count(400) <= FREE + 12 + seconds / SLOWEST  # heard; the rest was not
    log = (studio.root / "studio.log").read_text()
    assert log.count("wrong password for 'ann\\nforged line' from 127.0.0.2") == statuses.count(400)
    assert log.count("/login from 127.0.0.2: Too many wrong passwords") == statuses.count(429)
    assert "'ann' logged in from 127.0.0.1" in log
    assert "guess" not in log and PASSWORD not in log


@pytest.mark.timed
def test_a_page_answers_within_a_second_while_eight_clients_guess(studio):
    """On the event loop a trivial page took 10.9 seconds. Measured here: .1 to .3, load included"""
    is_over = threading.Event()
    statuses: list[int] = []

    def guess(client: int) -> None:
        own = httpx.HTTPTransport(local_address=f"127.0.1.{client}")
        with httpx.Client(transport=own, base_url=studio.url, timeout=60) as session:
            for k in range(FREE + 2):
                form = {"username": "ann", "password": f"guess {k}"}
                statuses.append(session.post("/login", data=form).status_code)
                if is_over.is_set():
                    return

    times = []
    with ThreadPoolExecutor(8) as pool, httpx.Client(base_url=studio.url, timeout=60) as visitor:
        guessing = [pool.submit(guess, 10 + client) for client in range(8)]
        while not all(one.done() for one in guessing):
            began = time.monotonic()
            assert visitor.get("/gradio_api/login_check").status_code == 401
            times.append(time.monotonic() - began)
            if len(times) == 3:  # a person logs in meanwhile, from a ninth address
                began = time.monotonic()
                right = {"username": "ann", "password": PASSWORD}
                assert visitor.post("/login", data=right).status_code == 200
                assert time.monotonic() - began < 5  # behind one guess of each, not behind all
                visitor.cookies.clear()
        is_over.set()
    print(f"{len(statuses)} guesses, {len(times)} visits, slowest {max(times):.3f} s")
    assert statuses.count(400) >= 8 * FREE and max(times) < 1
