"""System shared memory: whose files, which bytes of them, and what happens when they change underneath."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import SkerryError
from edge_agent.inference.oip.regions import MAX_REGIONS, Regions
from edge_agent.inference.oip.request import Part

ME = os.getuid()


@pytest.fixture
def regions(tmp_path: Path) -> Any:
    (tmp_path / "file").write_bytes(bytes(range(16)))
    made = Regions([ME], tmp_path)
    yield made
    made.close()


def refused(call: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(SkerryError) as caught:
        call(*arguments)
    return caught.value.code


def test_a_piece_is_read_and_written(regions: Regions, tmp_path: Path) -> None:
    regions.register("r", "/file", 4, 8)
    assert regions.read(Part("r", 2, 3)) == bytes([6, 7, 8])
    regions.write(Part("r", 0, 4), b"ab")
    assert (tmp_path / "file").read_bytes()[3:7] == b"\x03ab\x06"
    assert regions.status("r") == [{"name": "r", "key": "/file", "offset": 4, "byte_size": 8}]


def test_nothing_outside_of_the_region_is_touched(regions: Regions) -> None:
    regions.register("r", "file", 4, 8)
    for part in (Part("r", 8, 1), Part("r", 0, 9), Part("r", 1 << 60, 1)):
        assert refused(regions.read, part) == "OIP_REGION"
        assert refused(regions.write, part, b"x") == "OIP_REGION"
    assert refused(regions.write, Part("r", 0, 2), b"abc") == "OIP_REGION"
    assert refused(regions.read, Part("s", 0, 1)) == "OIP_REGION_UNKNOWN"


@pytest.mark.parametrize(("offset", "size"), [(0, 17), (16, 1), (0, 0), (1 << 63, 4)])
def test_a_region_lies_within_its_file(regions: Regions, offset: int, size: int) -> None:
    assert refused(regions.register, "r", "file", offset, size) == "OIP_REGION"


@pytest.mark.parametrize("key", ["", "/", "..", "../file", "a/b", ".hidden", "file\0", "absent", "x" * 300])
def test_a_key_is_the_name_of_a_file(regions: Regions, key: str) -> None:
    assert refused(regions.register, "r", key, 0, 4) == "OIP_REGION"


def test_only_regular_files_of_listed_owners_count(regions: Regions, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    os.symlink(tmp_path / "file", tmp_path / "link")
    assert refused(regions.register, "r", "fifo", 0, 4) == "OIP_REGION_OWNER"
    assert refused(regions.register, "r", "link", 0, 4) == "OIP_REGION"
    assert refused(Regions([ME + 1], tmp_path).register, "r", "file", 0, 4) == "OIP_REGION_OWNER"
    assert refused(Regions([], tmp_path).register, "r", "file", 0, 4) == "OIP_REGION_OWNER"


def test_a_file_that_is_shortened_is_an_error_and_no_signal(regions: Regions, tmp_path: Path) -> None:
    regions.register("r", "file", 0, 16)
    os.truncate(tmp_path / "file", 8)
    assert refused(regions.read, Part("r", 4, 8)) == "OIP_REGION"
    assert refused(regions.write, Part("r", 4, 8), b"12345678") == "OIP_REGION"
    assert (tmp_path / "file").stat().st_size == 8


def test_names_are_taken_once_and_given_back(regions: Regions) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number in range(MAX_REGIONS):
        regions.register(str(number), "file", 0, 16)
    assert refused(regions.register, "one more", "file", 0, 16) == "OIP_REGION"
    regions.unregister("7")
    assert refused(regions.status, "7") == "OIP_REGION_UNKNOWN"
    regions.register("7", "file", 0, 16)
    regions.unregister("7")
    assert refused(regions.register, "8", "file", 0, 16) == "OIP_REGION"
    regions.unregister()
    regions.unregister("7")
    assert regions.status() == []
    assert len(os.listdir("/proc/self/fd")) == before
