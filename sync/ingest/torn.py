"""Entries of a Delta log that a power cut has torn.

delta-rs gives an entry its name before its content is on disk, so the newest entry may come back empty, cut short or filled with zeros. No
reader could open the table then; or, cut between two lines, it would show rows without their watermark. Nobody has been told of such an
entry: the ack waits for its fsync, and so does the next entry. It is set aside, and its batches come again.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from program.log import Log
from sync.ingest.durability import Durability

ACTIONS = "skerry_actions"  # in an entry's commitInfo, which is its first line: how many lines follow
TORN = ".torn"
_ENTRY = re.compile(r"\d{20}\.json")


def set_aside(log: Path, durability: Durability) -> None:
    """The newest entry of a table's log, when it is torn. Call it before the table is opened."""
    newest = max((path for path in log.glob("*.json") if _ENTRY.fullmatch(path.name)), default=None)
    if newest is None or whole(newest.read_bytes()):
        return
    Log("lake").alarm("log_entry_torn", table=log.parent.name, entry=newest.name)
    newest.rename(newest.with_name(newest.name + TORN))
    durability.folder(log)


def whole(entry: bytes) -> bool:
    """PURE. An entry without a count, from another writer, is whole when it can be read."""
    try:
        actions = [json.loads(line) for line in entry.splitlines()]
    except ValueError:
        return False
    told = next((action["commitInfo"].get(ACTIONS) for action in actions if "commitInfo" in action), None)
    return bool(actions) and (told is None or len(actions) == int(told) + 1)
