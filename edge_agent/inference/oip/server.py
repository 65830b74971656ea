"""The front's listeners in one event loop: REST and gRPC, each on a Unix socket in the run folder and, if a port is set, on loopback TCP.

Any local user reaches a TCP port, so they are off unless configured; the sockets are for the agent's group.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import uvicorn

from contracts.errors import error
from edge_agent.inference.oip.connection import MAX_CONNECTIONS, Connection, with_limits
from edge_agent.inference.oip.front import Front, Limits
from edge_agent.inference.oip.grpc_service import handler
from edge_agent.inference.oip.rest import RestApp
from program.sockets import port_owner

REST_SOCKET, GRPC_SOCKET = "oip.sock", "oip-grpc.sock"
SOCKET_UMASK = 0o117  # sockets get 0660
LOOPBACK = "127.0.0.1"
MAX_STREAMS = 128  # requests at once of one gRPC connection: one whose message never comes takes 3 KB, and nothing ends it
KEEP_ALIVE_S = 75
GRACE_S = 2
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


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the process's, not one server's."""
        yield


@asynccontextmanager
async def _rest(front: Front, settings: Settings) -> AsyncIterator[int]:
    bound = [(_unix(Path(settings.run_dir) / REST_SOCKET), True)]
    if settings.rest_port is not None:
        bound.append((_tcp("oip.rest_port", settings.rest_port), False))
    protocol = with_limits(settings.limits.max_request_bytes, settings.limits.body_s)
    servers = [_Server(_configuration(RestApp(front, local), protocol)) for _, local in bound]
    tasks = [asyncio.ensure_future(server.serve([one])) for server, (one, _) in zip(servers, bound)]
    while not all(server.started for server in servers):
        for task in tasks:
            if task.done():
                task.result()
        await asyncio.sleep(0)  # uvicorn says that it listens only by this flag
    try:
        yield bound[1][0].getsockname()[1] if len(bound) > 1 else 0
    finally:
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*tasks)


def _configuration(app: RestApp, protocol: type[Connection]) -> uvicorn.Config:
    configuration = uvicorn.Config(
        app, http=protocol, ws="none", lifespan="off", loop="none", interface="asgi3", log_config=None, log_level="error",
        access_log=False, server_header=False, date_header=False, proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S, timeout_graceful_shutdown=GRACE_S,
    )  # fmt: skip
    configuration.load()
    return configuration


def _unix(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    bound.bind(str(path))
    bound.setblocking(False)
    return bound


def _tcp(key: str, port: int) -> socket.socket:
    try:
        bound = socket.create_server((LOOPBACK, port), backlog=1024)
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
