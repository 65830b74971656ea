"""How long a caller is waited for, and whether it still waits for us."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar

from contracts.errors import error

T = TypeVar("T")
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
WATCH_AFTER_S = 0.005  # quick answers are not worth a watch


class Gone(Exception):  # noqa: N818  a condition, not a fault
    """The caller hung up."""


class Patience:
    """`with Patience(30): ...` raises TransientError OIP_SLOW_BODY when the block takes longer; what it awaits is cancelled."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._interruption = _Interruption()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._interruption)

    def __exit__(self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None) -> None:
        self._timer.cancel()
        if isinstance(raised, asyncio.CancelledError) and self._interruption.ours:
            raise error("OIP_SLOW_BODY", "", f"{self._seconds:g} s") from None


async def while_connected(receive: Receive, answer: Awaitable[T]) -> T:
    """Raises Gone when the caller hangs up first; then `answer` has been cancelled."""
    watch = _Watch(receive)
    timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, watch.begin)
    try:
        return await answer
    except asyncio.CancelledError:
        if watch.interruption.ours:
            raise Gone from None
        raise
    finally:
        timer.cancel()
        watch.end()


class _Interruption:
    """Cancels the task that made it; `ours` tells this from another's cancellation."""

    def __init__(self) -> None:
        self._task, self.ours = asyncio.current_task(), False

    def __call__(self) -> None:
        if self._task is None:
            raise AssertionError("made outside of a task")
        self.ours = True
        self._task.cancel()


class _Watch:
    def __init__(self, receive: Receive) -> None:
        self.interruption, self._receive = _Interruption(), receive
        self._next: asyncio.Future[Mapping[str, Any]] | None = None

    def begin(self) -> None:
        self._next = asyncio.ensure_future(self._receive())
        self._next.add_done_callback(self._came)

    def end(self) -> None:
        if self._next is not None:
            self._next.remove_done_callback(self._came)
            self._next.cancel()

    def _came(self, received: asyncio.Future[Mapping[str, Any]]) -> None:
        if not received.cancelled() and received.result()["type"] == "http.disconnect":
            self.interruption()
