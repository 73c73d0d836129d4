"""Who is logged in. A session ends with its time, and when its person's line in the users file
changes: another password, another role, or none.
"""

import time
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from threading import Lock
from typing import Any

from ui import users

HOURS = 168.0  # that a session lasts: a week


@dataclass(frozen=True)
class Session:
    name: str
    login: tuple[str, str] | None  # role and hash of the person when the session began
    end: float  # seconds, on the sessions' clock


class Sessions(MutableMapping[str, str]):
    """token -> login name, as Gradio keeps them: what has ended is not there.

    file: the users file, read anew when it changes. Raises `users.UnreadableUsersError` while it
    cannot be read: nobody is let in then, and nobody's session is lost.
    """

    def __init__(
        self, file: Path, hours: float = HOURS, clock: Callable[[], float] = time.time
    ) -> None:
        self._file, self._seconds, self._clock = file, 3600 * hours, clock
        self._sessions: dict[str, Session] = {}
        self._lock = Lock()  # Gradio logs in on its event loop and out in a thread

    def __getitem__(self, token: str) -> str:
        session = self._sessions[token]
        if not self._is_live(session, users.current(self._file)):
            del self[token]
            raise KeyError(token)
        return session.name

    def __setitem__(self, token: str, name: str) -> None:
        login = users.current(self._file).get(name)
        self._drop_ended()
        with self._lock:
            self._sessions[token] = Session(name, login, self._clock() + self._seconds)

    def __delitem__(self, token: str) -> None:
        with self._lock:
            self._sessions.pop(token, None)  # it may have ended meanwhile

    def __iter__(self) -> Iterator[str]:
        self._drop_ended()
        return iter(list(self._sessions))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _is_live(self, session: Session, logins: dict[str, tuple[str, str]]) -> bool:
        return session.end > self._clock() and logins.get(session.name) == session.login is not None

    def _drop_ended(self) -> None:
        logins = users.current(self._file)
        with self._lock:
            self._sessions = {
                token: session
                for token, session in self._sessions.items()
                if self._is_live(session, logins)
            }


def login_of(scope: MutableMapping[str, Any]) -> str | None:
    """The name of who is logged in, as Gradio's own cookie says. Raises UnreadableUsersError."""
    app = scope["app"]
    try:
        cookies = SimpleCookie(dict(scope["headers"]).get(b"cookie", b"").decode("latin-1"))
    except CookieError:
        return None
    for kind in ("access-token", "access-token-unsecure"):
        cookie = cookies.get(f"{kind}-{app.cookie_id}")
        if cookie is not None and cookie.value in app.tokens:
            return app.tokens[cookie.value]
    return None
