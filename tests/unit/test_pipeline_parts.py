"""Framing, outgoing rows, windows and counters of the pipeline."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.batch import MAX_BATCH_BYTES
from contracts.pipeline import MAX_MESSAGE_BYTES, MAX_ROW_BYTES
from edge_agent.pipeline.agent_stream import AgentStream
from edge_agent.pipeline.counters import Count, Counters, open_file
from edge_agent.pipeline.framing import Unpacker, pack
from edge_agent.pipeline.outgoing import Origin, Outgoing
from edge_agent.pipeline.sources import FrameError, open_source
from edge_agent.pipeline.trouble import Trouble
from edge_agent.pipeline.windows import Window
from processing import latency
from processing.answers import MAX_LISTED
from processing.windows import MAX_FEATURES
from program.log import Log

ORIGIN, OTHER = Origin("live", "s", "a"), Origin("live", "s", "b")


@given(st.lists(st.integers(0, 300), max_size=5), st.integers(1, 50))
def test_messages_survive_any_cutting(sizes: list[int], piece: int) -> None:
    messages: list[dict[str, Any]] = [{"kind": "rows", "data": b"x" * size} for size in sizes]
    stream, unpacker = b"".join(map(pack, messages)), Unpacker()
    pieces = [stream[i : i + piece] for i in range(0, len(stream), piece)]
    assert [message for part in pieces for message in unpacker.feed(part)] == messages


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\x01\0\0\0\x05", b"\x01\0\0\0\x80"])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"message|kind"):
        Unpacker().feed(data)


def test_a_message_over_the_limit_is_not_sent() -> None:
    with pytest.raises(ValueError, match="bytes"):
        pack({"kind": "rows", "data": b"x" * MAX_MESSAGE_BYTES})


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("row"), st.sampled_from([ORIGIN, OTHER])),
        st.tuples(st.just("ask"), st.none()),
        st.tuples(st.just("accept"), st.none()),
        st.tuples(st.just("refuse"), st.integers(0, 2000)),
        st.tuples(st.just("wait"), st.floats(0, 3)),
    ),
    max_size=60,
)


@given(EVENTS)
def test_every_row_is_accepted_refused_or_pending_and_leaves_once(events: list[tuple[str, Any]]) -> None:
    outgoing, now, added, refused, sent, outstanding, settled = Outgoing(3, 12, 1.0), 0.0, 0, 0, [], 0, 0
    for event, value in events:
        if event == "row":
            kept = outgoing.add(value, [added + refused], now) == ""
            added, refused = added + kept, refused + (not kept)
        elif event == "wait":
            now += value
        elif event == "ask":
            request = outgoing.next_request(now)
            assert request is None or outstanding == 0
            if request is not None:
                outstanding = request["request_no"]
                sent += [row[0] for row in request["rows"]]
                assert 1 <= len(request["rows"]) <= 3
        elif outstanding:
            answer = {"request_no": outstanding} if event == "accept" else {"request_no": outstanding, "code": "X", "retry_after_ms": value}
            outcome = outgoing.answered(answer, now)
            outstanding = 0
            assert bool(outcome.accepted) is (event == "accept")
            settled += outcome.accepted + outcome.refused
        assert added == settled + outgoing.pending()
        assert outgoing.pending() <= 12
    assert sent == sorted(set(sent))


def test_a_batch_is_of_one_origin_and_leaves_when_full_or_old() -> None:
    outgoing = Outgoing(batch_rows=3)
    outgoing.add(ORIGIN, [1], 0.0)
    assert outgoing.next_request(0.5) is None
    assert outgoing.due_s() == 1.0
    outgoing.add(OTHER, [2], 0.6)
    first = outgoing.next_request(0.6)
    assert first is not None
    assert (first["bundle_digest"], first["rows"]) == ("a", [[1]])
    assert (outgoing.pending(), outgoing.unsent()) == (2, 1)
    outgoing.answered({"request_no": first["request_no"]}, 0.7)
    assert outgoing.next_request(0.7) is None
    old = outgoing.next_request(1.6)
    assert old is not None
    assert old["bundle_digest"] == "b"


@given(st.lists(st.one_of(st.integers(0, 60_000), st.integers(0, MAX_ROW_BYTES + 10)), max_size=14))
def test_whatever_rows_weigh_they_leave_in_requests_that_are_messages(sizes: list[int]) -> None:
    outgoing, left = Outgoing(), []
    codes = [outgoing.add(ORIGIN, [number, bytes(size)], 0.0) for number, size in enumerate(sizes)]
    assert set(codes) <= {"", "QUEUE_TOO_LARGE"}
    outgoing.cut()
    while (request := outgoing.next_request(0.0)) is not None:
        assert len(pack(request)) < MAX_BATCH_BYTES or len(request["rows"]) == 1, "or the outbox refuses all of them"
        left += [number for number, _ in request["rows"]]
        outgoing.answered({"request_no": request["request_no"]}, 0.0)
    assert left == [number for number, code in enumerate(codes) if not code]


def test_a_row_is_refused_when_it_fits_no_message_and_queued_rows_when_they_fill_the_memory() -> None:
    outgoing, large = Outgoing(), bytes(MAX_ROW_BYTES - 10)
    assert outgoing.add(ORIGIN, [large + bytes(20)], 0.0) == "QUEUE_TOO_LARGE"
    codes = [outgoing.add(ORIGIN, [large], 0.0) for _ in range(17)]
    assert codes == [*[""] * 16, "QUEUE_FULL"]
    assert outgoing.next_request(0.0) is not None
    assert outgoing.add(ORIGIN, [large], 0.0) == "QUEUE_FULL", "what is on its way is still here"
    outgoing.answered({"request_no": 1}, 0.0)
    assert outgoing.add(ORIGIN, [large], 0.0) == ""


def test_the_largest_row_that_a_bundle_can_declare_fits_a_message() -> None:
    box = ["c" * 32, 0.1234, *[-12345678.1234] * 4]  # a frame has at most 33 million pixels
    boxes = json.dumps([box] * MAX_LISTED, separators=(",", ":"))
    assert len(pack({"kind": "rows", "rows": [[0.1] * 7 + [boxes] * MAX_FEATURES]})) < MAX_ROW_BYTES


def test_after_a_refusal_nothing_is_sent_until_the_named_time() -> None:
    outgoing = Outgoing(batch_rows=1)
    outgoing.add(ORIGIN, [1], 0.0)
    outgoing.add(ORIGIN, [2], 0.0)
    request = outgoing.next_request(0.0)
    assert request is not None
    assert outgoing.answered({"request_no": 1, "code": "OUTBOX_FULL", "retry_after_ms": 500}, 0.0).refused == 1
    assert outgoing.next_request(0.4) is None
    assert outgoing.due_s() == 0.5
    again = outgoing.next_request(0.5)
    assert again is not None
    assert again["rows"] == [[2]]


def test_an_answer_that_was_not_asked_for_is_a_bug() -> None:
    with pytest.raises(ValueError, match="not outstanding"):
        Outgoing().answered({"request_no": 1}, 0.0)


def test_a_window_tells_deltas() -> None:
    window = Window(10.0, "live", "shadow")
    assert window.empty()
    window.frames += 3
    window.answered(100)
    window.shadow_answered(1000)
    window.pair(True, 0.25)
    window.pair(False, -0.75)
    window.pair(True, None)
    window.refuse("ARENA_TIMEOUT", 2)
    message = window.message(11.0, 42, {"frames_total": 3})
    assert (message["duration_s"], message["frames"], message["refused"], message["cpu_us"]) == (1.0, 3, 2, 42)
    assert (message["pairs"], message["agreed"], message["refusals"]) == (3, 2, {"ARENA_TIMEOUT": 2})
    assert message["score_shift"] == [2, -0.25, 0.5]
    assert message["latency"][latency.bucket(100)] == sum(message["latency"]) == 1
    assert message["shadow_latency"][latency.bucket(1000)] == 1


def test_a_window_is_not_empty_when_only_the_shadow_answered() -> None:
    window = Window(10.0, "live", "shadow")
    window.shadow_answered(1000)
    assert not window.empty()


def test_a_window_is_not_empty_when_only_a_row_of_feature_windows_was_refused() -> None:
    window = Window(10.0, "live")
    window.window_rows_refused += 2
    message = window.message(11.0, 0, {})
    assert (window.empty(), message["window_rows_refused"], message["refused"]) == (False, 2, 0)


def test_counters_outlive_their_users(tmp_path: Path) -> None:
    path = tmp_path / "run" / "pipeline.counters"
    descriptor, new = open_file(path)
    first = Counters(descriptor)
    assert new
    assert [first.add(Count.FRAMES, 5), first.add(Count.ACCEPTED, 2), first.add(Count.REFUSED)] == [0, 0, 0]
    first.close()
    os.close(descriptor)
    descriptor, new = open_file(path)
    second = Counters(descriptor)
    assert not new
    assert (second.get(Count.FRAMES), second.pending()) == (5, 2)
    second.close()
    os.close(descriptor)


def test_another_file_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.counters"
    path.write_bytes(b"something else")
    descriptor, new = open_file(path)
    counters = Counters(descriptor)
    assert (new, counters.pending()) == (True, 0)
    counters.close()
    os.close(descriptor)


def test_the_folder_goes_round_and_tells_broken_frames(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("L", (4, 4), 9).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    source = open_source({"kind": "folder", "path": str(tmp_path)})
    assert source.take(0).shape == (4, 4)
    with pytest.raises(FrameError):
        source.take(1)
    assert source.take(6)[0, 0] == 9


def test_a_folder_may_be_filled_anew_and_what_is_no_file_is_no_picture(tmp_path: Path) -> None:
    from PIL import Image

    os.mkfifo(tmp_path / "0.png")
    Image.new("L", (4, 4), 9).save(tmp_path / "a.png")
    source = open_source({"kind": "folder", "path": str(tmp_path)})
    assert [source.take(number)[0, 0] for number in range(2)] == [9, 9]
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    assert source.take(2)[0, 0] == 9
    (tmp_path / "b.png").unlink()
    with pytest.raises(FrameError, match=r"no \*\.png frame"):
        source.take(3)


def test_a_folder_that_nobody_can_look_into_is_a_reason(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="too long"):
        open_source({"kind": "folder", "path": str(tmp_path / ("x" * 300))}).take(0)


def test_each_reason_for_missing_frames_is_said_once_and_not_without_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "skerry.pipeline")
    trouble = Trouble(Log("pipeline"))
    for reason in ("no frame yet", "no frame yet", "no such host", "no such host", "a", "b", "c"):
        trouble.met("FRAME_SOURCE", reason, 7)
    trouble.over("FRAME_SOURCE", 8)
    trouble.over("FRAME_SOURCE", 9)
    trouble.met("FRAME_SOURCE", "no such host", 10)
    told = [record.__dict__["skerry_fields"].get("detail", record.getMessage()) for record in caplog.records]
    assert told == ["no frame yet", "no such host", "a", "frames_come_again", "no such host"]


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"kind": "abacus"}, "unknown kind of source abacus; known: folder, video, camera, topic"),
        ({}, "unknown kind of source None"),
        ({"kind": "folder", "path": "/nonexistent"}, "/nonexistent is no folder"),
    ],
)
def test_a_source_that_has_nothing_says_why_for_each_frame(values: dict[str, str], why: str) -> None:
    source = open_source(values)
    for frame_no in range(2):
        with pytest.raises(FrameError, match=why):
            source.take(frame_no)


def test_a_folder_may_fill_later(tmp_path: Path) -> None:
    from PIL import Image

    source = open_source({"kind": "folder", "path": str(tmp_path)})
    with pytest.raises(FrameError):
        source.take(0)
    Image.new("L", (4, 4), 9).save(tmp_path / "a.png")
    assert source.take(1)[0, 0] == 9


def test_a_message_larger_than_the_socket_takes_goes_piece_by_piece_and_sending_never_waits() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        sender, taker, until_s = AgentStream(ours), AgentStream(theirs), time.monotonic() + 10.0
        sent = [{"kind": "rows", "rows": [bytes(MAX_ROW_BYTES - 100)]} for _ in range(3)]
        for message in sent:
            sender.send(message)
        came: list[dict[str, Any]] = []
        while len(came) < len(sent) and time.monotonic() < until_s:
            came += taker.messages(until_s)
            sender.messages(0.0)
        assert (came == sent, taker.gone) == (True, False)
        ours.close()
        assert (taker.messages(until_s), taker.gone) == ([], True)
        taker.send({"kind": "hello"})
        assert taker.gone, "nobody is there, and that is no error"
