"""Which HTTP status and which gRPC status an error code becomes. A client retries 429, 503, 504 and UNAVAILABLE, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from contracts.errors import SkerryError, TransientError


class Status(NamedTuple):
    http: int
    grpc: str  # the name of a grpc.StatusCode


_INVALID = Status(400, "INVALID_ARGUMENT")
_ABSENT = Status(404, "NOT_FOUND")
_BUSY = Status(503, "UNAVAILABLE")
_FAILED = Status(500, "INTERNAL")

STATUS: Mapping[str, Status] = {
    "OIP_REQUEST": _INVALID,
    "OIP_TENSOR": _INVALID,
    "OIP_PARAMETER": _INVALID,
    "OIP_ENDPOINT": _ABSENT,
    "OIP_METHOD": Status(405, "UNIMPLEMENTED"),
    "OIP_TOO_LARGE": Status(413, "RESOURCE_EXHAUSTED"),
    "OIP_ENCODING": Status(415, "INVALID_ARGUMENT"),
    "OIP_CONNECTIONS": _BUSY,
    "OIP_MEMORY": Status(503, "RESOURCE_EXHAUSTED"),
    "OIP_BUG": _FAILED,
    "OIP_SLOW_BODY": Status(408, "DEADLINE_EXCEEDED"),
    "OIP_UNSUPPORTED": Status(501, "UNIMPLEMENTED"),
    "OIP_REGION": _INVALID,
    "OIP_REGION_UNKNOWN": _ABSENT,
    "OIP_REGION_OWNER": Status(403, "PERMISSION_DENIED"),
    "OIP_NOT_ADMITTED": _ABSENT,
    "OIP_BUSY": _BUSY,
    "OIP_IN_USE": Status(409, "FAILED_PRECONDITION"),
    "ARENA_MODEL": _ABSENT,
    "ARENA_SHAPE": _INVALID,
    "ARENA_BUSY": _BUSY,
    "ARENA_SEATS": _BUSY,
    "ARENA_DETACHED": _BUSY,
    "ARENA_TIMEOUT": Status(504, "DEADLINE_EXCEEDED"),
    "WORKER_MODEL": _INVALID,
    "WORKER_MEMORY": Status(503, "RESOURCE_EXHAUSTED"),
    "WORKER_START": _BUSY,
    "WORKER_CIRCUIT_OPEN": _BUSY,
    "SETUP_NOT_RUNNING": _BUSY,
}

MAX_TEXT = 500
RETRY_ON_A_FRESH_LIST = frozenset({"ARENA_DETACHED", "ARENA_MODEL"})  # a swap looks so for a moment


def status_of(refused: SkerryError) -> Status:
    """A code without a line: try again later if it may pass, else it is the server's fault."""
    return STATUS.get(refused.code, _BUSY if isinstance(refused, TransientError) else _FAILED)


def text_of(refused: SkerryError) -> str:
    """For the caller: it may hold what the caller sent, and gRPC takes 8 KiB, in which a character can be twelve bytes."""
    return str(refused)[:MAX_TEXT]
