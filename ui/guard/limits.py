"""No request is larger than what the page itself would send: refused before it is read."""

import json
import logging
from collections.abc import Callable
from typing import Any

LARGEST = 32 * 2**20  # bytes of an event: a take of half an hour, with a minute of its voice
log = logging.getLogger("studio")


class LimitedBodies:
    """ASGI: of what is posted, only files (/upload, which Gradio limits itself) may be larger."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] == "http" and scope["method"] in ("POST", "PUT", "PATCH"):
            length = dict(scope["headers"]).get(b"content-length", b"")
            is_upload = scope["path"].rstrip("/").endswith("/upload")
            if not length.isdigit():
                return await refuse(send, scope, 411, "A request must say how long it is.")
            if int(length) > LARGEST and not is_upload:
                return await refuse(
                    send,
                    scope,
                    413,
                    f"This is larger than {LARGEST // 2**20} MB: no take is. Submit shorter ones.",
                )
        await self.app(scope, receive, send)


async def refuse(send: Callable, scope: dict, status: int, why: str) -> None:
    """Answer instead of the app, and log it."""
    client = scope["client"][0] if scope.get("client") else "?"
    log.warning("refused: %s from %s: %s", scope["path"][:60], client, why)
    body = json.dumps({"detail": why}).encode()
    headers = [(b"content-type", b"application/json"), (b"retry-after", b"60")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
