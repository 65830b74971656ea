"""What a registration must be like before anything is made of it; each refusal with its code."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import onnx
import pytest

from contracts.canonical import canonical_json, sha256_hex
from contracts.errors import SkerryError
from contracts.features import FRAME_COLUMNS, Column, FeatureSchema
from control_plane.build import forms, source
from control_plane.build.job import FILES
from firmware_profiles.profiles import profiles
from signatures import model_signature
from tests.simulators.small_line import LABELS, external_data_model, npz, register, small_data, small_model
from tests.unit.test_model_signature import key_pair

PEM, PINS = key_pair()
X, Y = small_data(150, seed=2)


def read(model: bytes | None = None, **changed: bytes) -> source.Source:
    registered = register(PEM, model, **changed)
    files = {name: registered.blobs[getattr(registered.registration, name)] for name in FILES}
    return source.read(registered.registration, files, PINS, min_held_out=100)


def code(model: bytes | None = None, **changed: bytes) -> str:
    with pytest.raises(SkerryError) as refused:
        read(model, **changed)
    return refused.value.code


def test_a_good_registration_is_read_whole() -> None:
    good = read()
    assert (good.input.name, good.input.shape, good.output.name, good.output.shape) == ("x", (1, 1, 8, 8), "probabilities", (1, 3))
    assert good.class_labels == tuple(LABELS)
    assert good.materials["model.onnx"] == sha256_hex(small_model())
    assert (good.held_out.shape, good.labels.shape, good.calibration.shape) == ((150, 1, 8, 8), (150,), (24, 1, 8, 8))


def test_a_model_that_no_pinned_key_signed_is_not_even_parsed() -> None:
    other, _ = key_pair()
    forged = model_signature.sign(other, {"model.onnx": sha256_hex(small_model())})
    assert code(signature=forged) == "BUILD_MODEL_SIGNATURE"
    assert code(signature=model_signature.sign(PEM, {"model.onnx": "0" * 64})) == "BUILD_MODEL_SIGNATURE"
    assert code(model=b"not onnx", signature=forged) == "BUILD_MODEL_SIGNATURE"
    assert code(signature=b"") == "BUILD_MODEL_SIGNATURE"


def two_inputs() -> bytes:
    model = onnx.load_model_from_string(small_model())
    model.graph.input.append(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1]))
    return bytes(model.SerializeToString())


def open_shape() -> bytes:
    model = onnx.load_model_from_string(small_model())
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("model", [b"not onnx", b"\x08", two_inputs(), open_shape(), external_data_model()])
def test_models_that_cannot_be_served_are_refused(model: bytes) -> None:
    assert code(model=model) == "BUILD_SOURCE"


class Pickled:
    ran = False

    def __reduce__(self) -> Any:
        return (setattr, (Pickled, "ran", True))


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x=X, y=np.array([Pickled()], dtype=object))
    return buffer.getvalue()


def bomb() -> bytes:
    """An archive whose directory says that its entry unpacks to two gigabytes."""
    data = bytearray(npz(x=X))
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 2**31)
    return bytes(data)


@pytest.mark.parametrize(
    "held_out",
    [
        b"", b"PK", npz(x=X), npz(x=X, y=Y[:-1]), npz(x=X[:99], y=Y[:99]), npz(x=X.astype(np.float64), y=Y), npz(x=X, y=Y.astype(np.int32)),
        npz(x=X[:, :, :4], y=Y), npz(x=np.full_like(X, np.nan), y=Y), pickled(),
    ],
)  # fmt: skip
def test_held_out_sets_that_prove_nothing_are_refused(held_out: bytes) -> None:
    assert code(held_out=held_out) == "BUILD_SOURCE"
    assert not Pickled.ran, "arrays are never unpickled"


def test_a_calibration_set_must_fit_the_model_and_the_memory() -> None:
    assert code(calibration=npz(x=X[:0])) == "BUILD_SOURCE"
    assert code(calibration=npz(x=X[:, :, :, :4])) == "BUILD_SOURCE"
    assert code(calibration=bomb()) == "BUILD_SOURCE"


def test_a_schema_must_be_one() -> None:
    assert code(feature_schema=b"{}") == "BUILD_SOURCE"


TOP1 = [{"op": "top1"}]
COUNTED = {"name": "labels", "how": "count", "of": "label"}


@pytest.mark.parametrize(
    "processing",
    [
        b"[]", b'{"pre":[]}', b"[" * 100_000, b'{"pre":[],"pre":[],"post":[]}',
        canonical_json({"pre": [{"op": "enhance"}], "post": TOP1}),
        canonical_json({"pre": [{"op": "resize", "height": 9, "width": 8}], "post": TOP1}),  # the model takes 8 x 8
        canonical_json({"pre": [], "post": [{"op": "top_k", "k": 4}]}),  # of three classes
        canonical_json({"pre": [], "post": [{"op": "grid_boxes", "classes": ["a"], "rows": 2, "columns": 2}, {"op": "boxes"}]}),
        canonical_json({"pre": [], "post": [*TOP1, {"op": "threshold", "score": 0.5}]}),  # a label that can be null in a column that cannot
        canonical_json({"pre": [], "post": TOP1, "labels": ["bolt", "nut"]}),
        canonical_json({"pre": [], "post": TOP1, "labels": ["bolt", "nut", 3]}),
        canonical_json({"pre": [], "post": TOP1, "labels": ["bolt", "nut", "a\nb"]}),
        canonical_json({"pre": [], "post": TOP1, "rows": "windows"}),
        canonical_json({"pre": [], "post": TOP1, "windows": [{"name": "w", "every_s": 0, "features": [COUNTED]}]}),
        canonical_json({"pre": [], "post": TOP1, "windows": [{"name": "w", "every_s": 1, "features": [{**COUNTED, "of": "score"}]}]}),
        canonical_json({"pre": [], "post": TOP1, "windows": [{"name": "w", "every_s": 1, "features": [{**COUNTED, "name": "seq"}]}]}),
    ],
)  # fmt: skip
def test_processing_that_a_device_would_refuse_is_not_built(processing: bytes) -> None:
    assert code(processing=processing) == "BUILD_PROCESSING"


def test_the_feature_schema_must_be_made_of_what_the_answer_holds() -> None:
    columns = (*FRAME_COLUMNS, Column(name="label", type="binary"))
    schema = FeatureSchema(family="small", columns=columns)
    assert code(feature_schema=canonical_json(schema.model_dump(mode="json"))) == "BUILD_PROCESSING"


def test_a_column_of_another_model_of_the_family_stays_null_and_is_named() -> None:
    columns = (*FRAME_COLUMNS, Column(name="label", type="i32"), Column(name="label_2", type="i32", nullable=True))
    schema = FeatureSchema(family="small", columns=columns)
    assert read(feature_schema=canonical_json(schema.model_dump(mode="json"))).always_null == ["label_2"]
    assert read().always_null == []


def test_the_profile_decides_the_form() -> None:
    assert forms.target("x86-cpu-avx2").form == forms.target("x86-cpu-vnni").form == "qdq_cpu"
    orin = forms.target("jetson-orin-trt10")
    assert (orin.form, orin.backend, orin.runtime_min) == ("qdq_trt", "tensorrt", "10.0")
    with pytest.raises(SkerryError) as refused:
        forms.target("toaster")
    assert refused.value.code == "BUILD_PROFILE"


def test_every_profile_has_a_form() -> None:
    assert all(forms.target(name).runtime_min for name in profiles())
