"""Power cuts of a recorded run: its system calls, made again on a disk that has not yet written everything.

Between two syncs a later instant can leave every tree that an earlier one can. So it is enough to cut before each sync and at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tests.simulators.syscalls import FOREIGN, Call, in_hex
from tests.simulators.torn_disk import Change, File, Folder, Link, Node, TornDisk


def cuts(disk: TornDisk, calls: Iterable[Call]) -> Iterator[int]:
    """Makes the calls on the disk; stops at each instant worth a cut, and gives the number of calls made until then."""
    replay, made = Replay(disk), 0
    for made, call in enumerate(calls):
        if replay.syncs(call) and disk.fates() > 1:
            yield made
        replay.make(call)
    yield made + 1


class Replay:
    """Each call of `syscalls.FOLLOWED`, by the method of its name."""

    def __init__(self, disk: TornDisk) -> None:
        self._disk = disk
        self._offsets: dict[str, int] = {}  # descriptor number -> where its next `write` goes

    def make(self, call: Call) -> None:
        getattr(self, f"_{call.name}", self._unknown)(call)

    def syncs(self, call: Call) -> bool:
        return call.name in ("fsync", "fdatasync") and self._ours(call.descriptor(0)[1])

    def _ours(self, path: str) -> bool:
        return path == self._disk.root or path.startswith(self._disk.root + "/")

    def _unknown(self, call: Call) -> None:
        assert call.name in FOREIGN, call
        assert not any(in_hex(self._disk.root) in argument for argument in call.args), f"the model of the disk does not know {call}"

    def _node(self, call: Call, index: int = 0) -> Node | None:
        path = call.descriptor(index)[1]
        return self._disk.at(path) if self._ours(path) else None

    # -- descriptors

    def _openat(self, call: Call) -> None:
        path, flags = call.path(0, 1), call.args[2].split("|")
        self._offsets[str(call.result)] = 0
        if not self._ours(path):
            return
        assert "O_APPEND" not in flags, path
        node = self._disk.at(path)
        if node is None:
            self._disk.name({path: File()})
        elif isinstance(node, File) and "O_TRUNC" in flags and node.live:
            node.change(Change(0, None))

    def _lseek(self, call: Call) -> None:
        self._offsets[call.descriptor(0)[0]] = call.result

    def _read(self, call: Call) -> None:
        self._offsets[call.descriptor(0)[0]] = self._offset(call) + call.result

    def _offset(self, call: Call) -> int:
        return self._offsets.get(call.descriptor(0)[0], 0)

    def _mmap(self, call: Call) -> None:
        """Only SQLite's index of its log is written through memory, and SQLite makes it anew when it opens a database alone."""
        path = call.descriptor(4)[1]
        if "MAP_SHARED" in call.args[3] and "PROT_WRITE" in call.args[2] and self._ours(path):
            assert path.endswith("-shm"), path

    # -- content

    def _write(self, call: Call) -> None:
        self._append(call, call.data(1)[: call.result])

    def _sendfile(self, call: Call) -> None:
        source = self._node(call, 1)
        start = int(call.args[2].strip("[]").partition("]")[0])
        self._append(call, bytes(source.live[start : start + call.result]) if isinstance(source, File) else b"")

    def _append(self, call: Call, data: bytes) -> None:
        offset = self._offset(call)
        self._offsets[call.descriptor(0)[0]] = offset + call.result
        self._change(call, Change(offset, data))

    def _pwrite64(self, call: Call) -> None:
        self._change(call, Change(call.number(3), call.data(1)[: call.result]))

    def _ftruncate(self, call: Call) -> None:
        self._change(call, Change(call.number(1), None))

    def _change(self, call: Call, change: Change) -> None:
        node = self._node(call)
        if isinstance(node, File) and (change.data or (change.data is None and change.offset != len(node.live))):
            node.change(change)
            if call.descriptor(0)[1].endswith("-shm"):
                node.sync()  # see _mmap: what it holds does not matter

    def _fsync(self, call: Call) -> None:
        node = self._node(call)
        if isinstance(node, File):
            node.sync()
        elif isinstance(node, Folder):
            self._disk.sync_folder(node)

    _fdatasync = _fsync

    # -- names

    def _mkdir(self, call: Call) -> None:
        self._name(call.path(None, 0), Folder())

    def _symlink(self, call: Call) -> None:
        self._name(call.path(None, 1), Link(call.text(0)))

    def _unlink(self, call: Call) -> None:
        self._name(call.path(None, 0), None)

    _rmdir = _unlink

    def _unlinkat(self, call: Call) -> None:
        self._name(call.path(0, 1), None)

    def _name(self, path: str, node: Node | None) -> None:
        if self._ours(path):
            self._disk.name({path: node})

    def _rename(self, call: Call) -> None:
        self._renamed(call.path(None, 0), call.path(None, 1))

    def _renameat2(self, call: Call) -> None:
        self._renamed(call.path(0, 1), call.path(2, 3), exchanged="RENAME_EXCHANGE" in call.args[4])

    def _renamed(self, old: str, new: str, *, exchanged: bool = False) -> None:
        if self._ours(old):
            self._disk.name({old: self._disk.at(new) if exchanged else None, new: self._disk.at(old)})
