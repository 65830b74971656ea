"""One suite for every kind of source: pictures of a form, never a wait, a reason for each frame that cannot be had."""

from __future__ import annotations

import contextlib
import io
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import wave
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from edge_agent.config import AgentConfig, SourceConfig
from edge_agent.pipeline.sources import FrameError, Source, open_source
from edge_agent.pipeline.sources.newest import Newest
from edge_agent.pipeline.sources.picture import decoded
from program.config import load
from tests.simulators import rtsp_camera
from tests.simulators.mjpeg_camera import SIZE, MjpegCamera
from tests.simulators.picture_publisher import PicturePublisher
from tests.simulators.rtsp_camera import RtspCamera

DEADLINE_S = 15.0
LEVELS = (20, 120, 220)
NO_TOPICS = (
    "mqtt://host", "http://host/x", "mqtt://:1883/x", "mqtt://host:abc/x", "mqtt://host:99999/x", "mqtt://host:0/x", "mqtt://me@host/x",
    "mqtt://host/a/#", "mqtt://host/a?x",
)  # fmt: skip


def write_video(path: Path) -> None:
    """Three grey pictures."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for level in LEVELS:
            picture = np.full((SIZE[1], SIZE[0], 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture
def camera() -> Iterator[MjpegCamera]:
    camera = MjpegCamera()
    yield camera
    camera.close()


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[PicturePublisher]:
    publisher = PicturePublisher(tmp_path)
    yield publisher
    publisher.close()


@pytest.fixture
def rtsp() -> Iterator[RtspCamera]:
    camera = RtspCamera()
    yield camera
    camera.close()


@pytest.fixture(params=["folder", "video", "camera", "rtsp", "topic"])
def values(request: pytest.FixtureRequest, tmp_path: Path, camera: MjpegCamera, publisher: PicturePublisher) -> Mapping[str, Any]:
    """What the agent hands to the pipeline for a source that works."""
    if request.param == "folder":
        Image.new("L", SIZE, 7).save(tmp_path / "a.png")
        return SourceConfig(path=tmp_path).model_dump(mode="json")
    if request.param == "video":
        write_video(tmp_path / "belt.mp4")
        return SourceConfig(kind="video", path=tmp_path / "belt.mp4").model_dump(mode="json")
    if request.param == "topic":
        publisher.start()
        return SourceConfig(kind="topic", url=publisher.url, silence_s=1).model_dump(mode="json")
    if request.param == "rtsp":
        return SourceConfig(kind="camera", url=request.getfixturevalue("rtsp").url, silence_s=5).model_dump(mode="json")
    return SourceConfig(kind="camera", url=camera.url, silence_s=0.5).model_dump(mode="json")


@pytest.fixture
def source(values: Mapping[str, Any]) -> Iterator[Source]:
    opened = open_source(values)
    yield opened
    opened.close()


def taken(source: Source) -> tuple[Any, str]:
    """(frame, "") or (None, why)"""
    try:
        return source.take(0), ""
    except FrameError as missing:
        return None, str(missing)


def until(source: Source, fits: Callable[[Any, str], bool]) -> tuple[Any, str]:
    """The first answer that fits: it is asked as a pipeline would, every few milliseconds."""
    end, pause = time.monotonic() + DEADLINE_S, threading.Event()
    while not fits(*(answer := taken(source))):
        assert time.monotonic() < end, answer
        pause.wait(0.01)
    return answer


def first(source: Source) -> Any:
    return until(source, lambda frame, _: frame is not None)[0]


def why(source: Source, fits: Callable[[str], bool] = bool) -> str:
    return until(source, lambda _, said: bool(said) and fits(said))[1]


def test_pictures_come_in_the_form_that_processing_takes(source: Source) -> None:
    for _ in range(5):
        frame = first(source)
        assert (frame.dtype, frame.shape[1::-1] in (SIZE, rtsp_camera.SIZE), frame.shape[2:] in ((), (3,))) == (np.uint8, True, True)


def test_asking_never_waits(source: Source) -> None:
    began = time.monotonic()
    for _ in range(20):
        taken(source)
    assert time.monotonic() - began < 5.0  # a camera's own silence is 0.5 s, its connection 5 s


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "folder", "path": "/nowhere"},
        {"kind": "video", "path": "/nowhere.mp4"},
        {"kind": "camera", "url": "http://127.0.0.1:9/x", "silence_s": 1},
        {"kind": "camera", "url": "/dev/video99", "silence_s": 1},
        {"kind": "topic", "url": "mqtt://127.0.0.1:9/x", "silence_s": 1},
    ],
)
def test_what_is_not_there_is_a_reason_and_not_the_end(values: Mapping[str, Any]) -> None:
    source = open_source(values)
    place = str(values.get("path") or values["url"])
    said_of = place.replace(":9/", "/") if values["kind"] == "topic" else place
    assert why(source, lambda said: "no frame yet" not in said).startswith(said_of)
    with pytest.raises(FrameError):
        source.take(1)
    source.close()


def test_a_video_goes_round_and_a_broken_one_is_tried_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "belt.mp4"
    path.write_bytes(b"no video at all")
    source = open_source({"kind": "video", "path": str(path)})
    with pytest.raises(FrameError, match=r"belt\.mp4"):
        source.take(0)
    write_video(path)
    seen = [int(np.median(source.take(frame_no))) for frame_no in range(7)]
    assert seen == pytest.approx([*LEVELS, *LEVELS, LEVELS[0]], abs=4)


def test_a_file_with_sound_only_is_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(1600))
    source = open_source({"kind": "video", "path": str(path)})
    for frame_no in range(2):
        with pytest.raises(FrameError, match="holds no video"):
            source.take(frame_no)


def test_a_picture_of_16_bits_is_a_reason_and_not_a_white_frame(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 6), 4096, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(FrameError, match=r"a\.png: pixels of kind I;16; 8 bits a value are read"):
        open_source({"kind": "folder", "path": str(tmp_path)}).take(0)


def test_a_picture_that_would_fill_the_memory_is_not_unpacked(tmp_path: Path) -> None:
    Image.new("1", (8200, 8200)).save(tmp_path / "a.png")  # 10 KB; 67 million pixels
    source = open_source({"kind": "folder", "path": str(tmp_path)})
    with pytest.raises(FrameError, match=r"a\.png: 8200 x 8200 pixels"):
        source.take(0)


def test_a_video_that_would_fill_the_memory_is_not_unpacked(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 8200, 4200, "yuvj420p"
        container.mux(stream.encode(av.VideoFrame(8200, 4200, "yuvj420p")))
        container.mux(stream.encode())
    with pytest.raises(FrameError, match="8200 x 4200 pixels"):
        open_source({"kind": "video", "path": str(tmp_path / "a.avi")}).take(0)


@pytest.mark.parametrize("kind", [b"iCCP", b"cHRM", b"gAMA", b"tRNS", b"pHYs", b"zTXt", b"iTXt", b"eXIf", b"sRGB"])
@pytest.mark.parametrize("length", [0, 1])
@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
def test_a_chunk_that_ends_early_is_a_frame_or_a_reason(kind: bytes, length: int, before: bytes) -> None:
    """Behind the pixels, too, where Pillow looks at it only when they are unpacked."""
    picture = io.BytesIO()
    Image.new("L", SIZE, 9).save(picture, "PNG")
    content, chunk = picture.getvalue(), kind + bytes(length)
    at = content.index(before) - 4
    content = content[:at] + struct.pack(">I", length) + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[at:]
    with contextlib.suppress(FrameError):
        assert decoded(io.BytesIO(content), "it").dtype == np.uint8


@pytest.mark.parametrize("from_file", [False, True])
def test_a_jpeg_of_many_scans_is_a_reason(tmp_path: Path, from_file: bool) -> None:
    picture = io.BytesIO()
    Image.new("L", SIZE, 9).save(picture, "JPEG", progressive=True)
    content = picture.getvalue()
    assert decoded(io.BytesIO(content), "it").shape == (SIZE[1], SIZE[0])
    at = content.index(b"\xff\xda")
    source = tmp_path / "a.png"
    source.write_bytes(content[:at] + content[at:-2] * 101 + content[-2:])
    with pytest.raises(FrameError, match="scans, more than 100"):
        decoded(source if from_file else io.BytesIO(source.read_bytes()), "it")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whatever_stands_in_a_picture_it_is_a_frame_or_a_reason(data: st.DataObject) -> None:
    picture = io.BytesIO()
    Image.new(data.draw(st.sampled_from(["L", "RGB"])), SIZE, 9).save(picture, data.draw(st.sampled_from(["PNG", "JPEG"])))
    content = bytearray(picture.getvalue())
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), min_size=1, max_size=8)):
        content[place] = value
    with contextlib.suppress(FrameError):
        assert decoded(io.BytesIO(bytes(content)), "it").dtype == np.uint8


def test_a_camera_that_hangs_up_or_falls_silent_is_connected_to_again(camera: MjpegCamera) -> None:
    source = open_source({"kind": "camera", "url": camera.url, "silence_s": 0.3})
    first(source)
    camera.hang_up.set()
    until(source, lambda *_: camera.connections >= 2)
    first(source)
    camera.silent.set()
    why(source, lambda said: said.endswith("no answer in time"))
    camera.silent.clear()
    first(source)
    assert camera.connections >= 3
    source.close()


def test_an_rtsp_camera_that_freezes_or_dies_is_connected_to_again(rtsp: RtspCamera) -> None:
    source = open_source({"kind": "camera", "url": rtsp.url, "silence_s": 1.0})
    first(source)
    rtsp.freeze()
    why(source, lambda said: said.endswith("no answer in time"))
    rtsp.thaw()
    first(source)
    rtsp.die()
    why(source, lambda said: said.endswith("Connection refused"))
    rtsp.start()
    assert first(source).shape[1::-1] == rtsp_camera.SIZE
    source.close()


def test_a_camera_whose_picture_stops_while_its_sound_goes_on_is_connected_to_again(rtsp: RtspCamera) -> None:
    source = open_source({"kind": "camera", "url": rtsp.url, "silence_s": 1.0})
    first(source)
    rtsp.stop_picture()
    why(source, lambda said: said.endswith("no picture for 1 s"))
    assert first(source).shape[1::-1] == rtsp_camera.SIZE
    source.close()


def test_a_broker_that_dies_is_connected_to_again_and_what_is_no_picture_is_skipped(publisher: PicturePublisher) -> None:
    publisher.start()
    source = open_source({"kind": "topic", "url": publisher.url, "silence_s": 0.5})
    first(source)
    publisher.rubbish.set()
    why(source, lambda said: "is no picture" in said)
    publisher.rubbish.clear()
    first(source)
    publisher.kill_broker()
    why(source, lambda said: "no new frame" not in said)
    publisher.start()
    assert first(source).shape[:2] == (SIZE[1], SIZE[0])
    source.close()


def test_what_a_broker_kept_is_no_frame_of_now(publisher: PicturePublisher) -> None:
    """It would be answered again at each connection."""
    publisher.start_broker()
    publisher.keep()
    source = open_source({"kind": "topic", "url": publisher.url, "silence_s": 0.3})
    assert "no picture for" in why(source, lambda said: "no frame yet" not in said)
    publisher.start()
    assert first(source).shape[:2] == (SIZE[1], SIZE[0])
    source.close()


def test_a_picture_of_megabytes_comes_by_a_topic(publisher: PicturePublisher) -> None:
    publisher.picture = Image.fromarray(
        np.random.default_rng(1).integers(0, 255, (800, 1000, 3), np.uint8)
    )  # 2.4 MB: noise does not shrink
    publisher.start()
    source = open_source({"kind": "topic", "url": publisher.url, "silence_s": 5})
    assert first(source).shape == (800, 1000, 3)
    source.close()


def test_a_broker_that_takes_the_connection_and_says_nothing_is_a_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        broker = open_source({"kind": "topic", "url": f"mqtt://127.0.0.1:{port}/x", "silence_s": 0.3})
        said = why(broker, lambda said: "no frame yet" not in said)
        assert said == "mqtt://127.0.0.1/x: the broker does not answer for 0.3 s"
        broker.close()


def test_no_picture_of_a_camera_is_given_twice() -> None:
    source = Newest("still", lambda: iter([np.zeros((2, 2), np.uint8)]))
    assert first(source).shape == (2, 2)
    assert why(source).startswith("still: ")
    source.close()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://me:secret@127.0.0.1:9/x", "http://127.0.0.1:9/x: "),
        ("rtsp://127.0.0.1:9/x?user=me&pwd=secret", "rtsp://127.0.0.1:9/x: "),
        ("rtsp://me:secret@127.0.0.1:9/x?pwd=secret#secret", "rtsp://127.0.0.1:9/x: "),
        ("rtsp://127.0.0.1:9/x/user=me&password=secret&channel=1", "rtsp://127.0.0.1:9/x/user: "),
        ("rtsp://127.0.0.1:9/x?pwd=sec@secret", "rtsp://...: "),
        ("rtsp://me:secret?secret@127.0.0.1:9/x", "rtsp://...: "),
        ("rtsp://me:secret/secret@127.0.0.1:9/x", "rtsp://...: "),
        ("rtsp://me:sec@secret@127.0.0.1:9/x", "rtsp://127.0.0.1:9/x: "),
    ],
)
def test_the_reason_tells_no_password(url: str, shown: str) -> None:
    source = open_source({"kind": "camera", "url": url, "silence_s": 1})
    said = why(source, lambda said: "no frame yet" not in said)
    assert (said.startswith(shown), "secret" in said) == (True, False)
    source.close()


def test_without_pyav_a_video_is_a_reason() -> None:
    program = """
import sys
sys.modules["av"] = None
from edge_agent.pipeline.sources import FrameError, open_source
try:
    open_source({"kind": "video", "path": "/x.mp4"}).take(0)
except FrameError as missing:
    print(missing)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("video needs a package")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_nobody_foresaw_ends_the_pipeline() -> None:
    def broken() -> Iterator[Any]:
        raise ZeroDivisionError

    source = Newest("broken", broken)
    with pytest.raises(RuntimeError, match="broken"):
        until(source, lambda *_: False)


@pytest.mark.parametrize(
    "table", [{}, {"kind": "camera"}, {"kind": "camera", "path": "/x"}, {"kind": "camera", "url": "u", "path": "/x"},
              {"kind": "video", "url": "u"}, {"path": "/x", "url": "u"}, {"kind": "abacus", "path": "/x"},
               {"kind": "topic", "path": "/x"}, *({"kind": "topic", "url": url} for url in NO_TOPICS)],
)  # fmt: skip
def test_a_table_that_fits_no_kind_is_refused(table: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SourceConfig.model_validate(table)


def test_the_tables_of_the_page_are_taken(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/choose-a-source.md").read_text()
    kinds = []
    for number, block in enumerate(re.findall(r"```toml\n(.*?)```", page, re.S)):
        path = tmp_path / f"{number}.toml"
        path.write_text(block)
        source = load(AgentConfig, path, {}).source
        kinds.append(source.kind if source else "")
    assert kinds == ["folder", "video", "camera", "topic"]
