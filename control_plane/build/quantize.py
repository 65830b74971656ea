"""fp32 ONNX -> INT8 QDQ, by onnxruntime.quantization. One calibration, two forms:

qdq_cpu  activations u8, weights s8 with 7 bits, per channel. Seven, because AVX2 without VNNI adds pairs of products in
         16 bits and saturates on eight (measured: the accuracy cost of seven is 0.1 points).
qdq_trt  everything s8 and symmetric, no quantized bias: what TensorRT takes as it is written (lint.py says what it would bend).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from control_plane.build.source import F32

Form = Literal["qdq_cpu", "qdq_trt"]
SETTINGS: dict[Form, dict[str, Any]] = {
    "qdq_cpu": {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "reduce_range": True, "extra_options": {}},
    "qdq_trt": {
        "activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8, "reduce_range": False,
        "extra_options": {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    },
}  # fmt: skip


def quantize(model: bytes, input_name: str, calibration: F32, form: Form) -> bytes:
    """The quantized model's bytes. `calibration`: (n, *input shape), each sample is one run."""
    with tempfile.TemporaryDirectory(prefix="skerry-build-") as folder:
        source, prepared, target = (Path(folder) / name for name in ("fp32.onnx", "prepared.onnx", "int8.onnx"))
        source.write_bytes(model)
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)  # symbolic shapes would need sympy
        reader = _Samples(input_name, calibration)
        quantize_static(str(prepared), str(target), reader, quant_format=QuantFormat.QDQ, per_channel=True, **SETTINGS[form])
        return target.read_bytes()


class _Samples(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, input_name: str, samples: F32) -> None:
        self._feeds: Iterator[dict[str, F32]] = ({input_name: samples[n : n + 1]} for n in range(len(samples)))

    def get_next(self) -> dict[str, F32] | None:
        return next(self._feeds, None)
