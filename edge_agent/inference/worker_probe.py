"""Which backends the workers' interpreter has: asked of a worker that answers and ends."""

from __future__ import annotations

import json
import os
from pathlib import Path

from contracts.errors import error
from edge_agent.inference.child import Child
from edge_agent.inference.within import within
from edge_agent.inference.worker_report import read_line


async def ask_versions(python: str, code_root: Path, ready_s: float) -> dict[str, str]:
    """Backend -> version. Raises LocalFaultError WORKER_START when there is no such answer within `ready_s`."""
    reports, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        os.set_blocking(writer, True)
        child = Child([python, "-m", "edge_agent.inference.worker", "--probe", "--control-fd", str(writer)], (writer,), code_root)
    finally:
        os.close(writer)
    try:
        line = await within(read_line(reports), ready_s)
        return {str(name): str(version) for name, version in json.loads(line)["backends"].items()}
    except (TimeoutError, ValueError, KeyError, TypeError, AttributeError) as silent:
        raise error("WORKER_START", python, "the worker's interpreter does not answer the probe") from silent
    finally:
        os.close(reports)
        child.kill()
        await child.wait()
