"""A client of one seat of an arena: standard library and numpy, clean for Python 3.8.

    client = Client.attach("/run/skerry/agent/arena.sock", "digits")      # a seat of the live version of this model
    answer = client.infer(values, timeout_s=0.1)                          # copies in and out

    cell = client.reserve()                                               # the same without a copy
    fill(cell.input)
    ticket = client.commit(cell, time.monotonic_ns() + 100_000_000)
    use(client.hold(ticket).output)                                       # a view of shared memory, ours until
    client.release(ticket)

One thread, one `Client` per seat. Several requests may be in flight, to different arenas too: `submit` both, then `collect` both.
An event loop watches `fileno()`, calls `drain()` first and then looks with `ready(ticket)`, which never waits.
"""

from __future__ import annotations

import array
import contextlib
import json
import mmap
import os
import select
import socket
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from contracts.errors import CODES, SkerryError, error
from edge_agent.inference import wire
from edge_agent.inference.spin import Spin
from edge_agent.inference.wire import CellState, Geometry, Priority, Status, Word

DTYPES: Mapping[str, str] = {"f32": "<f4", "f16": "<f2", "i8": "i1", "u8": "u1", "i32": "<i4", "i64": "<i8"}
HIGH, LOW = "high", "low"
GRACE_NS = 1_000_000_000  # how long requests in flight are waited for once the agent has hung up
MAX_ANSWER_BYTES = 64 * 1024
_PRIORITIES = {HIGH: Priority.HIGH, LOW: Priority.LOW}
_NO_LIMIT = wire.MAX_CELLS
_FREE = int(CellState.FREE)
_DONE = int(CellState.DONE)  # from here on a state is the client's
_REQUESTED = int(CellState.REQUESTED)
_SEQS = 1 << 62  # whatever a predecessor on this seat has left there
_RESERVED = 0  # in place of a ticket's number, which begins at 1
_HUNG_UP_POLL_MS = 50
_LONGEST_POLL_MS = 3_600_000  # poll takes an int
_LONGEST_S = 1e9  # what a deadline can say

Array = Any  # numpy.ndarray: 1.24 (Python 3.8) cannot say more


class Cell(NamedTuple):
    """Reserved for one request: views of shared memory."""

    cell_no: int
    input: Array
    output: Array


class Ticket(NamedTuple):
    """A request on its way: the cell it lies in and its number there."""

    cell_no: int
    seq: int
    deadline_ns: int


class Answer(NamedTuple):
    """`compute_us` is the worker's compute time; `finite` is False when the output holds NaN or infinity."""

    output: Array  # a copy from `collect`, a view from `hold`
    finite: bool
    compute_us: float
    queue_us: float  # from submit to the start of computing


class Client:
    """Attach to a seat; cells that a predecessor left there are taken back as the worker finishes them.

    Takes over the three descriptors and the connection: `close` closes them.
    """

    def __init__(
        self,
        arena: Mapping[str, Any],
        input_: Mapping[str, Any],
        output: Mapping[str, Any],
        descriptors: tuple[int, int, int],
        connection: socket.socket | None = None,
    ) -> None:
        """`arena`, `input_`, `output` as in a `route` of contracts/pipeline.py. Raises ValueError when the memory is no such arena."""
        self.route: dict[str, Any] = {}
        self._descriptors = list(descriptors)  # ours to close, once this has returned
        memfd, self._request_fd, self._response_fd = descriptors
        self._geometry = Geometry.from_dict(arena)
        self._memory = mmap.mmap(memfd, self._geometry.total_bytes)
        if wire.read_geometry(self._memory) != self._geometry:
            raise ValueError("the arena's header says another geometry")
        self.input_shape, self.input_dtype = _tensor(input_)
        self.output_shape, self.output_dtype = _tensor(output)
        self._cells = [self._views(index) for index in self._geometry.seat(int(arena.get("seat", 0)))]
        self._by_index = {cell.cell_no: cell for cell in self._cells}
        self._held: dict[int, int] = {}  # cell -> seq of the ticket that is not released yet, or _RESERVED
        self._seq = max(wire.read_header(self._memory, self._geometry.header(cell.cell_no)).seq for cell in self._cells) % _SEQS
        limit = int(arena.get("queue_limit", _NO_LIMIT))
        self._bounds = {name: wire.queue_bound(limit, priority) for name, priority in _PRIORITIES.items()}
        self._spin = Spin(int(arena.get("spin_us", 0)), between=os.sched_yield)  # the worker may be waiting for our own core
        self._hung_up_ns = 0  # when we saw that the agent has ended this seat
        self._connection = connection
        self._poll = select.poll()
        self._poll.register(self._response_fd, select.POLLIN)
        if connection is not None:
            self._poll.register(connection.fileno(), select.POLLIN)

    @classmethod
    def attach(cls, socket_path: str, model: str = "", timeout_s: float = 5.0) -> Client:
        """A seat from the agent's `arena.sock`; `model` is a name (its live version), a bundle's digest, or "" for what is live now.

        Raises RejectedError ARENA_MODEL, TransientError ARENA_SEATS, LocalFaultError SETUP_NOT_RUNNING, WORKER_START, WORKER_CIRCUIT_OPEN.
        """
        with contextlib.ExitStack() as undo:
            connection = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            route, descriptors = _ask(connection, socket_path, {"op": "attach", "model": model}, timeout_s)
            for descriptor in descriptors:
                undo.callback(os.close, descriptor)
            client = cls(route["arena"], route["input"], route["output"], descriptors, connection)
            client.route = route
            undo.pop_all()
        return client

    # -- with copies

    def infer(self, values: Array, timeout_s: float, priority: str = HIGH) -> Answer:
        """Submit and collect. Raises as both."""
        patience_ns = int(min(max(timeout_s, 0.0), _LONGEST_S) * 1e9)
        return self.collect(self.submit(values, time.monotonic_ns() + patience_ns, priority))

    def submit(self, values: Array, deadline_ns: int, priority: str = HIGH) -> Ticket:
        """Write a request and wake the worker; `deadline_ns` is CLOCK_MONOTONIC: after it the worker does not begin.

        Raises RejectedError ARENA_SHAPE, and as `reserve` and `commit`.
        """
        if values.shape != self.input_shape or values.dtype != self.input_dtype:
            wanted = f"the cell holds {self.input_dtype} {self.input_shape}"
            raise error("ARENA_SHAPE", f"{values.dtype} {values.shape}", wanted)
        self.announce()
        cell = self.reserve()
        try:
            cell.input[...] = values
            return self.commit(cell, deadline_ns, priority)
        except BaseException:
            self.release(cell)
            raise

    def collect(self, ticket: Ticket) -> Answer:
        """Wait for the answer until the ticket's deadline; its output is a copy.

        Raises TransientError ARENA_TIMEOUT, LocalFaultError WORKER_CRASH (it died computing this), RejectedError WORKER_MODEL,
        TransientError ARENA_DETACHED (the agent ended this seat before there was an answer).
        """
        try:
            held = self.hold(ticket)
            return held._replace(output=held.output.copy())
        finally:
            self.release(ticket)

    # -- without copies

    def announce(self) -> None:
        """A request is about to come: its worker wakes up meanwhile, unless one is on its way or the profile lets no wait spin."""
        if self._spin.looks and not self._held:
            wire.signal(self._request_fd)

    def reserve(self) -> Cell:
        """A free cell of ours, until it is committed or released. Raises TransientError ARENA_BUSY, ARENA_DETACHED."""
        if self.detached:
            raise error("ARENA_DETACHED")
        for cell in self._cells:
            if cell.cell_no not in self._held and self._take_back(cell.cell_no):
                self._held[cell.cell_no] = _RESERVED
                return cell
        raise error("ARENA_BUSY", f"{len(self._cells)} cells")

    def commit(self, cell: Cell, deadline_ns: int, priority: str = HIGH) -> Ticket:
        """Request what was written to `cell.input`.

        Raises TransientError ARENA_BUSY when the model's queue is full; the cell stays reserved.
        """
        if self._held.get(cell.cell_no) != _RESERVED:
            raise ValueError(f"cell {cell.cell_no} is not reserved")
        self._check_queue(priority)
        seq, offset = self._seq % _SEQS + 1, self._geometry.header(cell.cell_no)
        wire.write_request(self._memory, offset, _PRIORITIES[priority], seq, deadline_ns, time.monotonic_ns())
        self._held[cell.cell_no] = self._seq = seq
        wire.set_state(self._memory, cell.cell_no, CellState.REQUESTED)
        wire.signal(self._request_fd)
        return Ticket(cell.cell_no, self._seq, deadline_ns)

    def hold(self, ticket: Ticket) -> Answer:
        """As `collect`, but the output is a view, valid until `release(ticket)`."""
        try:
            self._wait(ticket)
            return self._answer(ticket)
        except BaseException:  # Ctrl-C, too: who is interrupted does not come back for the answer
            self.release(ticket)
            raise

    def release(self, held: Cell | Ticket) -> None:
        """Done with a reserved cell, with an answer, or with a request that nobody wants any more. Never waits; twice is once.

        A request that the worker has not begun is not computed; the cell is ours again when the worker has let go of it.
        """
        seq = held.seq if isinstance(held, Ticket) else _RESERVED
        if self._held.get(held.cell_no) != seq:
            return
        del self._held[held.cell_no]
        if seq != _RESERVED and not self._take_back(held.cell_no):
            wire.cancel(self._memory, self._geometry.header(held.cell_no))

    # -- for event loops

    def fileno(self) -> int:
        """An eventfd, readable when an answer came since the last `drain`."""
        return self._response_fd

    def drain(self) -> None:
        """Reset `fileno()`: before the look, so that an answer after the look wakes us again."""
        wire.drain(self._response_fd)

    def ready(self, ticket: Ticket) -> bool:
        """Never waits. True: `collect` and `hold` return or raise at once."""
        return self._settled(ticket.cell_no) or self._lost()

    def look(self, ticket: Ticket) -> bool:
        """As `ready`, but may look for as long as the profile lets a wait spin: for a loop that has nothing else to do."""
        return self._spin(lambda: self._settled(ticket.cell_no)) or self.ready(ticket)

    def connection_fileno(self) -> int:
        """Readable when the agent has hung up; -1 without a connection."""
        return -1 if self._connection is None else self._connection.fileno()

    # -- state

    @property
    def detached(self) -> bool:
        """The agent has ended this seat, because the version was unloaded: attach anew."""
        if self._hung_up_ns == 0 and wire.word(self._memory, Word.CLOSED):
            self._hung_up_ns = time.monotonic_ns()
        return self._hung_up_ns != 0

    def worker_pid(self) -> int:
        """0 while there is no worker."""
        return wire.word(self._memory, Word.PID)

    def close(self) -> None:
        """Views of cells must not be used after it. Twice is once."""
        self._cells.clear()
        self._by_index.clear()
        with contextlib.suppress(BufferError):  # the caller still has a view; the mapping goes with the last one
            self._memory.close()
        while self._descriptors:
            os.close(self._descriptors.pop())
        if self._connection is not None:
            self._connection.close()

    # -- inside

    def _check_queue(self, priority: str) -> None:
        """A look without a lock: clients that come at the same moment may exceed the bound by one each."""
        waiting = wire.count(self._memory, self._geometry.cells, _REQUESTED)
        if waiting >= self._bounds[priority]:
            raise error("ARENA_BUSY", f"{waiting} requests wait", f"the model's queue is full for priority {priority}")

    def _take_back(self, index: int) -> bool:
        """Free an answered cell; False while the worker has it."""
        found = wire.state(self._memory, index)
        if found >= _DONE:
            wire.set_state(self._memory, index, CellState.FREE)
        return found == _FREE or found >= _DONE

    def _settled(self, index: int) -> bool:
        return wire.state(self._memory, index) >= _DONE

    def _lost(self) -> bool:
        """Nobody will answer: the agent has hung up, and its worker is gone or has had its time."""
        if not self.detached:
            return False
        gone = wire.word(self._memory, Word.STATE) == wire.WorkerState.ABSENT
        return gone or time.monotonic_ns() - self._hung_up_ns > GRACE_NS

    def _wait(self, ticket: Ticket) -> None:
        if self._held.get(ticket.cell_no) != ticket.seq:
            raise ValueError(f"the ticket of cell {ticket.cell_no} was released")
        self._spin(lambda: self._settled(ticket.cell_no))
        slept = False
        while not self._settled(ticket.cell_no):
            left_ms = (ticket.deadline_ns - time.monotonic_ns()) / 1e6
            if left_ms <= 0:
                raise error("ARENA_TIMEOUT", f"cell {ticket.cell_no}")
            if self._lost():
                raise error("ARENA_DETACHED")
            self._sleep(min(left_ms, _HUNG_UP_POLL_MS) if self._hung_up_ns else left_ms)
            slept = True
        if slept and any(self._settled(other) for other in self._held if other != ticket.cell_no):
            wire.signal(self._response_fd)  # whose wake-up we have taken

    def _sleep(self, milliseconds: float) -> None:
        """Until an answer came to any of our cells, or the agent hung up."""
        for descriptor, _ in self._poll.poll(min(milliseconds, _LONGEST_POLL_MS)):
            if descriptor != self._response_fd:
                self._poll.unregister(descriptor)
                self._hung_up_ns = self._hung_up_ns or time.monotonic_ns()
        wire.drain(self._response_fd)

    def _answer(self, ticket: Ticket) -> Answer:
        wire.fence()
        _, seq, _, t0_ns, status, t1_ns, t2_ns, _ = wire.header_values(self._memory, self._geometry.header(ticket.cell_no))
        failed = wire.state(self._memory, ticket.cell_no) == CellState.FAILED
        if seq != ticket.seq or (failed and status not in _FAILURES):  # another client writes where it must not
            raise error("WORKER_CRASH", f"cell {ticket.cell_no}", f"its header says request {seq}, status {status}")
        if failed:
            code, detail = _FAILURES[Status(status)]
            raise error(code, f"cell {ticket.cell_no}", detail)
        return Answer(self._by_index[ticket.cell_no].output, status == Status.OK, (t2_ns - t1_ns) / 1e3, (t1_ns - t0_ns) / 1e3)

    def _views(self, index: int) -> Cell:
        input_ = self._view(self._geometry.input(index), self.input_shape, self.input_dtype)
        return Cell(index, input_, self._view(self._geometry.output(index), self.output_shape, self.output_dtype))

    def _view(self, offset: int, shape: tuple[int, ...], dtype: Any) -> Array:
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(self._memory, dtype, count, offset).reshape(shape)


FAULTS_OF_A_MODEL = ("WORKER_MODEL", "WORKER_CRASH")  # no answer where another model may have one
_FAILURES = {
    Status.EXPIRED: ("ARENA_TIMEOUT", "the worker was free only after the deadline"),
    Status.RESTARTED: ("WORKER_CRASH", "the worker died while it computed this"),
    Status.BACKEND: ("WORKER_MODEL", "the backend refused this input"),
}


def models(socket_path: str, timeout_s: float = 5.0) -> list[dict[str, Any]]:
    """What the agent has loaded: name, number, digest, state, live, input, output of each. Raises LocalFaultError SETUP_NOT_RUNNING."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        answer, _ = _exchange(connection, socket_path, {"op": "list"}, timeout_s)
    found: list[dict[str, Any]] = answer["models"]
    return found


def _tensor(spec: Mapping[str, Any]) -> tuple[tuple[int, ...], Any]:
    return tuple(int(size) for size in spec["shape"]), np.dtype(DTYPES[spec["dtype"]])


def _ask(connection: socket.socket, path: str, request: dict[str, str], timeout_s: float) -> tuple[dict[str, Any], tuple[int, int, int]]:
    answer, descriptors = _exchange(connection, path, request, timeout_s)
    if len(descriptors) != 3:
        for descriptor in descriptors:
            os.close(descriptor)
        raise error("SETUP_NOT_RUNNING", "skerry-agent", f"{path}: {len(descriptors)} descriptors came instead of 3")
    connection.settimeout(None)
    return answer["route"], (descriptors[0], descriptors[1], descriptors[2])


def _exchange(connection: socket.socket, path: str, request: dict[str, str], timeout_s: float) -> tuple[dict[str, Any], list[int]]:
    """One line there, one line back, with the descriptors that came with it. Raises what the agent says, or SETUP_NOT_RUNNING."""
    connection.settimeout(timeout_s)
    try:
        connection.connect(path)
        connection.sendall(json.dumps(request).encode() + b"\n")
        line, descriptors = _receive(connection)
        answer: dict[str, Any] = json.loads(line)
    except (OSError, ValueError) as silent:
        raise error("SETUP_NOT_RUNNING", "skerry-agent", f"{path}: {silent}") from silent
    if "code" in answer:
        raise _refusal(answer)
    return answer, descriptors


def _receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """socket.recv_fds is not in 3.8."""
    received, descriptors = b"", array.array("i")
    while not received.endswith(b"\n") and len(received) <= MAX_ANSWER_BYTES:
        data, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(3 * descriptors.itemsize), socket.MSG_CMSG_CLOEXEC)
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
        if not data:
            break
        received += data
    return received, list(descriptors)


def _refusal(answer: Mapping[str, Any]) -> SkerryError:
    code = str(answer["code"])
    if code not in CODES:  # a newer agent's
        return error("ARENA_REQUEST", code, str(answer.get("detail", "")))
    return error(code, "", str(answer.get("detail", "")))
