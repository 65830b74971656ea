"""The system shared memory extension: pieces of /dev/shm that local clients registered by name.

They are read and written by pread and pwrite, never mapped: an owner who shortens a mapped file kills its readers by SIGBUS; here he
gets OIP_REGION. A region counts only when a user of the configured list owns the file.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from contracts.errors import error
from edge_agent.inference.oip.request import Part

SHM = Path("/dev/shm")  # noqa: S108  the place is the protocol's
MAX_REGIONS = 256
_KEY = re.compile(r"/?[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}")


class Region(NamedTuple):
    key: str
    offset: int
    byte_size: int
    descriptor: int


def check_no_device_region(name: str = "") -> None:
    """No memory of a GPU is shared: who asks for all of it, or unregisters all as programs do when they begin, is right.

    Raises RejectedError OIP_UNSUPPORTED for one of its regions.
    """
    if name:
        raise error("OIP_UNSUPPORTED", "CUDA shared memory", name[:64])


class Regions:
    def __init__(self, owners: Collection[int], root: Path = SHM) -> None:
        """`owners`: uids whose files may be registered; none switches the extension off."""
        self._owners, self._root = frozenset(owners), root
        self._regions: dict[str, Region] = {}

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Raises RejectedError OIP_REGION, OIP_REGION_OWNER."""
        if not name or name in self._regions or len(self._regions) >= MAX_REGIONS:
            raise error("OIP_REGION", name[:64], f"a new name, and at most {MAX_REGIONS} regions")
        descriptor = self._open(key)
        try:
            self._check_bounds(descriptor, name, offset, byte_size)
        except BaseException:
            os.close(descriptor)
            raise
        self._regions[name] = Region(key, offset, byte_size, descriptor)

    def unregister(self, name: str = "") -> None:
        """One, or all; nothing happens when it is not there."""
        for one in [name] if name else list(self._regions):
            region = self._regions.pop(one, None)
            if region is not None:
                os.close(region.descriptor)

    def status(self, name: str = "") -> list[dict[str, Any]]:
        """Raises RejectedError OIP_REGION_UNKNOWN."""
        if name:
            self._region(name)
        return [
            {"name": one, "key": region.key, "offset": region.offset, "byte_size": region.byte_size}
            for one, region in self._regions.items()
            if name in ("", one)
        ]

    def read(self, part: Part) -> bytearray:
        """Raises RejectedError OIP_REGION, OIP_REGION_UNKNOWN."""
        descriptor, offset = self._place(part)
        data = bytearray(part.byte_size)
        if os.preadv(descriptor, [data], offset) != part.byte_size:
            raise error("OIP_REGION", part.region, "the file is shorter than it was")
        return data

    def write(self, part: Part, data: bytes) -> None:
        """Raises RejectedError OIP_REGION, OIP_REGION_UNKNOWN."""
        if len(data) > part.byte_size:
            raise error("OIP_REGION", part.region, f"{part.byte_size} bytes, the output has {len(data)}")
        descriptor, offset = self._place(part)
        self._check_bounds(descriptor, part.region, offset, len(data))  # a write beyond the end would lengthen the file
        os.pwrite(descriptor, data, offset)

    def close(self) -> None:
        self.unregister()

    # -- inside

    def _place(self, part: Part) -> tuple[int, int]:
        region = self._region(part.region)
        if part.offset + part.byte_size > region.byte_size:
            raise error("OIP_REGION", part.region, f"it has {region.byte_size} bytes, not {part.offset + part.byte_size}")
        return region.descriptor, region.offset + part.offset

    def _region(self, name: str) -> Region:
        region = self._regions.get(name)
        if region is None:
            raise error("OIP_REGION_UNKNOWN", name[:64])
        return region

    def _open(self, key: str) -> int:
        if not self._owners:
            raise error("OIP_REGION_OWNER", key[:64], "no user is listed")
        if not _KEY.fullmatch(key):
            raise error("OIP_REGION", key[:64], "a key is the name of a file in /dev/shm")
        try:
            descriptor = os.open(self._root / key.lstrip("/"), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as absent:
            raise error("OIP_REGION", key, str(absent.strerror)) from absent
        seen = os.fstat(descriptor)
        if not stat.S_ISREG(seen.st_mode) or seen.st_uid not in self._owners:
            os.close(descriptor)
            raise error("OIP_REGION_OWNER", key, f"the file belongs to uid {seen.st_uid}")
        return descriptor

    @staticmethod
    def _check_bounds(descriptor: int, name: str, offset: int, byte_size: int) -> None:
        size = os.fstat(descriptor).st_size
        if offset < 0 or byte_size <= 0 or offset + byte_size > size:
            raise error("OIP_REGION", name[:64], f"bytes {offset} to {offset + byte_size} of a file of {size}")
