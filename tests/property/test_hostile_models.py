"""Whatever bytes call themselves an ONNX model: the worker and the builder answer with a code or with figures, and nothing of theirs
goes uncaught. Each model is read in a forked child, since a crash there is what is looked for.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.errors import CODES, SkerryError
from control_plane.build import source
from edge_agent.inference.worker import backends
from edge_agent.inference.worker.selftest import self_test
from edge_agent.inference.worker.start_error import StartError
from edge_agent.inference.worker_report import CODES_OF_A_WORKER
from tests.contract.test_backends import LOOK_UP_MODEL, ONNX_MODEL, write_slot
from tests.simulators.small_line import small_model

LONGEST_S = 30
SMALL_MODEL = small_model()
backends.versions()  # imported once, not in each child


@st.composite
def hurt(draw: st.DrawFn, models: tuple[bytes, ...]) -> bytes:
    """Cut short, with bytes replaced, bits flipped or bytes put in."""
    model = bytearray(draw(st.sampled_from(models)))
    place = st.integers(0, len(model) - 1)
    for at, value in draw(st.lists(st.tuples(place, st.integers(0, 255)), max_size=3)):
        model[at] = value
    for at, bit in draw(st.lists(st.tuples(place, st.integers(0, 7)), max_size=3)):
        model[at] ^= 1 << bit
    at = draw(place)
    model[at:at] = draw(st.binary(max_size=8))
    return bytes(model[: draw(st.just(len(model)) | place)])


def outcome(read: Callable[[], str]) -> str:
    """What `read` returns in a child, or how the child ended."""
    answer, told = os.pipe()
    child = os.fork()
    if child == 0:
        _tell(read, told)
    os.close(told)
    with open(answer, "rb") as said:
        text = said.read().decode()
    _, status = os.waitpid(child, 0)
    return text if os.WIFEXITED(status) else f"ended by {signal.Signals(os.WTERMSIG(status)).name}"


def _tell(read: Callable[[], str], told: int) -> None:
    signal.alarm(LONGEST_S)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 2)  # what the libraries print of a broken model
    try:
        text = read()
    except BaseException as uncaught:  # it is what we look for
        text = f"uncaught: {uncaught!r}"
    os.write(told, text[:1000].encode())
    os._exit(0)


def of_the_worker(folder: Path, model: bytes) -> str:
    slot = write_slot(folder, "onnxruntime", model or b"\0")
    try:
        self_test(slot, backends.load(slot))
    except StartError as refused:
        return refused.code
    return "serves"


def of_the_builder(model: bytes) -> str:
    try:
        source._tensors(model)
    except SkerryError as refused:
        return refused.code
    return "read"


@given(model=hurt((ONNX_MODEL, LOOK_UP_MODEL)))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_worker_serves_what_it_read_or_says_why_not(tmp_path: Path, model: bytes) -> None:
    assert outcome(lambda: of_the_worker(tmp_path, model)) in {"serves", *CODES_OF_A_WORKER}


@given(model=hurt((SMALL_MODEL, ONNX_MODEL)))
@settings(max_examples=60)
def test_the_builder_reads_a_model_or_says_that_it_cannot(model: bytes) -> None:
    assert outcome(lambda: of_the_builder(model)) in {"read", "BUILD_SOURCE"}


def _dies() -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return "lives"


def test_what_ends_a_child_is_seen() -> None:
    assert outcome(_dies) == "ended by SIGKILL"
    assert outcome(lambda: str(1 // 0)).startswith("uncaught: ZeroDivisionError")
    assert set(CODES_OF_A_WORKER) <= set(CODES)
