"""Several uvicorn servers in one loop, stopped together by our own signal handling.

uvicorn's own handling would raise the signal again after each server and end the process with 143; here `stop` alone
ends them, and who called decides what the process returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from contracts.errors import SkerryError, error
from program.sockets import port_owner

GRACE_S = 5


@dataclass(frozen=True)
class Listener:
    name: str
    host: str
    port: int
    app: ASGIApp
    protocol: type[asyncio.Protocol] | str = "httptools"
    tls: ssl.SSLContext | None = None

    def context_factory(self) -> Callable[..., ssl.SSLContext] | None:
        """uvicorn asks for the context by a call; None serves without TLS."""
        tls = self.tls
        return None if tls is None else lambda *_: tls


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server_tls(certificate: Path, key: Path, client_cas: tuple[Path, ...] = ()) -> ssl.SSLContext:
    """TLS 1.3 only; with `client_cas` a client certificate is required."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)
    for authority in client_cas:
        context.load_verify_locations(authority)
    context.verify_mode = ssl.CERT_REQUIRED if client_cas else ssl.CERT_NONE
    return context


class Listeners:
    """`async with Listeners([...], keep_alive_s) as ports:` serves in the block; `ports` are the real ones by name."""

    def __init__(self, listeners: list[Listener], keep_alive_s: int) -> None:
        self._listeners = listeners
        self._servers = [_Server(_configuration(one, keep_alive_s)) for one in listeners]
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> dict[str, int]:
        sockets = [_bound(one) for one in self._listeners]
        for one, server, bound in zip(self._listeners, self._servers, sockets, strict=True):
            self._tasks.append(asyncio.create_task(server.serve([bound]), name=f"listener-{one.name}"))
        while not all(server.started for server in self._servers):
            failed = [task for task in self._tasks if task.done()]
            if failed:
                failed[0].result()
            await asyncio.sleep(0)  # uvicorn says that it listens only by this flag
        return {one.name: bound.getsockname()[1] for one, bound in zip(self._listeners, sockets, strict=True)}

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.should_exit = True
        await asyncio.gather(*self._tasks)


def _configuration(one: Listener, keep_alive_s: int) -> uvicorn.Config:
    configuration = uvicorn.Config(
        one.app, http=one.protocol, ws="none", lifespan="off", loop="none", log_config=None, log_level="warning", access_log=False,
        server_header=False,
        proxy_headers=False,  # nobody is believed who says that he speaks for another
        timeout_keep_alive=keep_alive_s, timeout_graceful_shutdown=GRACE_S, ssl_context_factory=one.context_factory(),
    )  # fmt: skip
    configuration.load()
    return configuration


def _bound(one: Listener) -> socket.socket:
    """Raises SETUP_PORT_BUSY, which names the owner; CONFIG_INVALID for an address that cannot be had at all."""
    try:
        family = socket.AF_INET6 if ":" in one.host else socket.AF_INET
        bound = socket.create_server((one.host, one.port), family=family, backlog=1024)
    except OSError as failed:
        raise _not_bound(one, failed) from failed
    bound.setblocking(False)
    return bound


def _not_bound(one: Listener, failed: OSError) -> SkerryError:
    if failed.errno == errno.EADDRINUSE:
        return error("SETUP_PORT_BUSY", f"{one.name}_port {one.host}:{one.port}", f"held by {port_owner(one.port)}")
    return error("CONFIG_INVALID", f"{one.name}_host, {one.name}_port", f"cannot listen on {one.host}:{one.port}: {failed.strerror}")
