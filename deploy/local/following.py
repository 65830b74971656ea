"""`skerry-agent status --json --follow` as something to wait on: a line at each change, at most five a second."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from contracts.errors import error
from deploy.local.processes import Owner

LINE_BYTES = 1024 * 1024


class Following:
    def __init__(self, reader: asyncio.StreamReader, name: str) -> None:
        self._reader, self._name = reader, name

    async def wait(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first status from now on that is as wanted; the caller has the deadline."""
        while line := await self._reader.readline():
            seen: dict[str, Any] = json.loads(line)
            if wanted(seen):
                return seen
        raise error("SETUP_STEP_FAILED", self._name, "the agent hung up")


@contextlib.asynccontextmanager
async def following(name: str, argv: Sequence[str], owner: Owner | None, env: Mapping[str, str]) -> AsyncIterator[Following]:
    """Runs `argv` as long as the block; `name` is for messages."""
    process = subprocess.Popen(  # noqa: ASYNC220  # read by the event loop below
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd="/",
        env=dict(env),
        user=owner.uid if owner else None,
        group=owner.gid if owner else None,
        extra_groups=owner.groups if owner else None,
    )
    reader = asyncio.StreamReader(limit=LINE_BYTES)
    assert process.stdout is not None
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), process.stdout)
    try:
        yield Following(reader, name)
    finally:
        transport.close()
        process.kill()
        process.wait()
