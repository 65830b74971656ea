"""The model of a disk that loses its power: what it may lose, and what it may not."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.simulators.torn_disk import Change, Entry, File, Folder, TornDisk, fates_of


@pytest.fixture
def disk(tmp_path: Path) -> TornDisk:
    (tmp_path / "old").write_bytes(b"old")
    return TornDisk(tmp_path)


def left(disk: TornDisk) -> set[tuple[Entry, ...]]:
    return {tree.entries for tree in disk.trees(1000, random.Random(0))}


def file(disk: TornDisk, name: str) -> File:
    node = disk.at(f"{disk.root}/{name}")
    assert isinstance(node, File)
    return node


def folder(disk: TornDisk) -> Folder:
    node = disk.at(disk.root)
    assert isinstance(node, Folder)
    return node


def test_what_is_synced_stays(disk: TornDisk) -> None:
    assert left(disk) == {(("old", b"old"),)}


def test_a_write_that_is_not_synced_is_there_torn_zeros_or_missing(disk: TornDisk) -> None:
    file(disk, "old").change(Change(3, b"abcd"))
    assert left(disk) == {(("old", content),) for content in (b"old", b"oldab", b"old\0\0\0\0", b"oldabcd")}
    file(disk, "old").sync()
    assert left(disk) == {(("old", b"oldabcd"),)}


def test_a_synced_file_may_have_no_name_and_a_name_no_content(disk: TornDisk) -> None:
    new = File()
    disk.name({f"{disk.root}/new": new})
    new.change(Change(0, b"x"))
    assert (("new", b""), ("old", b"old")) in left(disk)
    new.sync()
    assert left(disk) == {(("old", b"old"),), (("new", b"x"), ("old", b"old"))}
    disk.sync_folder(folder(disk))
    assert left(disk) == {(("new", b"x"), ("old", b"old"))}


def test_names_are_lost_each_for_itself_but_a_name_keeps_its_order(disk: TornDisk) -> None:
    disk.name({f"{disk.root}/a": File()})
    disk.name({f"{disk.root}/b": File()})
    disk.name({f"{disk.root}/a": None, f"{disk.root}/c": disk.at(f"{disk.root}/a")})
    names = {tuple(path for path, _ in tree) for tree in left(disk)}
    assert names == {("old",), ("a", "old"), ("b", "old"), ("a", "b", "old"), ("c", "old"), ("b", "c", "old")}


def test_a_folders_sync_takes_with_it_what_a_rename_did_elsewhere(disk: TornDisk) -> None:
    away = Folder()
    disk.name({f"{disk.root}/away": away})
    disk.sync_folder(folder(disk))
    disk.name({f"{disk.root}/old": None, f"{disk.root}/away/old": disk.at(f"{disk.root}/old")})
    assert left(disk) == {(("away", None), ("old", b"old")), (("away", None), ("away/old", b"old"))}
    disk.sync_folder(away)
    assert left(disk) == {(("away", None), ("away/old", b"old"))}


def test_where_there_are_too_many_the_telling_ones_are_among_the_sample() -> None:
    few = list(fates_of([2, 2, 4], 16, random.Random(0)))
    assert len(set(few)) == 16
    some = list(fates_of([4] * 10, 64, random.Random(0)))
    assert {(0,) * 10, (3,) * 10, (*(3,) * 9, 0), (*(0,) * 9, 3)} <= set(some)
    assert len(some) == 64
