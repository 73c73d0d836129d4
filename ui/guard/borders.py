"""The browser's borders: pages of other sites neither read the studio, nor ask it, nor frame it.

Gradio answers every Origin with credentials as soon as the studio is not opened as localhost, hands
its session cookie out by a route and sets it for other sites. This stands outside of all that.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from ui.guard.limits import refuse

LOOPBACK = ("localhost", "127.0.0.1", "::1")  # names of this machine, which no DNS can rebind
PORTS = {"http": 80, "https": 443}  # that a browser leaves out
TOKEN_ROUTES = ("/token", "/gradio_api/token")  # the page itself never asks for its cookie
log = logging.getLogger("studio")

# Gradio builds functions of the text of our scripts, hence 'unsafe-eval', and writes its settings
# into the page, hence 'unsafe-inline'. blob: is what was recorded and has not been sent yet.
POLICY = (
    "default-src 'self'; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


class Borders:
    """ASGI: refuses, in a sentence, whatever a browser sends for a page of another site.

    hosts: the names by which the studio is opened, without ports; None: by any name, as where
    logins make a foreign name useless (the session's cookie belongs to one name).
    """

    def __init__(self, app: Any, hosts: Iterable[str] | None = None) -> None:
        self.app = app
        self.hosts = None if hosts is None else {*map(host_name, hosts), *LOOPBACK}

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)

        problem = self._problem(scope)
        if scope["type"] == "websocket":
            problem = problem or "The studio speaks no websockets."  # Gradio streams over http
            log.warning("refused: %s: %s", scope["path"][:60], problem)
            return await send({"type": "websocket.close", "code": 1008, "reason": problem})

        async def guarded(message: dict) -> None:
            if message["type"] == "http.response.start":
                headers = _guarded_headers(message.get("headers", []), scope["scheme"])
                message = message | {"headers": headers}
            await send(message)

        if problem:
            return await refuse(guarded, scope, 403, problem)
        await self.app(scope, receive, guarded)

    def _problem(self, scope: dict) -> str:
        """Why this request is refused; empty where it is not."""
        headers = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]
        ]
        hosts = [value for name, value in headers if name == "host"]
        origins = [value for name, value in headers if name == "origin"]
        scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])

        own = _address(f"{scheme}://{hosts[0]}") if len(hosts) == 1 else None
        if own is None:
            return "A request must name one Host."
        if self.hosts is not None and own[1] not in self.hosts:
            return (
                f"This studio is not opened by the name {own[1][:100]!r}. Open it as "
                f"{scheme}://localhost, or start it with --allowed-host {own[1][:100]}."
            )
        if any(_address(origin) != own for origin in origins):
            return (
                "A page of another address asked for this. Where a proxy serves the studio, start "
                "it with --trusted-proxy and let the proxy pass on Host and X-Forwarded-Proto."
            )
        if _is_of_another_site(scope, dict(headers)):
            return "A page of another site asked for this; open the studio itself."
        if scope["path"].rstrip("/").endswith(TOKEN_ROUTES):
            return "A session stays in its cookie."
        return ""


def _is_of_another_site(scope: dict, headers: dict[str, str]) -> bool:
    """Whether the browser says so; a link to the studio's page is followed nevertheless."""
    site = headers.get("sec-fetch-site", "none")
    if site in ("same-origin", "none"):
        return False
    is_link = (
        headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
        and scope.get("method") in ("GET", "HEAD")
    )
    return not is_link or scope["path"].rstrip("/").endswith("/logout")


def host_name(host: str) -> str:
    """The name in a Host or in `--allowed-host`, without port and brackets. Raises ValueError."""
    is_bare_ipv6 = host.count(":") > 1 and not host.startswith("[")
    address = _address(f"http://[{host}]" if is_bare_ipv6 else f"http://{host}")
    if address is None:
        raise ValueError(f"--allowed-host {host}: must be a name such as studio.example.org")
    return address[1]


def _address(url: str) -> tuple[str, str, int] | None:
    """(scheme, name, port) of an Origin; None where it is none, as "null" is."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    more_than_origin = parts.path or parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme not in PORTS or not parts.hostname or more_than_origin:
        return None
    return parts.scheme, parts.hostname.rstrip("."), PORTS[parts.scheme] if port is None else port


def _guarded_headers(
    headers: Iterable[tuple[bytes, bytes]], scheme: str
) -> list[tuple[bytes, bytes]]:
    """Those of an answer: without leave for other origins, with cookies for this one alone."""
    own_names = {name for name, _ in HEADERS} - {b"content-security-policy"}
    guarded = []
    for name, value in headers:
        name = name.lower()
        if name == b"set-cookie":
            guarded.append((name, _own_cookie(value, is_secure=scheme == "https")))
        elif not name.startswith(b"access-control-") and name not in own_names:
            guarded.append((name, value))
    return [*guarded, *HEADERS]


def _own_cookie(cookie: bytes, *, is_secure: bool) -> bytes:
    """A Set-Cookie that scripts do not read and that other sites' requests do not carry."""
    pair, *attributes = [part.strip() for part in cookie.split(b";")]
    replaced = (b"samesite", b"httponly", *((b"secure",) if is_secure else ()))
    remaining = [part for part in attributes if not part.lower().startswith(replaced)]
    own = [b"HttpOnly", b"SameSite=Lax", *([b"Secure"] if is_secure else [])]
    return b"; ".join([pair, *remaining, *own])
