"""A disk that has not yet written everything: what a power cut may leave of a folder.

It promises no more than POSIX does:
- A change to a file's content is on the disk when an fsync of that file has returned. Until then it may be there, be missing, be
  torn in the middle, or have left only its length, filled with zeros; each change for itself, whatever was done before or after.
- A name (made, renamed, exchanged, removed) is on the disk when an fsync of its folder has returned. Until then it may have happened
  or not, each for itself; only steps on one and the same name keep their order, and a rename is one step, in both folders.
So a file may be whole and have no name, and a name may stand for a file of which nothing came.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LOST, TORN, ZEROS, KEPT = 0, 1, 2, 3  # what may become of a change to a content; a name knows the first and the last
Entry = tuple[str, "bytes | str | None"]  # path, and a file's content, a link's target or None for a folder


@dataclass(frozen=True, eq=False)
class Change:
    """Bytes at an offset, or (`data` None) a new length."""

    offset: int
    data: bytes | None

    def apply(self, content: bytearray, fate: int = KEPT) -> None:
        if fate == LOST:
            return
        if self.data is None:
            _set_length(content, self.offset)
        elif fate == ZEROS:  # never over what was there
            _set_length(content, max(len(content), self.offset + len(self.data)))
        else:
            data = self.data if fate == KEPT else self.data[: (len(self.data) + 1) // 2]
            _set_length(content, max(len(content), self.offset))
            content[self.offset : self.offset + len(data)] = data


def _set_length(content: bytearray, length: int) -> None:
    del content[length:]
    content.extend(bytes(length - len(content)))


@dataclass(eq=False)
class File:
    durable: bytes = b""
    live: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)

    def change(self, change: Change) -> None:
        change.apply(self.live)
        self.pending.append(change)

    def sync(self) -> None:
        self.durable, self.pending = bytes(self.live), []

    def content(self, fates: dict[Change, int]) -> bytes:
        if not self.pending:
            return self.durable
        content = bytearray(self.durable)
        for change in self.pending:
            change.apply(content, fates[change])
        return bytes(content)


@dataclass(frozen=True, eq=False)
class Link:
    target: str


@dataclass(eq=False)
class Folder:
    durable: dict[str, Node] = field(default_factory=dict)
    live: dict[str, Node] = field(default_factory=dict)


Node = File | Folder | Link
Names = dict[Folder, dict[str, Node]]


@dataclass(eq=False)
class Naming:
    """One step that changes what names stand for: a creation is one name, a rename two. None: nothing any more."""

    names: dict[tuple[Folder, str], Node | None]
    after: list[Naming]  # steps not yet synced on the same names

    def apply(self, entries: Names) -> None:
        for (folder, name), node in self.names.items():
            there = entries.setdefault(folder, dict(folder.durable))
            there.pop(name, None)
            if node is not None:
                there[name] = node


@dataclass(frozen=True)
class Tree:
    """What a reader finds after the power is back."""

    entries: tuple[Entry, ...]

    def digest(self) -> str:
        digest = hashlib.sha256()
        for path, what in self.entries:
            digest.update(f"{path}\0{type(what).__name__}\0".encode())
            digest.update(what if isinstance(what, bytes) else str(what).encode())
        return digest.hexdigest()

    def build(self, root: Path) -> None:
        for path, what in self.entries:
            if what is None:
                (root / path).mkdir()
            elif isinstance(what, str):
                (root / path).symlink_to(what)
            else:
                (root / path).write_bytes(what)


class TornDisk:
    def __init__(self, root: Path) -> None:
        """What lies there now is on the disk already."""
        self.root = str(root.resolve())
        self._top = _read_folder(root)
        self._namings: list[Naming] = []  # not yet synced, oldest first

    # -- what happens to it

    def at(self, path: str) -> Node | None:
        node: Node | None = self._top
        for name in Path(path).relative_to(self.root).parts:
            node = node.live.get(name) if isinstance(node, Folder) else None
        return node

    def name(self, names: dict[str, Node | None]) -> None:
        """In one step each of these paths stands for that node, or for nothing."""
        places = {self._place(path): node for path, node in names.items()}
        after = [earlier for earlier in self._namings if earlier.names.keys() & places.keys()]
        self._namings.append(Naming(places, after))
        for (folder, name), node in places.items():
            folder.live.pop(name, None)
            if node is not None:
                folder.live[name] = node

    def _place(self, path: str) -> tuple[Folder, str]:
        folder = self.at(str(Path(path).parent))
        assert isinstance(folder, Folder), path
        return folder, Path(path).name

    def sync_folder(self, folder: Folder) -> None:
        """All steps on its names are on the disk, and those that they stand on."""
        synced = {naming for naming in self._namings if any(place[0] is folder for place in naming.names)}
        while before := {earlier for naming in synced for earlier in naming.after} - synced:
            synced |= before
        entries: Names = {}
        for naming in (one for one in self._namings if one in synced):
            naming.apply(entries)
        for changed, names in entries.items():
            changed.durable = names
        self._namings = [one for one in self._namings if one not in synced]
        for naming in self._namings:
            naming.after = [one for one in naming.after if one not in synced]

    # -- what a power cut leaves

    def now(self) -> Tree:
        """What a reader sees while the power is on: everything has happened."""
        return Tree(tuple(_walk(self._top, {}, None)))

    def trees(self, limit: int, chance: random.Random) -> Iterator[Tree]:
        """Every tree that may be left; where more than `limit` fates are possible, the telling ones and a random sample."""
        changes, seen = self._changes(), set()
        for fates in fates_of(self._widths(), limit, chance):
            tree = self._tree(dict(zip(changes, fates)), fates[len(changes) :])
            if (digest := tree.digest()) not in seen:
                seen.add(digest)
                yield tree

    def fates(self) -> int:
        """How many there are; 1: everything is synced."""
        return math.prod(self._widths())

    def _changes(self) -> list[Change]:
        return [change for file in self._files(self._top, set()) for change in file.pending]

    def _widths(self) -> list[int]:
        return [4 if change.data else 2 for change in self._changes()] + [2] * len(self._namings)

    def _tree(self, changes: dict[Change, int], named: Sequence[int]) -> Tree:
        entries: Names = {}
        kept: set[Naming] = set()
        for naming, fate in zip(self._namings, named):
            if fate and kept.issuperset(naming.after):
                naming.apply(entries)
                kept.add(naming)
        return Tree(tuple(_walk(self._top, changes, entries)))

    def _files(self, folder: Folder, seen: set[int]) -> Iterator[File]:
        """Each once, whether its name is old, new, or only on the way."""
        on_the_way = (node for naming in self._namings for node in naming.names.values() if node is not None)
        for node in (*folder.live.values(), *folder.durable.values(), *on_the_way):
            if id(node) not in seen:
                seen.add(id(node))
                if isinstance(node, File):
                    yield node
                elif isinstance(node, Folder):
                    yield from self._files(node, seen)


def fates_of(widths: Sequence[int], limit: int, chance: random.Random) -> Iterator[tuple[int, ...]]:
    """One number below each width. All there are; or the telling ones (everything, nothing, all but one, one alone) and a sample."""
    if math.prod(widths) <= limit:
        yield from itertools.product(*map(range, widths))
        return
    telling = list(itertools.islice(_telling(widths), limit // 2))
    yield from telling
    for _ in range(limit - len(telling)):
        yield tuple(chance.randrange(width) for width in widths)


def _telling(widths: Sequence[int]) -> Iterator[tuple[int, ...]]:
    everything, nothing = tuple(width - 1 for width in widths), (0,) * len(widths)
    yield from (everything, nothing)
    for index in reversed(range(len(widths))):
        yield (*everything[:index], 0, *everything[index + 1 :])
        yield (*nothing[:index], widths[index] - 1, *nothing[index + 1 :])


def _read_folder(path: Path) -> Folder:
    nodes: dict[str, Node] = {}
    for child in sorted(path.iterdir()):
        if child.is_symlink():
            nodes[child.name] = Link(str(child.readlink()))
        elif child.is_dir():
            nodes[child.name] = _read_folder(child)
        else:
            content = child.read_bytes()
            nodes[child.name] = File(content, bytearray(content))
    return Folder(nodes, dict(nodes))


def read_tree(root: Path) -> Tree:
    return Tree(tuple(_walk(_read_folder(root), {}, None)))


def _walk(folder: Folder, changes: dict[Change, int], entries: Names | None, above: str = "") -> Iterator[Entry]:
    """`entries`: names of folders where they differ from what is on the disk; None: everything as a reader sees it now."""
    names = folder.live if entries is None else entries.get(folder, folder.durable)
    for name, node in sorted(names.items()):
        path = f"{above}{name}"
        if isinstance(node, Folder):
            yield path, None
            yield from _walk(node, changes, entries, path + "/")
        elif isinstance(node, Link):
            yield path, node.target
        else:
            yield path, bytes(node.live) if entries is None else node.content(changes)
