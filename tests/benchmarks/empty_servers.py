"""The floors under the inference front: they read a request whole and answer a fixed number of bytes, with the front's own libraries.

python -m tests.benchmarks.empty_servers {rest,grpc} BYTES     prints its port, serves until its standard input ends
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import uvicorn
import uvloop

from edge_agent.inference.oip.link import ENVIRONMENT
from program.memory import keep_freed

REPO = Path(__file__).parents[2]
KINDS = ("rest", "grpc")
MAX_BYTES = 64 * 1024**2


@contextmanager
def empty_server(kind: str, answer_bytes: int) -> Iterator[int]:
    """Its port on loopback."""
    command = [sys.executable, "-m", "tests.benchmarks.empty_servers", kind, str(answer_bytes)]
    environment = {**os.environ, **ENVIRONMENT}  # a floor without the front's own settings would be slower than what stands on it
    with subprocess.Popen(command, cwd=REPO, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin
        assert server.stdout
        try:
            yield int(server.stdout.readline())
        finally:
            server.stdin.close()


async def _until_told() -> None:
    await asyncio.to_thread(sys.stdin.read)


async def rest(answer: bytes) -> None:
    head = [(b"content-type", b"application/octet-stream"), (b"content-length", str(len(answer)).encode())]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            continue
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": answer})

    configuration = uvicorn.Config(app, port=0, http="httptools", ws="none", lifespan="off", loop="none", log_config=None, access_log=False)
    server = uvicorn.Server(configuration)
    serving = asyncio.ensure_future(server.serve())
    while not server.started:  # noqa: ASYNC110  uvicorn says that it listens only by this flag
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await _until_told()
    server.should_exit = True
    await serving


async def grpc_(answer: bytes) -> None:
    async def call(request: bytes, context: Any) -> bytes:
        return answer

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
        def service(self, handler_call_details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(call)

    server = grpc.aio.server(options=[("grpc.max_receive_message_length", MAX_BYTES), ("grpc.max_send_message_length", -1)])
    server.add_generic_rpc_handlers((Handler(),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await _until_told()
    await server.stop(None)


if __name__ == "__main__":
    keep_freed()
    kind, size = sys.argv[1:]
    uvloop.run({"rest": rest, "grpc": grpc_}[kind](bytes(int(size))))
