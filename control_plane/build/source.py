"""What the training side registered, checked before anything is made of it. Bytes in, values or BUILD_SOURCE out.

Arrays are never unpickled; a model is parsed only after its signature was verified.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from contracts.canonical import canonical_json, sha256_hex
from contracts.errors import TrustError, error
from contracts.features import FeatureSchema
from contracts.manifest import Label, TensorSpec, processing_spec
from contracts.release import ModelRegistration
from processing import pipeline, windows
from processing.onnx_file import external_tensors
from processing.pipeline import Processing
from processing.rows import RowMaker, unmade
from signatures import dsse, model_signature

F32 = NDArray[np.float32]
BOX_FIELDS = 5  # of one entry of a detector's y
MAX_ARRAY_BYTES = 1 << 30
_LABELS = TypeAdapter(tuple[Label, ...])


@dataclass(frozen=True)
class Source:
    """A registered model version. Arrays: x float32 (n, *input shape without the batch).

    y of a classifier: int64 (n,). Of a detector: float32 (n, most, 5), the class or -1 for none, then left, top, right, bottom as shares of
    the picture.
    """

    model: bytes
    input: TensorSpec
    output: TensorSpec
    calibration: F32
    held_out: F32
    labels: NDArray[Any]
    signature: bytes
    processing_bytes: bytes
    processing: Processing
    feature_schema: FeatureSchema
    window_schemas: tuple[FeatureSchema, ...]
    class_labels: tuple[Label, ...]
    materials: dict[str, str]  # name -> sha256 of the registered files, for the provenance

    @property
    def always_null(self) -> list[str]:
        """Columns that this model leaves to others of its family, or whose names are misspelt: only a person can tell."""
        return unmade([column.model_dump() for column in self.feature_schema.columns], self.processing.keys)

    @property
    def feature_schema_bytes(self) -> bytes:
        return canonical_json(self.feature_schema.model_dump(mode="json"))


def read(registration: ModelRegistration, files: dict[str, bytes], model_keys: dict[str, str], min_held_out: int) -> Source:
    """`files`: field of the registration -> its bytes. BUILD_MODEL_SIGNATURE before the model is parsed, BUILD_SOURCE after."""
    _check_signature(files, model_keys)
    graph_input, graph_output = _tensors(files["model"])
    calibration = _array(files["calibration"], "calibration", "x", np.float32)
    held_out = _array(files["held_out"], "held_out", "x", np.float32)
    schema = _schema(files["feature_schema"])
    processing = _processing(files["processing"], graph_input, graph_output, schema)
    labels = _labels(files["held_out"], processing)
    for name, x in (("calibration", calibration), ("held_out", held_out)):
        if x.shape[1:] != graph_input.shape[1:] or not len(x) or not np.isfinite(x).all():
            raise error("BUILD_SOURCE", name, f"x has shape {x.shape}, the model wants (n, {graph_input.shape[1:]}), finite")
    if len(labels) != len(held_out) or len(labels) < min_held_out:
        raise error("BUILD_SOURCE", "held_out", f"{labels.shape} labels for {len(held_out)} samples, at least {min_held_out} are wanted")
    return Source(
        files["model"], graph_input, graph_output, calibration, held_out, labels, files["signature"], files["processing"], processing,
        schema, _window_schemas(files["processing"], schema), _class_labels(files["processing"], graph_output), _materials(registration),
    )  # fmt: skip


def _check_signature(files: dict[str, bytes], model_keys: dict[str, str]) -> None:
    try:
        model_signature.verify(files["signature"], {model_signature.SIGNED_FILE: sha256_hex(files["model"])}, model_keys)
    except TrustError as refused:
        raise error("BUILD_MODEL_SIGNATURE", refused.thing, refused.detail) from refused


def _tensors(model: bytes) -> tuple[TensorSpec, TensorSpec]:
    """The one input and the one output; the batch counts as 1, all other dimensions must be fixed."""
    try:
        if outside := external_tensors(model):  # first: the checker would follow their paths
            raise error("BUILD_SOURCE", f"model: {outside[0]}", "external data: register one self-contained file")
        graph = onnx.load_model_from_string(model).graph
        onnx.checker.check_model(model)
    except (ValueError, TypeError, onnx.checker.ValidationError, DecodeError) as broken:
        raise error("BUILD_SOURCE", "model", str(broken)[:300]) from broken
    if len(graph.input) != 1 or len(graph.output) != 1:
        raise error("BUILD_SOURCE", "model", f"{len(graph.input)} inputs and {len(graph.output)} outputs; one of each is supported")
    return _tensor(graph.input[0]), _tensor(graph.output[0])


def _tensor(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    dims = [int(dim.dim_value) for dim in tensor.shape.dim]
    if tensor.elem_type != onnx.TensorProto.FLOAT or len(dims) < 2 or not all(dim > 0 for dim in dims[1:]):
        raise error("BUILD_SOURCE", f"model: {value.name}", "a float tensor (batch, fixed dimensions...) is wanted")
    return TensorSpec(name=value.name, dtype="f32", shape=(1, *dims[1:]))


def _array(data: bytes, name: str, key: str, dtype: type[np.generic]) -> NDArray[Any]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_ARRAY_BYTES:
                raise error("BUILD_SOURCE", name, f"more than {MAX_ARRAY_BYTES} bytes unpacked")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            array = arrays[key]
    except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile) as broken:
        raise error("BUILD_SOURCE", f"{name}: {key}", str(broken)) from broken
    if array.dtype != dtype:
        raise error("BUILD_SOURCE", f"{name}: {key}", f"dtype {array.dtype}, not {np.dtype(dtype)}")
    return np.ascontiguousarray(array)


def _labels(held_out: bytes, processing: Processing) -> NDArray[Any]:
    if not processing.classes:
        labels = _array(held_out, "held_out", "y", np.int64)
        if labels.ndim != 1:
            raise error("BUILD_SOURCE", "held_out: y", f"labels of shape {labels.shape}, not (n,)")
        return labels
    boxes = _array(held_out, "held_out", "y", np.float32)
    if boxes.ndim != 3 or boxes.shape[2] != BOX_FIELDS:
        raise error("BUILD_SOURCE", "held_out: y", f"boxes of shape {boxes.shape}, not (n, most, {BOX_FIELDS})")
    number, edges = boxes[..., 0], boxes[..., 1:]
    known = (number == np.round(number)) & (number >= -1) & (number < len(processing.classes))
    within = (edges >= 0).all(axis=2) & (edges <= 1).all(axis=2) & (edges[..., 2:] > edges[..., :2]).all(axis=2)
    if not (known & (within | (number == -1))).all():
        raise error("BUILD_SOURCE", "held_out: y", "a class that is none of processing.json's, or edges that are no box within 0 to 1")
    return boxes


def _processing(data: bytes, input_spec: TensorSpec, output_spec: TensorSpec, schema: FeatureSchema) -> Processing:
    """Compiled and held against the model and the feature schema: what a device would refuse is not built."""
    try:
        compiled = pipeline.compile(processing_spec(dsse.parse_json(data)))
        compiled.check(input_spec.shape, output_spec.shape)
        RowMaker([column.model_dump() for column in schema.columns], compiled.keys)
    except ValueError as refused:
        raise error("BUILD_PROCESSING", "processing", str(refused)[:300]) from refused
    return compiled


def _window_schemas(data: bytes, schema: FeatureSchema) -> tuple[FeatureSchema, ...]:
    """Of the windows of a processing.json that `_processing` took."""
    try:
        spec = processing_spec(dsse.parse_json(data))
        compiled = windows.compile(spec, [column.model_dump() for column in schema.columns])
        windows.frames_leave(spec)
        return tuple(schema.of_window(window.name, window.columns) for window in compiled)
    except ValueError as refused:
        raise error("BUILD_PROCESSING", "windows", str(refused)[:300]) from refused


def _class_labels(data: bytes, output: TensorSpec) -> tuple[Label, ...]:
    """Of a processing.json that `_processing` took: none, or one for each element of the output's last dimension."""
    try:
        labels = _LABELS.validate_python(dsse.parse_json(data).get("labels", []))
    except ValidationError as refused:
        raise error("BUILD_PROCESSING", "labels", str(refused.errors()[0]["msg"])) from refused
    if labels and len(labels) != output.shape[-1]:
        raise error("BUILD_PROCESSING", "labels", f"{len(labels)} labels for an output of {output.shape}")
    return labels


def _schema(schema: bytes) -> FeatureSchema:
    try:
        return FeatureSchema.model_validate_json(schema)
    except (ValueError, ValidationError) as broken:
        raise error("BUILD_SOURCE", "feature_schema", str(broken)) from broken


def _materials(registration: ModelRegistration) -> dict[str, str]:
    return {
        model_signature.SIGNED_FILE: registration.model,
        "calibration.npz": registration.calibration,
        "held_out.npz": registration.held_out,
        "processing.json": registration.processing,
        "feature_schema.json": registration.feature_schema,
    }
