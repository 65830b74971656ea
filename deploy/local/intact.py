"""What a lie must not change: a device's slots and update record, read from its disk; and that its frames go on, asked of it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.site import LocalSite

STAGING = ".staging"  # what is being fetched, or was refused: worthless until it is sealed under its own name
LINE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Seen:
    slots: str  # sha256 over every name, link and content below slots/
    record: str  # sha256 of the durable update record
    history: tuple[str, ...]  # digests that were confirmed here; the last one is the incumbent
    frames: int  # since the agent's state folder was made


async def look(site: LocalSite, name: str) -> Seen:
    record = record_of(site.state(name) / "agent.db")
    status = await _status(site.run(name) / "agent.sock")
    return Seen(
        slots=slots_sha256(site.state(name) / "slots"),
        record=hashlib.sha256(record.encode()).hexdigest(),
        history=tuple(json.loads(record)["history"]),
        frames=status["pipeline"]["frames"],
    )


def slots_sha256(folder: Path) -> str:
    digest = hashlib.sha256()
    for part in _parts(folder):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def _parts(folder: Path) -> Iterator[bytes]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if name.parts[0] == STAGING:
            continue
        yield str(name).encode()
        if path.is_symlink():
            yield str(path.readlink()).encode()
        elif path.is_file():
            yield path.read_bytes()


def record_of(database: Path) -> str:
    """As it lies in agent.db now. Reading changes nothing, and the running agent is not asked."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as agent:
        row = agent.execute("SELECT value FROM state WHERE key = 'record'").fetchone()
    return str(row[0])


async def _status(path: Path) -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(path, limit=LINE_BYTES)
    try:
        writer.write(b'{"op": "status"}\n')
        status: dict[str, Any] = json.loads(await reader.readline())
        return status
    finally:
        writer.close()
