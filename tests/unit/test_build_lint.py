"""Both quantized forms of a real convolution net pass the linter; each rule finds the graph it is there for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import QuantFormat, quantize_static

from contracts.errors import RejectedError
from control_plane.build import quantize as quantizer
from control_plane.build.lint import lint, refuse
from control_plane.build.quantize import Form, quantize
from tests.simulators.small_line import small_data, small_model

FORMS: tuple[Form, ...] = ("qdq_cpu", "qdq_trt")
CALIBRATION, _ = small_data(24, seed=3)


@pytest.fixture(scope="module")
def quantized() -> dict[Form, bytes]:
    return {form: quantize(small_model(), "x", CALIBRATION, form) for form in FORMS}


def outputs(model: bytes, x: Any) -> Any:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


@pytest.mark.parametrize("form", FORMS)
def test_what_we_quantize_passes_our_linter_and_answers_like_fp32(quantized: dict[Form, bytes], form: Form) -> None:
    refuse(quantized[form], form)
    operators = {node.op_type for node in onnx.load_model_from_string(quantized[form]).graph.node}
    assert {"Conv", "QuantizeLinear", "DequantizeLinear"} <= operators
    x, _ = small_data(60, seed=5)
    same = outputs(quantized[form], x).argmax(axis=1) == outputs(small_model(), x).argmax(axis=1)
    assert same.mean() >= 0.9


def test_a_graph_that_cannot_be_quantized_has_a_code() -> None:
    model = onnx.load_model_from_string(small_model())
    model.graph.initializer[0].dims[:] = [36]  # of a convolution, flat
    with pytest.raises(RejectedError, match="cannot be quantized") as refused:
        quantize(bytes(model.SerializeToString()), "x", CALIBRATION, "qdq_cpu")
    assert refused.value.code == "BUILD_SOURCE"


def test_the_trt_form_is_evaluated_by_what_its_nodes_say(quantized: dict[Form, bytes]) -> None:
    shown = quantizer.for_evaluation(quantized["qdq_trt"], "qdq_trt")
    operators = {node.op_type for node in onnx.load_model_from_string(shown).graph.node}
    assert operators.isdisjoint({"QuantizeLinear", "DequantizeLinear"})
    x, _ = small_data(60, seed=5)
    literal = onnxruntime.SessionOptions()
    literal.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(quantized["qdq_trt"], literal, providers=["CPUExecutionProvider"])
    assert np.allclose(session.run(None, {"x": x})[0], outputs(shown, x), atol=1e-4)
    assert quantizer.for_evaluation(quantized["qdq_cpu"], "qdq_cpu") == quantized["qdq_cpu"]


def test_the_same_model_and_calibration_give_the_same_bytes(quantized: dict[Form, bytes]) -> None:
    assert quantize(small_model(), "x", CALIBRATION, "qdq_cpu") == quantized["qdq_cpu"]


def test_the_cpu_form_is_no_trt_form_and_the_findings_say_why(quantized: dict[Form, bytes]) -> None:
    found = {finding.rule for finding in lint(quantized["qdq_cpu"], "qdq_trt")}
    assert {"u8", "int32_bias"} <= found
    with pytest.raises(RejectedError) as refused:
        refuse(quantized["qdq_cpu"], "qdq_trt")
    assert refused.value.code == "BUILD_LINT"


def test_weights_of_eight_bits_are_no_cpu_form(quantized: dict[Form, bytes]) -> None:
    assert "weight_range" in {finding.rule for finding in lint(quantized["qdq_trt"], "qdq_cpu")}


def test_the_tools_own_defaults_are_refused_for_trt(tmp_path: Any) -> None:
    source, target = tmp_path / "fp32.onnx", tmp_path / "int8.onnx"
    source.write_bytes(small_model())
    quantize_static(str(source), str(target), quantizer._Samples("x", CALIBRATION), quant_format=QuantFormat.QDQ, per_channel=True)
    assert "int32_bias" in {finding.rule for finding in lint(target.read_bytes(), "qdq_trt")}


Spoil = Callable[[onnx.ModelProto], None]


def a_quantizer(model: onnx.ModelProto) -> Any:
    return next(node for node in model.graph.node if node.op_type == "QuantizeLinear")


def change(model: onnx.ModelProto, name: str, to: Callable[[Any], Any]) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(to(numpy_helper.to_array(tensor)), name))


def zero_point(model: onnx.ModelProto) -> None:
    change(model, a_quantizer(model).input[2], lambda zero: np.full_like(zero, 3))


def unsigned(model: onnx.ModelProto) -> None:
    change(model, a_quantizer(model).input[2], lambda zero: zero.astype(np.uint8))


def no_zero_point(model: onnx.ModelProto) -> None:
    del a_quantizer(model).input[2:]


def scale_zero(model: onnx.ModelProto) -> None:
    change(model, a_quantizer(model).input[1], np.zeros_like)


def scale_nan(model: onnx.ModelProto) -> None:
    change(model, a_quantizer(model).input[1], lambda scale: np.full_like(scale, np.nan))


def external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")


def lonely(model: onnx.ModelProto) -> None:
    reader = next(node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] == a_quantizer(model).output[0])
    reader.op_type = "Cast"


def other_domain(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.example"


def axis(model: onnx.ModelProto) -> None:
    weights = {node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    node = next(node for node in model.graph.node if node.output[0] in weights)
    next(attribute for attribute in node.attribute if attribute.name == "axis").i = 1


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (zero_point, "zero_point"), (unsigned, "u8"), (no_zero_point, "u8"), (scale_zero, "scale"), (scale_nan, "scale"),
        (external, "external_data"), (lonely, "lonely_q"), (other_domain, "domain"), (axis, "conv_axis"),
    ],
)  # fmt: skip
def test_each_rule_finds_its_graph(quantized: dict[Form, bytes], spoil: Spoil, rule: str) -> None:
    model = onnx.load_model_from_string(quantized["qdq_trt"])
    assert lint(bytes(model.SerializeToString()), "qdq_trt") == []
    spoil(model)
    assert rule in {finding.rule for finding in lint(bytes(model.SerializeToString()), "qdq_trt")}
