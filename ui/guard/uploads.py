"""Who may upload, and how much: a reviewer looks at pictures of their own, an admin imports.

An annotator uploads nothing: what they record comes through events that ask for their role.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ui.guard.limits import refuse
from ui.guard.sessions import login_of
from ui.users import UnreadableUsersError

QUOTA = {"reviewer": 1 * 2**30, "admin": 50 * 2**30}  # bytes in an hour, by role
HOUR = 3600.0  # seconds


class Quotas:
    """What each person uploaded in the last hour, on a clock in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._uploads: dict[str, deque[tuple[float, int]]] = {}

    def take(self, name: str, role: str, num_bytes: int) -> str:
        """Count an upload; why it may not be, where it may not."""
        if role not in QUOTA:
            return "Only a reviewer or an admin may upload files; ask the person who runs this."
        uploads = self._uploads.setdefault(name, deque())
        while uploads and uploads[0][0] < self._clock() - HOUR:
            uploads.popleft()
        if sum(size for _, size in uploads) + num_bytes > QUOTA[role]:
            most = QUOTA[role] // 2**30
            return f"That is more than {most} GB in an hour: wait, or name a folder to import."
        uploads.append((self._clock(), num_bytes))
        return ""


class LimitedUploads:
    """ASGI: before POST /upload, ask who it is. Where nobody logs in, everybody is the admin."""

    def __init__(self, app: Any, quotas: Quotas | None = None) -> None:
        self.app, self.quotas = app, quotas or Quotas()

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        is_upload = (
            scope["type"] == "http"
            and scope["method"] == "POST"
            and scope["path"].rstrip("/").endswith("/upload")
        )
        try:
            problem = self._problem(scope) if is_upload else ""
        except UnreadableUsersError as error:
            return await refuse(send, scope, 503, str(error))
        if problem:
            return await refuse(send, scope, 403, problem)
        await self.app(scope, receive, send)

    def _problem(self, scope: dict) -> str:
        workspace = scope["app"].get_blocks().workspace
        if workspace.users is None:
            return ""
        name = login_of(scope)
        length = dict(scope["headers"]).get(b"content-length", b"0")
        roles = [role for role in ("admin", "reviewer") if workspace.allows(role, name)]
        return self.quotas.take(name or "", roles[0] if roles else "", int(length))
