"""What the front needs of the world. Production: edge_agent/inference/client.py and link_client.py; simulators in tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from edge_agent.inference.client import Answer, Array, Cell, Ticket


class SeatClient(Protocol):
    """See edge_agent/inference/client.py for each."""

    route: dict[str, Any]

    @property
    def detached(self) -> bool: ...
    def infer(self, values: Array, timeout_s: float, priority: str = ...) -> Answer: ...
    def announce(self) -> None: ...
    def reserve(self) -> Cell: ...
    def commit(self, cell: Cell, deadline_ns: int, priority: str = ...) -> Ticket: ...
    def hold(self, ticket: Ticket) -> Answer: ...
    def release(self, held: Cell | Ticket) -> None: ...
    def fileno(self) -> int: ...
    def drain(self) -> None: ...
    def ready(self, ticket: Ticket) -> bool: ...
    def look(self, ticket: Ticket) -> bool: ...
    def connection_fileno(self) -> int: ...
    def close(self) -> None: ...


class Arenas(Protocol):
    """The agent's attach socket. Both methods block: they are called in a thread. Raise LocalFaultError SETUP_NOT_RUNNING."""

    def models(self) -> Sequence[Mapping[str, Any]]: ...
    def attach(self, digest: str) -> SeatClient:
        """Raises RejectedError ARENA_MODEL, TransientError ARENA_SEATS, LocalFaultError WORKER_START, WORKER_CIRCUIT_OPEN."""


class Repository(Protocol):
    """The agent's slots, asked over the front's own stream. Raises TransientError ARENA_DETACHED when the agent does not answer."""

    async def index(self) -> Sequence[Mapping[str, Any]]:
        """name, version, state (READY, UNAVAILABLE), reason of each admitted slot."""

    async def load(self, name: str, version: str) -> None:
        """Raises RejectedError OIP_NOT_ADMITTED, TransientError OIP_BUSY, and what loading a bundle raises."""

    async def unload(self, name: str, version: str) -> None:
        """Raises RejectedError OIP_IN_USE, OIP_NOT_ADMITTED, TransientError OIP_BUSY."""
