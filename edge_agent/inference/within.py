"""A deadline that cannot swallow a cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def within(coroutine: Coroutine[Any, Any, T], seconds: float) -> T:
    """The coroutine's result; TimeoutError after `seconds`, and then it has been cancelled.

    `asyncio.wait_for` before Python 3.12 drops a cancellation that arrives together with the result; `asyncio.timeout` is not in 3.10.
    """
    task = asyncio.ensure_future(coroutine)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
        if done:
            return task.result()
        raise TimeoutError
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
