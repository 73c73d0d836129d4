"""Wrong passwords are slowed: each address gets a few tries at once, then one every few seconds.

It is the address that is slowed, never the name: nobody can lock another person out from elsewhere,
and who shares the address waits a few seconds once the guessing ends.
"""

import asyncio
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from ui.guard.limits import refuse

FREE = 5  # wrong passwords that cost no time
FORGET = 600.0  # seconds after which one is forgotten
SLOWEST = 5.0  # seconds between two tries, at the most
PATIENCE = 10.0  # seconds that a try waits; beyond, it is refused unheard
MOST_ADDRESSES = 10_000  # remembered
LARGEST = 8_192  # bytes of a login form
address: ContextVar[str] = ContextVar("address", default="?")  # of the login that is being heard


@dataclass
class _Record:
    failures: list[float] = field(default_factory=list)  # when
    num_pending: int = 0  # tries that are not answered yet: taken for wrong until they are
    next_free: float = 0.0


class Attempts:
    """What each address tried lately, on a clock in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def reserve(self, who: str) -> float | None:
        """Seconds until this address may try; None: too many of its tries wait already."""
        now, record = self._clock(), self._record(who)
        start = max(now, record.next_free)
        if start - now > PATIENCE:
            return None
        record.num_pending += 1
        record.next_free = start + self._pause(record, now)
        return start - now

    def answered(self, who: str, *, is_wrong: bool) -> None:
        """What came of a try that `reserve` let in."""
        record = self._record(who)
        record.num_pending = max(0, record.num_pending - 1)
        if is_wrong:
            record.failures.append(self._clock())

    def _pause(self, record: _Record, now: float) -> float:
        record.failures = [at for at in record.failures[-100:] if at > now - FORGET]
        beyond = len(record.failures) + record.num_pending - FREE
        return 0.0 if beyond <= 0 else min(SLOWEST, 0.5 * 2**beyond)

    def _record(self, who: str) -> _Record:
        record = self._records.setdefault(who, _Record())
        self._records.move_to_end(who)
        if len(self._records) > MOST_ADDRESSES:
            self._records.popitem(last=False)
        return record


class SlowLogins:
    """ASGI: before POST /login, wait for the address's turn."""

    def __init__(self, app: Any, attempts: Attempts | None = None) -> None:
        self.app, self.attempts = app, attempts or Attempts()

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        is_login = (
            scope["type"] == "http"
            and scope["method"] == "POST"
            and scope["path"].rstrip("/").endswith("/login")
        )
        if not is_login:
            return await self.app(scope, receive, send)
        who = network(scope["client"][0] if scope.get("client") else "?")
        length = dict(scope["headers"]).get(b"content-length", b"")
        if not length.isdigit() or int(length) > LARGEST:
            return await refuse(send, scope, 413, "This is no login form.")
        wait = self.attempts.reserve(who)
        if wait is None:
            why = "Too many wrong passwords; try again in a minute."
            return await refuse(send, scope, 429, why)
        is_wrong = False

        async def watched(message: dict) -> None:
            nonlocal is_wrong
            is_wrong = is_wrong or message.get("status") == 400
            await send(message)

        token = address.set(who)
        try:
            await asyncio.sleep(wait)
            await self.app(scope, receive, watched)
        finally:
            address.reset(token)
            self.attempts.answered(who, is_wrong=is_wrong)


def network(host: str) -> str:
    """An address; of IPv6 the /64 that one line has all to itself."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return host
    return str(ipaddress.ip_network(f"{ip}/64", strict=False)) if ip.version == 6 else host
