"""The app that Gradio's pages are served by, with the guards around it, from the outside in:
proxies, borders, sizes, logins, uploads, and Gradio's own routes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import Request
from gradio.routes import App, ORJSONResponse
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute

from ui.guard.borders import Borders
from ui.guard.limits import LimitedBodies
from ui.guard.logins import SlowLogins
from ui.guard.proxies import TrustedProxies
from ui.guard.sessions import HOURS, Sessions
from ui.guard.uploads import LimitedUploads
from ui.users import UnreadableUsersError


@dataclass(frozen=True)
class Guards:
    """Whom the studio serves: its users file, the hours of a session, the names that it is opened
    by (None: any), and the networks of the proxies that are believed."""

    users: Path | None = None
    session_hours: float = HOURS
    hosts: Iterable[str] | None = None
    proxies: Iterable[str] = ()


class GuardedApp(App):
    """Gradio's app, with routes of ours before its own. Our middleware is added inside of Gradio's,
    which answers preflights for every origin; so the borders are built around the whole stack."""

    def __init__(self, guards: Guards, routes: Sequence[BaseRoute] = ()) -> None:
        self.guards = guards
        super().__init__(
            routes=list(routes),  # before Gradio's own
            middleware=[
                Middleware(LimitedBodies),
                Middleware(SlowLogins),
                Middleware(LimitedUploads),
            ],
            default_response_class=ORJSONResponse,  # as Gradio makes its own
            exception_handlers={UnreadableUsersError: _unreadable},
        )

    def configure_app(self, blocks: gr.Blocks) -> None:
        super().configure_app(blocks)
        if self.guards.users is not None:
            sessions: Any = Sessions(self.guards.users, self.guards.session_hours)
            self.tokens = sessions

    def build_middleware_stack(self) -> Any:
        borders = Borders(super().build_middleware_stack(), self.guards.hosts)
        return TrustedProxies(borders, self.guards.proxies)


async def _unreadable(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=503, headers={"retry-after": "10"})
