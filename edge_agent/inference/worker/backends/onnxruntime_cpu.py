"""ONNX Runtime on the CPU, one thread, reading and writing the arena's memory in place."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state

from edge_agent.inference.worker.backends import BackendError
from edge_agent.inference.worker.slot import Tensor
from edge_agent.inference.worker.start_error import StartError
from processing.onnx_file import external_tensors

Array = Any
_REFUSALS = (
    *("Fail", "InvalidArgument", "NoSuchFile", "NoModel", "EngineError"),
    *("RuntimeException", "InvalidProtobuf", "NotImplemented", "InvalidGraph", "EPFail"),
)


def version() -> str:
    return str(onnxruntime.__version__)


def _refusals() -> tuple[type[BaseException], ...]:
    """onnxruntime's exceptions have no common base of their own; each of these means: not this model, or not this input.

    A run with bound memory raises RuntimeError for all of them: a shape, an index out of range, no memory.
    """
    return RuntimeError, *(getattr(onnxruntime_pybind11_state, name) for name in _REFUSALS)


def load(member: str, input_: Tensor, output: Tensor) -> _Session:
    """Raises StartError WORKER_MODEL when the model cannot be loaded, wants other files, or has not these tensors."""
    _check_whole(Path(member))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # one core of the board: the others belong to somebody else
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")  # not by the file's name: _check_whole has read it as ONNX
    try:
        session = onnxruntime.InferenceSession(member, options, providers=["CPUExecutionProvider"])
    except _refusals() as refused:
        raise StartError("WORKER_MODEL", f"onnxruntime {version()} refuses the model: {refused}") from refused
    _check_names(session, input_, output)
    return _Session(session, input_, output)


def _check_whole(member: Path) -> None:
    """onnxruntime would read any file that the model names beside it; which other paths it follows differs between its versions."""
    try:
        outside = external_tensors(member.read_bytes())
    except (OSError, ValueError) as broken:
        raise StartError("WORKER_MODEL", f"{member.name} cannot be read: {broken}") from broken
    if outside:
        raise StartError("WORKER_MODEL", f"values outside the file, which no signature covers: {', '.join(outside)[:200]}")


def _check_names(session: Any, input_: Tensor, output: Tensor) -> None:
    inputs = [node.name for node in session.get_inputs()]
    outputs = [node.name for node in session.get_outputs()]
    if inputs != [input_.name] or output.name not in outputs:
        raise StartError("WORKER_MODEL", f"the model has {inputs} -> {outputs}, the manifest {input_.name} -> {output.name}")


class _Session:
    compute_is_cpu = True

    def __init__(self, session: Any, input_: Tensor, output: Tensor) -> None:
        self._session, self._input, self._output = session, input_, output

    def bind(self, input_: Array, output: Array) -> Callable[[], None]:
        binding, refusals = self._session.io_binding(), _refusals()
        try:
            binding.bind_input(self._input.name, "cpu", 0, input_.dtype.type, input_.shape, input_.ctypes.data)
            binding.bind_output(self._output.name, "cpu", 0, output.dtype.type, output.shape, output.ctypes.data)
        except refusals as refused:
            raise StartError("WORKER_MODEL", f"the model's tensors are not the manifest's: {refused}") from refused
        run = self._session.run_with_iobinding

        def compute(_: Any = (input_, output)) -> None:  # kept with the function: the binding knows only their addresses
            try:
                run(binding)
            except refusals as refused:
                raise BackendError(str(refused)) from refused

        return compute

    def close(self) -> None:
        self._session = None
