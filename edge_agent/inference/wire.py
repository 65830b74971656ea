"""The arena: shared memory between clients and one worker. Layout and words only; standard library, clean for Python 3.8.

    page 0          geometry (written once by the agent); the worker's words (pid, state, heartbeat, ...); one state byte for each cell
    then            one header of 64 bytes for each cell
    then            for each cell its input area, then its output area, both 4096-aligned

Cells are divided among *seats*, one client process per seat: so a cell has exactly two users, its client and the worker, and each state
has one owner who alone may leave it. No compare-and-set is needed, and a client that dies leaves only its own seat in disorder.

    FREE -> REQUESTED          client   (after input, seq, deadline and t0 are written)
    REQUESTED -> BUSY          worker   (t1: compute begins)
    BUSY -> DONE | FAILED      worker   (after output, t2: compute ends, t3: published; status says how)
    REQUESTED -> FAILED        worker   (deadline passed before it was taken up)
    DONE | FAILED -> FREE      client

A new worker on an old arena fails what it finds BUSY (its predecessor died of it) and serves what it finds REQUESTED.
A client that gives up a request sets its deadline to 0, so that the worker does not begin it, and takes the cell back when it is DONE or
FAILED. When a client hangs up, the agent does the same in its place: seats.py.
Wake-ups: an eventfd for requests (all seats), one for responses per seat; 8 bytes are read and written, since 3.8 has no os.eventfd.
A wake-up for which there is no request announces one.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any, NamedTuple

MAGIC = b"SKRARENA"
VERSION = 2
PAGE_BYTES = 4096

_GEOMETRY = struct.Struct("<8sIIIIQQQQ")  # magic, version, cells, seats, 0, cell_bytes, input_bytes, output_offset, output_bytes
_WORDS_OFFSET = 128  # the worker's cache lines, apart from the geometry's
_STATES_OFFSET = 1024  # side by side, so that one look of the worker sees all
MAX_CELLS = PAGE_BYTES - _STATES_OFFSET
_HEADER_BYTES = 64
_HEADER = struct.Struct("<QQQQQQQQ")  # priority, seq, deadline_ns, t0_ns by the client; status, t1_ns, t2_ns, t3_ns by the worker
_HALF = struct.Struct("<QQQQ")
_DEADLINE_OFFSET, RESULT_OFFSET = 16, 32
_BEAT = struct.Struct("<QQ")
_U64 = struct.Struct("<Q")
_BYTES = [bytes([value]) for value in range(256)]
_ONE = struct.pack("=Q", 1)  # eventfd counts in native order
_COUNTER = [bytearray(8)]  # read by nobody


class CellState(IntEnum):
    FREE = 0
    REQUESTED = 1
    BUSY = 2
    DONE = 3
    FAILED = 4


class Status(IntEnum):
    """What a DONE (OK, NOT_FINITE) or FAILED (the rest) cell holds."""

    OK = 0
    NOT_FINITE = 1  # the output is there, and holds NaN or infinity
    EXPIRED = 2  # taken up after its deadline: not computed
    RESTARTED = 3  # the worker died while it computed this
    BACKEND = 4  # the backend refused this input; the worker lives


class Priority(IntEnum):
    """What waits is taken up by priority, then by age. LOW is refused earlier when the queue fills: `queue_bound`."""

    HIGH = 0
    LOW = 1


class WorkerState(IntEnum):
    ABSENT = 0
    STARTING = 1
    READY = 2


class Word(IntEnum):
    """Index of a u64 that the worker writes: PID and STATE in the arena's header, for everybody; HEARTBEAT_NS, SERVED and STARTS in a page
    that clients do not have. CLOSED, in the arena, is the agent's.
    """

    PID = 0
    STATE = 1
    HEARTBEAT_NS = 2  # CLOCK_MONOTONIC of the last pass of its loop
    SERVED = 3  # answers since the arena was made, over all of its workers
    STARTS = 4
    CLOSED = 5  # 1: this worker takes no new requests, attach anew


class Header(NamedTuple):
    """A cell's header; times are CLOCK_MONOTONIC nanoseconds."""

    priority: int
    seq: int
    deadline_ns: int
    t0_ns: int
    status: int
    t1_ns: int
    t2_ns: int
    t3_ns: int


@dataclass(frozen=True)
class Geometry:
    """Where things lie, in bytes. `output_offset` counts from the start of a cell's areas, which begin with the input."""

    cells: int
    seats: int
    cell_bytes: int
    input_bytes: int
    output_offset: int
    output_bytes: int

    @classmethod
    def of(cls, input_bytes: int, output_bytes: int, seats: int, cells_per_seat: int) -> Geometry:
        """Raises ValueError for more cells than there are state bytes."""
        cells, output_offset = seats * cells_per_seat, _pages(input_bytes)
        if cells > MAX_CELLS:
            raise ValueError(f"{cells} cells: at most {MAX_CELLS}")
        return cls(
            cells=cells,
            seats=seats,
            cell_bytes=output_offset + _pages(output_bytes),
            input_bytes=input_bytes,
            output_offset=output_offset,
            output_bytes=output_bytes,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Geometry:
        """Unknown keys are tolerated: a newer agent may say more."""
        return cls(**{name: int(values[name]) for name in cls.__dataclass_fields__})

    def to_dict(self) -> dict[str, int]:
        return asdict(self)

    @property
    def total_bytes(self) -> int:
        return self.input(self.cells)

    def header(self, index: int) -> int:
        """Offset of a cell's header."""
        return PAGE_BYTES + index * _HEADER_BYTES

    def input(self, index: int) -> int:
        """Offset of a cell's input area."""
        return PAGE_BYTES + _pages(self.cells * _HEADER_BYTES) + index * self.cell_bytes

    def output(self, index: int) -> int:
        return self.input(index) + self.output_offset

    def seat(self, seat: int) -> range:
        """Indices of the cells of a seat."""
        share = self.cells // self.seats
        return range(seat * share, (seat + 1) * share)

    def seat_of(self, index: int) -> int:
        return index // (self.cells // self.seats)


def _pages(size_bytes: int) -> int:
    return -(-size_bytes // PAGE_BYTES) * PAGE_BYTES


def write_geometry(buffer: Any, geometry: Geometry) -> None:
    g = geometry
    _GEOMETRY.pack_into(buffer, 0, MAGIC, VERSION, g.cells, g.seats, 0, g.cell_bytes, g.input_bytes, g.output_offset, g.output_bytes)


def read_geometry(buffer: Any) -> Geometry:
    """Raises ValueError when this is no arena of this version."""
    magic, version, cells, seats, _, *sizes = _GEOMETRY.unpack_from(buffer, 0)
    if magic != MAGIC or version != VERSION:
        raise ValueError(f"not an arena of version {VERSION}")
    return Geometry(cells, seats, *sizes)


def word(buffer: Any, which: Word) -> int:
    return int(_U64.unpack_from(buffer, _WORDS_OFFSET + 8 * which)[0])


def beat(buffer: Any, now_ns: int, served: int) -> None:
    """Heartbeat and answers so far, which lie side by side."""
    _BEAT.pack_into(buffer, _WORDS_OFFSET + 8 * Word.HEARTBEAT_NS, now_ns, served)


def set_word(buffer: Any, which: Word, value: int) -> None:
    _U64.pack_into(buffer, _WORDS_OFFSET + 8 * which, value)


def read_header(buffer: Any, offset: int) -> Header:
    return Header._make(_HEADER.unpack_from(buffer, offset))


header_values = _HEADER.unpack_from  # the same without names, for what lies on the way of each request


def state(buffer: Any, index: int) -> int:
    return int(buffer[_STATES_OFFSET + index])


def count(buffer: Any, cells: int, value: int) -> int:
    """How many cells are in this state."""
    return int(buffer[_STATES_OFFSET : _STATES_OFFSET + cells].count(value))


def find(buffer: Any, cells: int, value: int) -> list[int]:
    """The cells in this state. `buffer` is a mmap or a bytearray, which look for themselves."""
    end, byte, found = _STATES_OFFSET + cells, _BYTES[value], []
    at = buffer.find(byte, _STATES_OFFSET, end)
    while at >= 0:
        found.append(at - _STATES_OFFSET)
        at = buffer.find(byte, at + 1, end)
    return found


def queue_bound(limit: int, priority: int) -> int:
    """How many requests may wait, over all seats, when one of this priority comes: LOW leaves half of the queue to HIGH."""
    return limit if priority == Priority.HIGH else (limit + 1) // 2


# A model that has run leaves the caches cold, where each step of Python costs microseconds: so these are methods of C, without a frame.
write_request = _HALF.pack_into  # (buffer, header's offset, priority, seq, deadline_ns, t0_ns)
write_result = _HALF.pack_into  # (buffer, header's offset + RESULT_OFFSET, status, t1_ns, t2_ns, t3_ns)


def deadline(buffer: Any, offset: int) -> int:
    return int(_U64.unpack_from(buffer, offset + _DEADLINE_OFFSET)[0])


def cancel(buffer: Any, offset: int) -> None:
    """The worker will not begin this request; one that it computes already goes on."""
    _U64.pack_into(buffer, offset + _DEADLINE_OFFSET, 0)


def signal(eventfd: int) -> None:
    """Wake who waits. A counter that another process has filled up wakes as well.

    Whether an eventfd blocks is written in its open file, which clients, worker and agent share: any of them may change it for all.
    """
    if os.get_blocking(eventfd):
        os.set_blocking(eventfd, False)
    try:  # noqa: SIM105  as in `drain`
        os.write(eventfd, _ONE)
    except BlockingIOError:
        pass


def drain(eventfd: int) -> None:
    """Reset the counter. Never waits, whatever the open file says (Linux 5.8)."""
    try:  # noqa: SIM105  on the way of each request, where a context manager costs more than the call
        os.preadv(eventfd, _COUNTER, -1, os.RWF_NOWAIT)
    except BlockingIOError:
        pass


_LIBC = ctypes.CDLL(None)
_MEMBARRIER = {"x86_64": 324, "aarch64": 283}
_MEMBARRIER_GLOBAL_EXPEDITED = 2


def membarrier() -> int:
    """A full memory fence of this thread, by a system call: Python has no other. 0, or -1 when the kernel has no such call."""
    return int(_LIBC.syscall(_MEMBARRIER[platform.machine()], _MEMBARRIER_GLOBAL_EXPEDITED, 0, 0))


def _nothing() -> int:
    return 0


def _set_state(buffer: Any, index: int, value: int) -> None:
    buffer[_STATES_OFFSET + index] = value


def _fence_and_set_state(buffer: Any, index: int, value: int) -> None:
    membarrier()
    _set_state(buffer, index, value)


# x86 keeps the order of stores and of loads by itself. ARM does not: a state could be seen before the bytes it announces.
fence: Callable[[], int] = membarrier if platform.machine() == "aarch64" else _nothing
# Publish: whoever sees the new state also sees what was written before it.
set_state: Callable[[Any, int, int], None] = _fence_and_set_state if platform.machine() == "aarch64" else _set_state
