"""The outbox: what it promises, what it refuses, with which code, and what it sheds."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from contracts.batch import MAX_BATCH_ROWS, BatchHeader
from contracts.canonical import CONTEXT_BATCH
from contracts.errors import SkerryError
from contracts.features import FRAME_COLUMNS, Column, FeatureSchema
from signatures.ed25519 import verify
from sync import codec
from sync.uplink.outbox import Outbox, read_ledger
from tests.simulators.row_path import (
    ACK_KEY,
    DEVICE,
    DEVICE_KEY,
    DIGEST,
    OTHER_DEVICE,
    SCHEMA,
    STRANGER_KEY,
    believe,
    open_outbox,
    rows,
    signed_ack,
)  # fmt: skip

BATCH_BYTES = 520  # of five rows, about


def headers(outbox: Outbox, stream: str) -> list[BatchHeader]:
    return [codec.parse(record.message).header for record in outbox.take(stream, 0, 1 << 20)]


def ack_all(outbox: Outbox, stream: str) -> int:
    entry = outbox.ledger()[stream]
    return believe(outbox, signed_ack({stream: (entry.accepted_seq, entry.running_hash)}))


def code_of(refused: Any, *arguments: Any) -> str:
    with pytest.raises(SkerryError) as refusal:
        refused(*arguments)
    return refusal.value.code


def test_numbers_are_dense_and_the_chain_holds(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "outbox.db")
    accepted = [outbox.accept("live", SCHEMA, DIGEST, rows(i * 5, 5)) for i in range(4)]
    assert [each.seq for each in accepted] == [1, 2, 3, 4]
    found = headers(outbox, accepted[0].stream)
    assert found[0].hash_before == bytes(32)
    assert [header.hash_before for header in found[1:]] == [header.hash_after for header in found[:-1]]
    entry = outbox.ledger()[accepted[0].stream]
    assert (entry.accepted_rows, entry.accepted_seq, entry.running_hash) == (20, 4, found[-1].hash_after.hex())
    outbox.close()


def test_an_accepted_batch_is_on_disk_before_accept_returns(tmp_path: Path) -> None:
    """Another connection sees it, the log is synced at each commit, and the epoch survives."""
    outbox = open_outbox(tmp_path / "outbox.db")
    accepted = outbox.accept("live", SCHEMA, DIGEST, rows(0, 5))
    assert read_ledger(tmp_path / "outbox.db")[accepted.stream].accepted_rows == 5
    with sqlite3.connect(tmp_path / "outbox.db") as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.close()
    assert outbox.durability() == ("wal", 2)  # 2 is FULL: one fsync per commit
    outbox.close()
    again = open_outbox(tmp_path / "outbox.db")
    assert again.streams() == [accepted.stream]
    assert again.accept("live", SCHEMA, DIGEST, rows(5, 5)).seq == 2
    again.close()


def test_a_new_outbox_or_another_device_is_a_new_epoch(tmp_path: Path) -> None:
    first, second = open_outbox(tmp_path / "1.db"), open_outbox(tmp_path / "2.db")
    assert first.streams() != second.streams()
    second.close()
    other = open_outbox(tmp_path / "2.db", device=OTHER_DEVICE)
    assert other.streams()[0].startswith(f"{OTHER_DEVICE}/live/")
    assert len(other.ledger()) == 2  # the old ledger is never deleted
    first.close()
    other.close()


@pytest.mark.parametrize(
    ("lane", "given", "code"),
    [
        ("live", [], "OUTBOX_SCHEMA"),
        ("live", [["x"] * 5], "OUTBOX_SCHEMA"),
        ("live", [[*rows(0, 1)[0], b"a raw frame"]], "OUTBOX_SCHEMA"),
        ("elsewhere", rows(0, 1), "OUTBOX_SCHEMA"),
        ("live", rows(0, MAX_BATCH_ROWS + 1), "OUTBOX_TOO_LARGE"),
    ],
)
def test_refusals_leave_nothing_behind(tmp_path: Path, lane: str, given: list[Any], code: str) -> None:
    outbox = open_outbox(tmp_path / "outbox.db")
    before = outbox.ledger()
    assert code_of(outbox.accept, lane, SCHEMA, DIGEST, given) == code
    assert outbox.ledger() == before
    outbox.close()


def test_a_batch_beyond_the_wire_limit_is_refused(tmp_path: Path) -> None:
    schema = FeatureSchema(family="big", columns=(*FRAME_COLUMNS, Column(name="blob", type="binary")))
    given = [[i, i, i, hashlib.shake_256(str(i).encode()).digest(400)] for i in range(900)]
    outbox = open_outbox(tmp_path / "outbox.db", {"live": 1 << 30})
    assert code_of(outbox.accept, "live", schema, DIGEST, given) == "OUTBOX_TOO_LARGE"
    outbox.close()


def test_shedding_makes_one_gap_that_carries_count_bytes_and_chain(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "outbox.db", {"live": 10 * BATCH_BYTES})
    for i in range(60):
        outbox.accept("live", SCHEMA, DIGEST, rows(i * 5, 5))
        assert next(iter(outbox.ledger().values())).pending_bytes <= 10 * BATCH_BYTES
    stream = outbox.streams()[0]
    gap, *kept = headers(outbox, stream)
    entry = outbox.ledger()[stream]
    assert (gap.kind, gap.seq, gap.reason) == ("gap", 1, "budget")
    assert gap.rows == entry.shed_rows == 5 * gap.last_seq
    assert gap.shed_bytes == entry.shed_bytes
    assert [gap.last_seq + 1 + i for i in range(len(kept))] == [header.seq for header in kept]
    assert gap.hash_before == bytes(32)
    assert gap.hash_after == kept[0].hash_before
    assert entry.accepted_rows == 300
    assert sum(header.rows for header in (gap, *kept)) == 300
    assert ack_all(outbox, stream) == 300
    assert outbox.ledger()[stream].pending_bytes == 0
    outbox.close()


def test_what_was_sent_is_never_shed(tmp_path: Path) -> None:
    """It may be in the lake already; a gap over it would count its rows twice."""
    outbox = open_outbox(tmp_path / "outbox.db", {"live": 10 * BATCH_BYTES})
    stream = outbox.streams()[0]
    for i in range(6):
        outbox.accept("live", SCHEMA, DIGEST, rows(i * 5, 5))
    sent = [record.message for record in outbox.take(stream, 0, 1 << 20)]
    for i in range(6, 40):
        outbox.accept("live", SCHEMA, DIGEST, rows(i * 5, 5))
    found = headers(outbox, stream)
    assert [record.message for record in outbox.take(stream, 0, 1 << 20)][:6] == sent
    assert [header.kind for header in found[:7]] == ["rows"] * 6 + ["gap"]
    assert code_of(outbox.accept, "live", SCHEMA, DIGEST, rows(0, 5)) == "OUTBOX_FULL"  # now all of it was sent
    assert ack_all(outbox, stream) == 200
    assert outbox.accept("live", SCHEMA, DIGEST, rows(0, 5)).seq == 41
    outbox.close()


def test_lanes_have_budgets_of_their_own(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "outbox.db", {"alert": 2 * BATCH_BYTES, "live": 10 * BATCH_BYTES})
    outbox.accept("alert", SCHEMA, DIGEST, rows(0, 5))
    for i in range(40):
        outbox.accept("live", SCHEMA, DIGEST, rows(i * 5, 5))
    alert, live = outbox.streams()
    assert (outbox.ledger()[alert].shed_rows, outbox.ledger()[live].shed_rows > 0) == (0, True)
    outbox.close()


def test_sent_is_durable_before_the_record_is_out(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "outbox.db")
    stream = outbox.accept("live", SCHEMA, DIGEST, rows(0, 5)).stream
    outbox.take(stream, 0, 1)
    assert read_ledger(tmp_path / "outbox.db")[stream].sent_seq == 1
    outbox.close()


def test_take_is_bounded_in_bytes_but_gives_at_least_one(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "outbox.db")
    for i in range(5):
        stream = outbox.accept("live", SCHEMA, DIGEST, rows(i * 5, 5)).stream
    assert [record.seq for record in outbox.take(stream, 0, 1)] == [1]
    assert [record.seq for record in outbox.take(stream, 1, 5 * BATCH_BYTES // 2)] == [2, 3]
    assert outbox.take(stream, 5, 1 << 20) == []
    outbox.close()


def test_a_renewed_key_signs_the_backlog_too(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "outbox.db")
    stream = outbox.accept("live", SCHEMA, DIGEST, rows(0, 5)).stream
    for key in (DEVICE_KEY, STRANGER_KEY):
        outbox.key = key
        frame = codec.parse(outbox.take(stream, 0, 1)[0].message)
        assert frame.header.key_id == key.key_id
        assert verify(key.public, CONTEXT_BATCH, frame.signed, frame.signature)
    outbox.close()


def refusal_cases(entry: Any) -> dict[str, bytes]:
    told = {entry.stream: (entry.sent_seq, entry.running_hash)}
    return {
        "ACK_SIGNATURE": signed_ack(told, STRANGER_KEY),
        "ACK_DEVICE": signed_ack(told, device=OTHER_DEVICE),
        "ACK_BEYOND_SENT": signed_ack({entry.stream: (entry.sent_seq + 1, entry.running_hash)}),
        "ACK_LEDGER_MISMATCH": signed_ack({entry.stream: (entry.sent_seq, "0" * 64)}),
    }


@pytest.mark.parametrize("code", ["ACK_SIGNATURE", "ACK_DEVICE", "ACK_BEYOND_SENT", "ACK_LEDGER_MISMATCH"])
def test_a_lying_ack_frees_nothing(tmp_path: Path, code: str) -> None:
    outbox = open_outbox(tmp_path / "outbox.db")
    stream = outbox.accept("live", SCHEMA, DIGEST, rows(0, 5)).stream
    outbox.take(stream, 0, 1)
    before = outbox.ledger()
    assert code_of(believe, outbox, refusal_cases(before[stream])[code]) == code
    assert outbox.ledger() == before
    outbox.close()


def test_an_ack_in_the_name_of_a_key_that_did_not_sign_it_frees_nothing(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "outbox.db")
    stream = outbox.accept("live", SCHEMA, DIGEST, rows(0, 5)).stream
    outbox.take(stream, 0, 1)
    entry = outbox.ledger()[stream]
    forged = signed_ack({stream: (entry.sent_seq, entry.running_hash)}, STRANGER_KEY, named=ACK_KEY)
    assert code_of(believe, outbox, forged) == "ACK_SIGNATURE"
    assert outbox.ledger()[stream] == entry
    outbox.close()


@pytest.mark.parametrize("message", [b"", b"{}", b"x" * 100, b"x" * 100_000])
def test_rubbish_is_no_ack(tmp_path: Path, message: bytes) -> None:
    outbox = open_outbox(tmp_path / "outbox.db")
    assert code_of(believe, outbox, message) == "ACK_SIGNATURE"
    outbox.close()


def test_a_lower_seq_and_an_unknown_stream_are_ignored(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "outbox.db")
    for i in range(3):
        stream = outbox.accept("live", SCHEMA, DIGEST, rows(i * 5, 5)).stream
    first = headers(outbox, stream)[0]
    assert ack_all(outbox, stream) == 15
    assert believe(outbox, signed_ack({stream: (1, first.hash_after.hex())})) == 0
    assert believe(outbox, signed_ack({stream: (1, "0" * 64)})) == 0
    assert believe(outbox, signed_ack({f"{DEVICE}/live/{'0' * 16}": (9, "0" * 64)})) == 0
    assert ack_all(outbox, stream) == 0
    assert outbox.ledger()[stream].acked_seq == 3
    outbox.close()


def test_an_ack_that_ends_inside_a_gap_is_a_lie(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "outbox.db", {"live": 4 * BATCH_BYTES})
    for i in range(20):
        outbox.accept("live", SCHEMA, DIGEST, rows(i * 5, 5))
    stream = outbox.streams()[0]
    gap = headers(outbox, stream)[0]
    assert code_of(believe, outbox, signed_ack({stream: (gap.last_seq - 1, gap.hash_after.hex())})) == "ACK_LEDGER_MISMATCH"
    outbox.close()


def test_one_lie_does_not_keep_the_honest_streams(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "outbox.db", {"alert": 1 << 20, "live": 1 << 20})
    alert, live = outbox.streams()
    for lane, stream in (("alert", alert), ("live", live)):
        outbox.accept(lane, SCHEMA, DIGEST, rows(0, 5))
        outbox.take(stream, 0, 1)
    told = {alert: (1, "0" * 64), live: (1, outbox.ledger()[live].running_hash)}
    assert code_of(believe, outbox, signed_ack(told)) == "ACK_LEDGER_MISMATCH"
    assert (outbox.ledger()[alert].acked_seq, outbox.ledger()[live].acked_seq) == (0, 1)
    outbox.close()


def test_a_disk_that_takes_no_writes_refuses_rows_and_keeps_what_it_has(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "outbox.db", disk_limit_bytes=64 * 1024)
    accepted = 0

    def fill() -> None:
        nonlocal accepted
        for i in range(1_000):
            outbox.accept("live", SCHEMA, DIGEST, rows(i * 50, 50))
            accepted += 50

    assert code_of(fill) == "OUTBOX_DISK"
    stream = outbox.streams()[0]
    assert outbox.ledger()[stream].accepted_rows == accepted > 0
    assert sum(header.rows for header in headers(outbox, stream)) == accepted
    outbox.close()


def test_a_file_of_another_form_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "outbox.db") as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    assert code_of(open_outbox, tmp_path / "outbox.db") == "OUTBOX_DISK"
    (tmp_path / "rubbish.db").write_bytes(b"rubbish" * 1000)
    assert code_of(open_outbox, tmp_path / "rubbish.db") == "OUTBOX_DISK"
    assert code_of(read_ledger, tmp_path / "absent.db") == "OUTBOX_DISK"


def test_many_threads_make_one_dense_stream(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "outbox.db")
    found: list[int] = []

    def work() -> None:
        found.extend(outbox.accept("live", SCHEMA, DIGEST, rows(0, 5)).seq for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(1, 81))
    outbox.take(outbox.streams()[0], 0, 1 << 20)
    assert ack_all(outbox, outbox.streams()[0]) == 400
    outbox.close()
