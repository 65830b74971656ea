"""The one line that a worker says when it has started, or why it has not. It may be anything: the model's code ran in that process."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from contracts.errors import SkerryError, error

MAX_BYTES = 64 * 1024
CODES_OF_A_WORKER = frozenset(
    {"BUNDLE_GOLDEN", "BUNDLE_LIMITS", "BUNDLE_PROCESSING", "BUNDLE_SELF_TEST", "WORKER_MODEL", "WORKER_NOT_FINITE", "WORKER_START"}
)


def judge(line: bytes, digest: str) -> dict[str, Any]:
    """The figures of a READY line. Raises what a FAILED line says, or BUNDLE_SELF_TEST when there is no such line."""
    if not line:
        raise error("BUNDLE_SELF_TEST", digest, "the worker ended in its self-test without a report")
    report = _parse(line)
    if report.get("event") == "ready" and isinstance(report.get("figures"), dict):
        return dict(report["figures"])
    if report.get("event") == "failed":
        raise _failure(report, digest)
    raise error("BUNDLE_SELF_TEST", digest, "the worker's report cannot be read")


def _failure(report: dict[str, Any], digest: str) -> SkerryError:
    code = report.get("code")
    known = isinstance(code, str) and code in CODES_OF_A_WORKER
    return error(str(code) if known else "BUNDLE_SELF_TEST", digest, str(report.get("detail", "")))


def _parse(line: bytes) -> dict[str, Any]:
    """{} for what is no JSON object."""
    try:
        report = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return report if isinstance(report, dict) else {}


async def read_line(descriptor: int) -> bytes:
    """One line from a non-blocking pipe; what came so far when the other end closes; at most MAX_BYTES."""
    loop, readable, line = asyncio.get_running_loop(), asyncio.Event(), b""
    loop.add_reader(descriptor, readable.set)
    try:
        while b"\n" not in line and len(line) < MAX_BYTES:
            await readable.wait()
            readable.clear()
            try:
                piece = os.read(descriptor, 4096)
            except BlockingIOError:
                continue
            if not piece:
                break
            line += piece
        return line.partition(b"\n")[0]
    finally:
        loop.remove_reader(descriptor)
