"""Room for one more worker: the manifest's limit against what the kernel has, less the reserve."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.errors import LocalFaultError
from edge_agent.core.memory import check_room
from edge_agent.inference.arena import geometry_for
from edge_agent.inference.host import HostSettings, WorkerHost
from firmware_profiles.telemetry import Memory
from tests.simulators.bundles import fake_slot

MB = 1 << 20


@pytest.mark.parametrize(("available_mb", "fits"), [(300, True), (299, False), (0, False), (None, True)])
def test_the_reserve_stays_free(available_mb: int | None, fits: bool) -> None:
    available_bytes = None if available_mb is None else available_mb * MB
    if fits:
        check_room("m", 100 * MB, available_bytes, 200 * MB)
        return
    with pytest.raises(LocalFaultError) as refused:
        check_room("m", 100 * MB, available_bytes, 200 * MB)
    assert refused.value.code == "WORKER_MEMORY"


def test_the_host_asks_what_the_machine_has(tmp_path: Path) -> None:
    _, _, manifest = fake_slot(tmp_path)
    settings = HostSettings(memory_reserve_bytes=5)
    cells = geometry_for(manifest.input, manifest.output, settings.seats, settings.cells_per_seat)
    wanted = manifest.limits.memory_bytes + cells.total_bytes
    memory = [Memory(1 << 40, wanted + 5)]
    host = WorkerHost("python", tmp_path, settings, memory=lambda: memory[0])
    host.check_room("m", manifest)
    memory[0] = Memory(1 << 40, wanted + 4)
    with pytest.raises(LocalFaultError, match="WORKER_MEMORY"):
        host.check_room("m", manifest)
