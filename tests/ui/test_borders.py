"""What a browser sends for a page of another site is refused, rule by rule; without a browser."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import app
from ui.guard.borders import Borders, host_name
from ui.guard.proxies import TrustedProxies, proxy_network

HOST = "studio.test:7860"
OWN = {"host": HOST}


class Site:
    """An app as generous as Gradio: it answers every origin, for other sites too."""

    def __init__(self) -> None:
        self.scopes: list[dict] = []

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        headers = [
            (b"Access-Control-Allow-Origin", b"http://evil.test"),
            (b"access-control-allow-credentials", b"true"),
            (b"set-cookie", b"token=1; HttpOnly; Path=/; SameSite=none; Secure"),
            (b"set-cookie", b"token-unsecure=1; HttpOnly; Path=/; SameSite=lax"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for chunk in (b"data: 1\n\n", b"data: 2\n\n"):
            await send(
                {"type": "http.response.body", "body": chunk, "more_body": chunk[6:7] == b"1"}
            )


def ask(
    guard: Any,
    headers: dict[str, str],
    method: str = "GET",
    path: str = "/config",
    scheme: str = "http",
    client: str = "127.0.0.1",
    kind: str = "http",
) -> list[dict]:
    """What the server would send; in a thread: browser tests leave a loop running in this one."""
    messages: list[dict] = []

    async def send(message: dict) -> None:
        messages.append(message)

    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": kind, "method": method, "path": path, "scheme": scheme}
    scope |= {"headers": pairs, "client": (client, 5)}
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, guard(scope, None, send)).result()
    return messages


def status(*arguments: Any, **options: Any) -> int:
    return ask(*arguments, **options)[0]["status"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.studio.test:7860",
        "http://studio.test",
        "http://studio.test:7861",
        "https://studio.test:7860",
        "null",
        "",
        "http://studio.test:7860@evil.test",
        "http://studio.test:7860.evil.test",
        "http://localhost:7860",
    ],
)
def test_only_the_studios_own_origin_is_answered(method, origin):
    site = Site()
    preflight = {"access-control-request-method": "POST"}
    answer = ask(Borders(site), OWN | preflight | {"origin": origin}, method)
    assert answer[0]["status"] == 403 and site.scopes == []
    assert b"A page of another address" in answer[1]["body"]
    assert not any(name.startswith(b"access-control") for name, _ in answer[0]["headers"])


def test_the_studios_own_origin_is_the_scheme_the_name_and_the_port():
    borders = Borders(Site())
    assert status(borders, OWN | {"origin": "http://studio.test:7860"}, "POST") == 200
    assert status(borders, {"host": "Studio.Test", "origin": "http://studio.test:80"}) == 200
    assert status(borders, {"host": "studio.test", "origin": "https://studio.test"}) == 403
    secure = {"host": "studio.test", "origin": "https://studio.test"}
    assert status(borders, secure, scheme="https") == 200
    assert status(borders, {"host": "[::1]:7860", "origin": "http://[::1]:7860"}) == 200
    assert status(borders, OWN) == 200  # no browser, or a link
    assert status(borders, {}) == 403 == status(borders, {"host": "a b/c"})


@pytest.mark.parametrize("site", ["cross-site", "same-site", "same-page"])
def test_what_the_browser_calls_of_another_site_is_a_link_or_nothing(site):
    borders, link = Borders(Site()), {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    foreign = OWN | {"sec-fetch-site": site}
    assert status(borders, foreign) == 403
    assert (
        status(borders, foreign | {"sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}) == 403
    )
    assert status(borders, foreign | link) == 200
    assert status(borders, foreign | link, "POST") == 403
    assert status(borders, foreign | link, path="/logout") == 403
    assert status(borders, foreign | link | {"sec-fetch-dest": "iframe"}) == 403
    for own in ("same-origin", "none"):
        assert status(borders, OWN | {"sec-fetch-site": own}, path="/logout") == 200


def test_a_rebound_name_is_refused_where_hosts_are_listed():
    alone = Borders(Site(), hosts=[])
    for name in ("localhost", "LOCALHOST:7860", "127.0.0.1:7860", "[::1]", "localhost.:1"):
        assert status(alone, {"host": name}) == 200, name
    for name in ("evil.test:7860", "localhost.evil.test", "127.0.0.1.evil.test", "10.0.0.9"):
        answer = ask(alone, {"host": name, "origin": f"http://{name}"})
        assert answer[0]["status"] == 403 and b"--allowed-host" in answer[1]["body"], name
    team = Borders(Site(), hosts=["Studio.Test"])
    assert status(team, OWN) == 200 and status(team, {"host": "evil.test"}) == 403


@pytest.mark.parametrize("path", ["/gradio_api/token", "/gradio_api/token/", "/studio/token"])
def test_no_route_gives_a_session_away(path):
    assert status(Borders(Site()), OWN, path=path) == 403


def test_a_websocket_is_closed_unheard():
    (answer,) = ask(Borders(Site()), OWN | {"origin": "http://evil.test"}, kind="websocket")
    assert answer["type"] == "websocket.close" and "another address" in answer["reason"]
    assert ask(Borders(Site()), OWN, kind="websocket")[0]["type"] == "websocket.close"


def test_an_answer_is_for_this_page_alone_and_streams_on():
    start, *chunks = ask(Borders(Site()), OWN | {"origin": "http://studio.test:7860"})
    headers = [(name.decode(), value.decode()) for name, value in start["headers"]]
    assert not any(name.startswith("access-control") for name, _ in headers)
    assert [value for name, value in headers if name == "set-cookie"] == [
        "token=1; Path=/; Secure; HttpOnly; SameSite=Lax",
        "token-unsecure=1; Path=/; HttpOnly; SameSite=Lax",
    ]
    policy = dict(headers)["content-security-policy"]
    for rule in ("frame-ancestors 'none'", "object-src 'none'", "connect-src 'self' data: blob:;"):
        assert rule in policy
    assert dict(headers)["x-frame-options"] == "DENY"
    assert dict(headers)["x-content-type-options"] == "nosniff"
    assert dict(headers)["referrer-policy"] == "same-origin"
    assert [chunk["body"] for chunk in chunks] == [b"data: 1\n\n", b"data: 2\n\n"]
    secure = ask(Borders(Site()), OWN, scheme="https")[0]["headers"]
    cookies = [value for name, value in secure if name == b"set-cookie"]
    assert len(cookies) == 2 and all(cookie.endswith(b"SameSite=Lax; Secure") for cookie in cookies)


# --- proxies

FORWARDED = {
    "host": "127.0.0.1:7860",
    "x-forwarded-for": "203.0.113.9, 198.51.100.7",
    "x-forwarded-proto": "https",
    "x-forwarded-host": "studio.test",
    "forwarded": "for=203.0.113.9",
    "x-real-ip": "203.0.113.9",
    "x-gradio-server": "http://evil.test",
}


def seen(networks: list[str], client: str, headers: dict[str, str] = FORWARDED) -> dict:
    site = Site()
    ask(TrustedProxies(site, networks), headers, client=client)
    return site.scopes[0]


@pytest.mark.parametrize("client", ["127.0.0.1", "10.0.1.9", "::1"])
def test_nobody_but_a_named_proxy_is_believed(client):
    scope = seen(["10.0.0.0/24"], client)
    assert scope["client"][0] == client and scope["scheme"] == "http"
    assert scope["headers"] == [(b"host", b"127.0.0.1:7860")]


def test_a_named_proxy_says_who_asks_and_how_they_opened_the_page():
    scope = seen(["10.0.0.0/24"], "10.0.0.9")
    assert scope["client"][0] == "198.51.100.7"  # not what the client itself put in front
    assert scope["scheme"] == "https" and scope["headers"] == [(b"host", b"studio.test")]
    borders = TrustedProxies(Borders(Site(), ["studio.test"]), ["10.0.0.9"])
    origin = {"origin": "https://studio.test"}
    assert status(borders, FORWARDED | origin, client="10.0.0.9") == 200
    assert status(borders, FORWARDED | origin, client="10.0.0.8") == 403
    forged = FORWARDED | {"x-forwarded-host": "localhost, evil.test"}
    assert status(borders, forged, client="10.0.0.9") == 403


def test_what_is_no_address_and_what_is_no_name_is_refused_with_an_example():
    assert proxy_network("10.0.0.9") == "10.0.0.9/32" and proxy_network("::1") == "::1/128"
    with pytest.raises(ValueError, match="--trusted-proxy studio: must be an address or a network"):
        proxy_network("studio")
    assert host_name("Studio.Test:443") == "studio.test" and host_name("::1") == "::1"
    for name in ("http://studio.test", "a/b", "", "a@b"):
        with pytest.raises(ValueError, match="must be a name such as studio.example.org"):
            host_name(name)


@pytest.mark.parametrize("path", ["studio", "/studio/", "/a//b", "/../b", "/a b", "//evil.test"])
def test_a_root_path_is_a_plain_path(path, capsys):
    with pytest.raises(SystemExit):
        app.parse(["--root-path", path])
    assert "must be a path such as /studio" in capsys.readouterr().err
    assert app.parse(["--root-path", "/a/studio"]).root_path == "/a/studio"


def test_the_hosts_of_a_studio_follow_from_its_logins_and_its_address():
    def hosts(*options: str) -> list[str] | None:
        found_hosts = app.guards_of(app.parse(list(options))).hosts
        return None if found_hosts is None else list(found_hosts)

    users = ("--users", "USERS")
    assert hosts() == ["127.0.0.1"] and hosts("--host", "::1") == ["::1"]
    assert hosts("--host", "0.0.0.0", *users) is None  # teams open it by any name of their LAN
    assert hosts("--host", "0.0.0.0", *users, "--allowed-host", "a.test") == ["a.test"]
    assert hosts("--allowed-host", "a.test", "--allowed-host", "B.test:80") == [
        "a.test",
        "b.test",
        "127.0.0.1",
    ]
