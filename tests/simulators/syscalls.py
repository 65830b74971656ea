"""What a process did to its files, read from the kernel's border: a log of `strace`. Nothing can write past it unseen.

    86 pwrite64(7<\\x2f\\x61>, "\\x00\\x01", 2, 4096) = 2      one line a call; strings and paths in hex, so that commas are ours

A call that changes files in a way that the reader does not know raises: a recording is complete or there is none.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

# The calls that the model of a disk follows, and the calls that could go round it.
FOLLOWED = (
    "openat", "read", "lseek", "mmap", "write", "pwrite64", "sendfile", "ftruncate", "fsync", "fdatasync",
    "mkdir", "rmdir", "unlink", "unlinkat", "rename", "renameat2", "symlink",
)  # fmt: skip
FOREIGN = (
    "open", "creat", "openat2", "truncate", "mkdirat", "symlinkat", "renameat", "readv", "writev", "preadv", "preadv2", "pwritev",
    "pwritev2", "copy_file_range", "splice", "fallocate", "link", "linkat", "mknod", "mknodat", "io_uring_setup",
)  # fmt: skip
STRACE = (
    "strace", "-f", "--seccomp-bpf", "-qq", "-y", "-xx", "-s", "1000000",
    "-e", "signal=none", "-e", f"trace={','.join(FOLLOWED + FOREIGN)}",
)  # fmt: skip

_LINE = re.compile(r"(?P<pid>\d+) +(?:<\.\.\. )?(?P<name>\w+)(?:\(| resumed>)(?P<rest>.*)")
_CALL = re.compile(r"(?P<args>.*)\) += (?P<result>-?\d+|0x[0-9a-f]+)")
_DESCRIPTOR = re.compile(r"(?P<number>\d+|AT_FDCWD)<(?P<path>[^>]*)>(?P<deleted>\(deleted\))?")


@dataclass(frozen=True)
class Call:
    """A call that succeeded."""

    name: str
    args: tuple[str, ...]
    result: int

    def text(self, index: int) -> str:
        """A string argument: a path."""
        return self.data(index).decode()

    def data(self, index: int) -> bytes:
        quoted = self.args[index]
        assert quoted.endswith('"'), f"cut short in the log: {quoted[:80]}"
        return bytes.fromhex(quoted[1:-1].replace("\\x", ""))

    def number(self, index: int) -> int:
        return int(self.args[index], 0)

    def descriptor(self, index: int) -> tuple[str, str]:
        """(number, path that it names now); the path of a deleted file is empty."""
        return _descriptor(self.args[index])

    def path(self, folder: int | None, name: int) -> str:
        """The path that a call names, relative to the folder descriptor at index `folder` where it has one."""
        given = self.text(name)
        return given if given.startswith("/") or folder is None else f"{self.descriptor(folder)[1]}/{given}"


def in_hex(text: str) -> str:
    """As strace writes it."""
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def _descriptor(text: str) -> tuple[str, str]:
    found = _DESCRIPTOR.match(text)
    if not found:
        return text, ""
    path = bytes.fromhex(found["path"].replace("\\x", "")) if found["path"].startswith("\\x") else found["path"].encode()
    return found["number"], "" if found["deleted"] else path.decode()


def traceable(folder: Path) -> bool:
    """Whether this machine lets strace trace a process."""
    try:
        return subprocess.run([*STRACE, "-o", str(folder / "probe"), "true"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def read(lines: Iterable[str]) -> Iterator[Call]:
    """In the order in which the calls returned: a sync is one only then."""
    begun: dict[str, str] = {}
    for line in lines:
        found = _LINE.match(line)
        if not found:
            continue
        rest = begun.pop(found["pid"], "") + found["rest"] if "resumed>" in line else found["rest"]
        if rest.endswith("<unfinished ...>"):
            begun[found["pid"]] = rest.removesuffix("<unfinished ...>").rstrip()
            continue
        done = _CALL.match(rest)
        if done and (result := int(done["result"], 0)) >= 0:
            yield Call(found["name"], tuple(done["args"].split(", ")), result)
