"""What a proxy in front of the studio says of the browser: believed of the proxies that are named.

`X-Forwarded-For`, `-Proto` and `-Host` become the request's own client, scheme and Host; from
anybody else they are taken off, so that nothing behind this ever reads them.
"""

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

FORWARDING = ("forwarded", "x-forwarded-", "x-real-ip", "x-gradio-server")  # how the names begin


def proxy_network(address: str) -> str:
    """The address or network of a proxy, as `--trusted-proxy` names it. Raises ValueError."""
    try:
        return str(ipaddress.ip_network(address.strip()))
    except ValueError as error:
        raise ValueError(
            f"--trusted-proxy {address}: must be an address or a network, such as 127.0.0.1 or "
            f"10.0.0.0/24 ({error})"
        ) from error


class TrustedProxies:
    """ASGI: outside of all that asks who the client is.

    networks: of the proxies that are believed, as `proxy_network` writes them; none by default.
    """

    def __init__(self, app: Any, networks: Iterable[str] = ()) -> None:
        self.networks = [ipaddress.ip_network(network) for network in networks]
        self.app = ProxyHeadersMiddleware(_without_forwarding(app), list(map(str, self.networks)))

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] in ("http", "websocket"):
            is_trusted = self._is_trusted(scope)
            scope = dict(scope)
            scope["headers"] = _with_host(scope["headers"]) if is_trusted else scope["headers"]
        await self.app(scope, receive, send)  # type: ignore[arg-type]

    def _is_trusted(self, scope: dict) -> bool:
        try:
            address = ipaddress.ip_address(scope["client"][0])
        except (TypeError, ValueError, KeyError):
            return False
        return any(address in network for network in self.networks)


def _with_host(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """With the Host that the browser asked for, where the proxy passes it on beside its own."""
    headers = list(headers)
    hosts = [value for name, value in headers if name == b"x-forwarded-host"]
    if not hosts:
        return headers
    nearest = hosts[-1].split(b",")[-1].strip()  # what came from further away may be forged
    return [(b"host", nearest), *(pair for pair in headers if pair[0] != b"host")]


def _without_forwarding(app: Any) -> Any:
    """The app, which is asked with what is true of the browser and with no header about it."""

    async def plain(scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] in ("http", "websocket"):
            headers = scope["headers"]
            remaining = [pair for pair in headers if not pair[0].decode().startswith(FORWARDING)]
            scope = scope | {"headers": remaining}
        await app(scope, receive, send)

    return plain
