"""One at a time, and fairly: whoever asks often waits for themselves, not others for them."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """Of those who wait, each client's oldest question in turn. Belongs to one event loop."""

    def __init__(self) -> None:
        self._is_busy = False
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait for this client's turn, and hold it."""
        if self._is_busy:
            await self._wait(client)
        self._is_busy = True
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, client: str) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # the turn came together with the end
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        """To the client whose last turn is longest ago; `_is_busy` stays where there is one."""
        while self._waiting:
            client, places = self._waiting.popitem(last=False)
            place = places.popleft()
            if places:
                self._waiting[client] = places  # behind all others
            if not place.cancelled():
                place.set_result(None)
                return
        self._is_busy = False
