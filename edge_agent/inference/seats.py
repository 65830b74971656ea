"""The seats of one arena: free, leased, or settling, which is between a client's end and the worker's last word on its cells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from contracts.errors import error
from edge_agent.inference.arena import Arena

Watch = Callable[..., Any]  # loop.add_reader(fd, function, argument)
Unwatch = Callable[[int], Any]


class Seats:
    """Hands out the seats from `first` on; those below are nobody's to lease.

    A seat whose client is gone settles by its response eventfd, which only we read then.
    """

    def __init__(self, arena: Arena, first: int, watch: Watch, unwatch: Unwatch) -> None:
        self._arena, self._watch, self._unwatch = arena, watch, unwatch
        self._free = list(range(arena.geometry.seats - 1, first - 1, -1))  # a stack: the seat used last is the one in the caches
        self._leased: set[int] = set()
        self._settling: set[int] = set()
        self.revoked = asyncio.Event()

    def lease(self) -> int:
        """Raises TransientError ARENA_SEATS, ARENA_DETACHED."""
        if self.revoked.is_set():
            raise error("ARENA_DETACHED")
        if not self._free:
            raise error("ARENA_SEATS", f"{len(self._leased)} in use, {len(self._settling)} settling")
        seat = self._free.pop()
        self._leased.add(seat)
        return seat

    def give_back(self, seat: int) -> None:
        """The client of this seat is gone, and whoever inherited its connection too."""
        self._leased.remove(seat)
        if self.revoked.is_set():
            return  # the arena is about to be closed
        self._settling.add(seat)
        self._arena.cancel(seat)
        self._watch(self._arena.response_fds[seat], self._settle, seat)
        self._settle(seat)

    def revoke(self) -> None:
        """All clients are told to go; nothing is leased again."""
        self._arena.close_to_requests()
        self.revoked.set()
        for seat in self._settling:
            self._unwatch(self._arena.response_fds[seat])
        self._settling.clear()

    def counts(self) -> dict[str, int]:
        return {"free": len(self._free), "leased": len(self._leased), "settling": len(self._settling)}

    def _settle(self, seat: int) -> None:
        if self._arena.settle(seat):
            self._unwatch(self._arena.response_fds[seat])
            self._settling.remove(seat)
            self._free.append(seat)
