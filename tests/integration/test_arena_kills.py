"""Clients that hold a cell are killed, at every point of the protocol. `python -m tests.integration.arena_kills 10000` kills more."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.integration.arena_kills import check_found, kills

COUNT = 180


def test_no_cell_and_no_seat_is_lost_to_clients_that_are_killed(tmp_path: Path) -> None:
    found = asyncio.run(asyncio.wait_for(kills(tmp_path, COUNT, seed=2), 110))
    check_found(found, COUNT)
