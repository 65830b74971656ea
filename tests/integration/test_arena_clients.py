"""Clients of a real worker over the agent's attach socket: leases, refusals, ends of all kinds."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.errors import SkerryError
from contracts.manifest import Manifest
from edge_agent.inference import wire
from edge_agent.inference.attach import MAX_REQUEST_BYTES, AttachSocket, _send
from edge_agent.inference.client import LOW, Client, models
from edge_agent.inference.host import HostSettings, WorkerHost
from edge_agent.inference.worker.backends import fake
from tests.integration.test_worker_host import BOMB, bomb, run, until
from tests.simulators.bundles import CLASSES, INPUT_SHAPE, OUTPUT_SHAPE, fake_slot, golden_inputs
from tests.simulators.onnx_bundles import onnx_slot, weights

WAIT_S = 20.0
VALUES = golden_inputs(1)
SLOW = {"do": "slow", "us": 300_000, "value": BOMB}


@dataclass
class Site:
    host: WorkerHost
    digest: str
    path: str

    async def attach(self, model: str = "") -> Client:
        return await asyncio.to_thread(Client.attach, self.path, model)

    async def refusal(self, model: str) -> str:
        with pytest.raises(SkerryError) as refused:
            await self.attach(model)
        return refused.value.code

    def seats(self) -> dict[str, int]:
        counts: dict[str, int] = self.host.figures()[self.digest]["seats"]
        return counts


Bundle = tuple[str, Path, Manifest]


@asynccontextmanager
async def site(
    folder: Path, *faults: dict[str, Any], request_s: float = 5.0, bundle: Bundle | None = None, **settings: float
) -> AsyncIterator[Site]:
    digest, slot, manifest = bundle or fake_slot(folder / "slots", *faults)
    host = WorkerHost(sys.executable, folder / "run", HostSettings(**settings))  # type: ignore[arg-type]
    path = folder / "arena.sock"
    socket_task = asyncio.ensure_future(AttachSocket(path, host, lambda: digest, request_s).serve())
    try:
        await host.load(digest, slot, manifest)
        await until(path.exists)
        yield Site(host, digest, str(path))
    finally:
        await host.close()
        socket_task.cancel()
        await asyncio.gather(socket_task, return_exceptions=True)
        assert not path.exists()


def test_several_clients_at_once_each_get_their_own_answers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path) as here:
            clients = [await here.attach(model) for model in ("", "tiny", here.digest)]
            assert {client.route["arena"]["seat"] for client in clients} == {1, 2, 3}
            assert here.seats() == {"free": 4, "leased": 3, "settling": 0}
            far = time.monotonic_ns() + int(WAIT_S * 1e9)
            asked = [(client, client.submit(VALUES * k, far), VALUES * k) for k in range(1, 4) for client in clients]
            for client, ticket, values in asked:
                assert np.allclose(client.collect(ticket).output, fake.expected(values, OUTPUT_SHAPE), atol=1e-4)
            for client in clients:
                client.close()
            await until(lambda: here.seats() == {"free": 7, "leased": 0, "settling": 0})

    run(scenario())


def test_an_event_loop_serves_without_copies_and_without_waiting(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path) as here:
            client, loop = await here.attach(), asyncio.get_running_loop()
            pending: dict[Any, asyncio.Future[None]] = {}

            def look() -> None:
                client.drain()
                for ticket in [ticket for ticket in pending if client.ready(ticket)]:
                    pending.pop(ticket).set_result(None)

            loop.add_reader(client.fileno(), look)

            async def infer(k: int) -> None:
                cell = client.reserve()
                np.multiply(VALUES, k, out=cell.input)
                ticket = client.commit(cell, time.monotonic_ns() + int(WAIT_S * 1e9))
                pending[ticket] = loop.create_future()
                await pending[ticket]
                answer = client.hold(ticket)
                assert answer.output.base is not None  # a view
                assert np.allclose(answer.output, fake.expected(VALUES * k, OUTPUT_SHAPE), atol=1e-4)
                client.release(ticket)

            for _ in range(3):
                await asyncio.gather(*(infer(k) for k in range(1, 9)))
            loop.remove_reader(client.fileno())
            client.close()

    run(scenario())


def test_what_is_loaded_is_listed_and_what_is_not_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path, seats=2) as here:
            listed = await asyncio.to_thread(models, here.path)
            told = [(m["name"], m["digest"], m["state"], m["live"], m["backend"]) for m in listed]
            assert told == [("tiny", here.digest, "ready", True, "fake")]
            assert await here.refusal("other") == "ARENA_MODEL"
            client = await here.attach()
            assert await here.refusal("tiny") == "ARENA_SEATS"
            client.close()
            await until(lambda: here.seats()["free"] == 1)
            (await here.attach()).close()
        with pytest.raises(SkerryError, match="SETUP_NOT_RUNNING"):
            Client.attach(here.path)

    run(scenario())


@pytest.mark.parametrize(
    "sent",
    [b"\n", b"[]\n", b'{"op": "fly"}\n', b'{"op": "attach", "model": 7}\n', b"[" * 4000 + b"\n", b"x" * (MAX_REQUEST_BYTES + 1), b"\xff\n"],
)
def test_a_request_that_is_none_is_refused(tmp_path: Path, sent: bytes) -> None:
    async def scenario() -> None:
        path = tmp_path / "arena.sock"
        serving = asyncio.ensure_future(AttachSocket(path, WorkerHost("python", tmp_path), lambda: "").serve())
        await until(path.exists)
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(sent)
        assert json.loads(await reader.readline())["code"] == "ARENA_REQUEST"
        assert await reader.read() == b""
        writer.close()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)

    run(scenario())


def test_a_connection_that_says_nothing_is_closed_and_holds_no_seat(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path, request_s=0.2) as here:
            reader, writer = await asyncio.open_unix_connection(here.path)
            writer.write(b'{"op": "att')
            assert await reader.read() == b""
            writer.close()
            assert here.seats()["leased"] == 0

    run(scenario())


def test_callers_that_do_not_read_their_answers_take_seats_and_no_more(tmp_path: Path) -> None:
    """The descriptors on their way to them count as the agent's: without a bound it could send none any more."""

    async def scenario() -> None:
        async with site(tmp_path) as here:
            silent = []
            for _ in range(7):
                silent.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                silent[-1].connect(here.path)
                silent[-1].sendall(b'{"op": "attach"}\n')
                silent[-1].shutdown(socket.SHUT_WR)
            await until(lambda: here.seats()["leased"] == 7)
            assert await here.refusal("") == "ARENA_SEATS"
            assert silent[0].recv(65536)
            await until(lambda: here.seats()["free"] == 1)
            for connection in silent:
                connection.close()
            await until(lambda: here.seats() == {"free": 7, "leased": 0, "settling": 0})

    run(scenario())


def test_an_answer_that_cannot_be_sent_is_not_the_end_of_the_agent() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert not _send(ours, {"route": {}}, (2**20,))  # the kernel refuses the descriptor, as it does one too many
        assert _send(ours, {"route": {}})


def test_the_socket_accepts_again_when_there_are_descriptors_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with site(tmp_path) as here:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
                resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, hard))
                try:
                    caller.connect(here.path)
                    await until(lambda: "arena_accepts_nobody" in caplog.messages)
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert [model["name"] for model in await asyncio.to_thread(models, here.path)] == ["tiny"]

    run(scenario())


def test_a_full_queue_is_busy_and_low_priority_is_busy_first(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path, SLOW, queue_limit=4) as here:
            client = await here.attach()
            far = time.monotonic_ns() + int(WAIT_S * 1e9)
            first = client.submit(bomb(), far)
            await until(lambda: wire.state(client._memory, first.cell_no) == wire.CellState.BUSY)
            for priority in (LOW, LOW):
                client.submit(VALUES, far, priority)
            with pytest.raises(SkerryError, match="ARENA_BUSY"):
                client.submit(VALUES, far, LOW)
            last = [client.submit(VALUES, far) for _ in range(2)][-1]
            with pytest.raises(SkerryError, match="ARENA_BUSY"):
                client.submit(VALUES, far)
            client.collect(last)
            client.close()

    run(scenario())


def test_an_unloaded_version_answers_what_was_asked_and_hangs_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path, SLOW) as here:
            client = await here.attach()
            ticket = client.submit(bomb(), time.monotonic_ns() + int(WAIT_S * 1e9))
            unloading = asyncio.ensure_future(here.host.unload(here.digest))
            answer = await asyncio.to_thread(client.collect, ticket)
            assert np.allclose(answer.output, fake.expected(bomb(), OUTPUT_SHAPE), rtol=1e-4)
            await unloading
            assert client.detached
            assert select.select([client.connection_fileno()], [], [], WAIT_S)[0]
            with pytest.raises(SkerryError, match="ARENA_DETACHED"):
                client.submit(VALUES, time.monotonic_ns() + 10**9)
            client.close()

    run(scenario())


def test_a_worker_that_is_gone_for_good_ends_the_wait(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path, {"do": "hang", "value": BOMB}, drain_s=0.05, stop_s=0.1) as here:
            client = await here.attach()
            ticket = client.submit(bomb(), time.monotonic_ns() + int(WAIT_S * 1e9))
            await until(lambda: wire.state(client._memory, ticket.cell_no) == wire.CellState.BUSY)
            waiting = asyncio.ensure_future(asyncio.to_thread(client.collect, ticket))
            await here.host.unload(here.digest)
            with pytest.raises(SkerryError, match="ARENA_DETACHED"):
                await waiting
            client.close()

    run(scenario())


def test_a_killed_clients_seat_settles_when_the_worker_is_done_with_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path, SLOW, seats=2) as here:
            ready, told = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    client = Client.attach(here.path)
                    for _ in range(3):
                        client.submit(bomb(), time.monotonic_ns() + int(WAIT_S * 1e9))
                    os.write(told, b"1")
                    signal.pause()
                finally:
                    os._exit(1)
            await asyncio.to_thread(os.read, ready, 1)
            await until(lambda: here.host.cells()[here.digest] == 3)
            os.kill(child, signal.SIGKILL)
            await asyncio.to_thread(os.waitpid, child, 0)
            await until(lambda: here.seats()["settling"] == 1)
            assert await here.refusal("") == "ARENA_SEATS"
            await until(lambda: here.seats() == {"free": 1, "leased": 0, "settling": 0})
            assert here.host.cells()[here.digest] == 0
            await until(lambda: here.host.figures()[here.digest]["served"] == 1)  # what it had begun; the rest was not computed
            os.close(ready)
            os.close(told)

    run(scenario())


def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "arena.sock"))

    async def scenario() -> None:
        async with site(tmp_path) as here:
            client = await here.attach()
            assert not client.detached
            client.close()

    run(scenario())


def test_rows_of_several_clients_are_one_batch(tmp_path: Path) -> None:
    async def scenario() -> None:
        shapes: dict[str, Any] = {
            "input": {"name": "x", "dtype": "f32", "shape": (4, *INPUT_SHAPE[1:])},
            "output": {"name": "logits", "dtype": "f32", "shape": (4, CLASSES)},
        }
        bundle = onnx_slot(tmp_path / "slots", **shapes)
        async with site(tmp_path, bundle=bundle, batch_delay_us=2000, spin_us=50) as here:
            clients = [await here.attach() for _ in range(2)]
            assert {client.input_shape for client in clients} == {INPUT_SHAPE}
            inputs, far = golden_inputs(), time.monotonic_ns() + int(WAIT_S * 1e9)
            asked = [(client, client.submit(row[None], far), row) for row in inputs for client in clients[: 1 + (row[0, 0, 0] > 0)]]
            for client, ticket, row in asked:
                assert np.allclose(client.collect(ticket).output, row.reshape(1, -1) @ weights(), atol=1e-4)
            for client in clients:
                client.close()

    run(scenario())
