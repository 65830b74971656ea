"""A signer whose disk takes no writes: it says so and lives on; the control plane asks again instead of giving the release up."""

from __future__ import annotations

import asyncio
import errno
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from contracts.errors import TransientError
from contracts.release import SignerAnswer
from control_plane.adapters.signer_client import SignerClient
from control_plane.signer.listener import Listener, refusing
from control_plane.signer.program import Renewal
from program.log import Log
from tests.simulators.clock import SimulatedClock

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


def full(*_: object) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_the_caller_is_told_to_come_again(tmp_path: Path) -> None:
    async def story() -> str:
        async def handle(data: bytes) -> SignerAnswer:
            return refusing(full, Log("signer"))(data)

        listener = Listener(tmp_path / "signer.sock", (os.geteuid(),), handle, Log("signer"))
        await listener.start()
        try:
            with pytest.raises(TransientError) as told:
                await asyncio.to_thread(SignerClient(tmp_path / "signer.sock").renew)
        finally:
            await listener.close()
        return str(told.value)

    assert asyncio.run(story()) == "SIGNER_UNREACHABLE: signer: SETUP_STATE_DISK: signer: signing: No space left on device"


class Publisher:
    """What the timer needs of control_plane.signer.publisher.Publisher."""

    def __init__(self) -> None:
        roles = {role: SimpleNamespace(expires=NOW + timedelta(days=365)) for role in ("root", "targets")}
        self.repository = SimpleNamespace(current=lambda: roles, versions=dict)
        self.full, self.tries = True, 0

    def renew(self, now: datetime) -> list[str]:
        self.tries += 1
        return full() if self.full else ["timestamp"]


def test_the_timer_goes_on_and_tells_it_once(caplog: pytest.LogCaptureFixture) -> None:
    publisher = Publisher()

    async def story() -> None:
        renewal, busy = Renewal(publisher, SimulatedClock(), Log("signer")), asyncio.Lock()  # type: ignore[arg-type]
        for _ in range(3):
            await renewal.run(busy)
        publisher.full = False
        await renewal.run(busy)

    with caplog.at_level("INFO"):
        asyncio.run(story())
    assert publisher.tries == 4
    assert [record.getMessage() for record in caplog.records] == ["roles_not_renewed", "roles_renewed"]
