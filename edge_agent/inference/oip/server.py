"""The front's listeners in one event loop: REST and gRPC, each on a Unix socket in the run folder and, if a port is set, on loopback TCP.

Any local user reaches a TCP port, so they are off unless configured; the sockets are for the agent's group.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from contracts.errors import error
from edge_agent.inference.oip.connection import MAX_CONNECTIONS, Listener
from edge_agent.inference.oip.front import Front, Limits
from edge_agent.inference.oip.grpc_service import handler
from edge_agent.inference.oip.rest import RestApp
from program.sockets import port_owner

REST_SOCKET, GRPC_SOCKET = "oip.sock", "oip-grpc.sock"
SOCKET_UMASK = 0o117  # sockets get 0660
LOOPBACK = "127.0.0.1"
MAX_STREAMS = 128  # requests at once of one gRPC connection: one whose message never comes takes 3 KB, and nothing ends it
GRACE_S = 2
BACKLOG = 1024
_FRAMING_BYTES = 1024 * 1024  # what a gRPC message holds besides tensors


class Settings(NamedTuple):
    """From [oip] of agent.toml, as the agent hands it on."""

    run_dir: str
    rest_port: int | None = None
    grpc_port: int | None = None
    shared_memory_uids: tuple[int, ...] = ()
    line_limit: int = 32
    shadow_share: float = 0.1
    canary_share: float = 0.0
    limits: Limits = Limits()

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Settings:
        given = dict(values)
        limits = Limits(**{name: given.pop(name) for name in Limits._fields if name in given})
        return cls(**{**given, "shared_memory_uids": tuple(given.get("shared_memory_uids", ())), "limits": limits})


class Ports(NamedTuple):
    """The real ones; 0 where none is served."""

    rest: int
    grpc: int


@asynccontextmanager
async def serving(front: Front, settings: Settings) -> AsyncIterator[Ports]:
    """Raises LocalFaultError SETUP_PORT_BUSY."""
    async with _rest(front, settings) as rest_port, _grpc(front, settings) as grpc_port:
        yield Ports(rest_port, grpc_port)


# -- REST


@asynccontextmanager
async def _rest(front: Front, settings: Settings) -> AsyncIterator[int]:
    bound = [(_unix(Path(settings.run_dir) / REST_SOCKET), True)]
    if settings.rest_port is not None:
        bound.append((_tcp("oip.rest_port", settings.rest_port), False))
    async with AsyncExitStack() as stack:
        for listening, local in bound:
            await stack.enter_async_context(_listening(listening, Listener(RestApp(front, local), settings.limits.body_s)))
        yield bound[1][0].getsockname()[1] if len(bound) > 1 else 0


@asynccontextmanager
async def _listening(bound: socket.socket, listener: Listener) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    create = loop.create_unix_server if bound.family == socket.AF_UNIX else loop.create_server
    server = await create(listener.connect, sock=bound, backlog=BACKLOG)
    try:
        yield
    finally:
        server.close()
        await listener.close(GRACE_S)


def _unix(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    bound.bind(str(path))
    bound.setblocking(False)
    return bound


def _tcp(key: str, port: int) -> socket.socket:
    try:
        bound = socket.create_server((LOOPBACK, port), backlog=BACKLOG)
    except OSError as failed:
        if failed.errno != errno.EADDRINUSE:
            raise
        raise error("SETUP_PORT_BUSY", f"{key} {port}", f"held by {port_owner(port)}") from failed
    bound.setblocking(False)
    return bound


# -- gRPC


@asynccontextmanager
async def _grpc(front: Front, settings: Settings) -> AsyncIterator[int]:
    limit = settings.limits.max_request_bytes + _FRAMING_BYTES
    options = [
        ("grpc.max_receive_message_length", limit),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),
        ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
        ("grpc.max_concurrent_streams", MAX_STREAMS),
        ("grpc.server_handshake_timeout_ms", int(settings.limits.body_s * 1000)),
    ]
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((handler(front),))
    path = Path(settings.run_dir) / GRPC_SOCKET
    path.unlink(missing_ok=True)
    server.add_insecure_port(f"unix:{path}")
    port = 0 if settings.grpc_port is None else _grpc_port(server, settings.grpc_port)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(GRACE_S)


def _grpc_port(server: grpc.aio.Server, port: int) -> int:
    try:
        return int(server.add_insecure_port(f"{LOOPBACK}:{port}"))
    except RuntimeError as failed:
        raise error("SETUP_PORT_BUSY", f"oip.grpc_port {port}", f"held by {port_owner(port)}") from failed


def make_sockets_for_the_group() -> None:
    os.umask(SOCKET_UMASK)
