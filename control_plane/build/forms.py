"""Which quantized form a profile gets: the board and its runtime decide, not the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from contracts.errors import error
from control_plane.build.bom import tool_versions
from control_plane.build.quantize import Form
from firmware_profiles.profiles import profiles

Backend = Literal["onnxruntime", "tensorrt"]
Precision = Literal["int8_qdq_cpu", "int8_qdq_trt"]
_ORT_MIN = "1.19"  # the oldest that a worker's Python 3.8 can have
# The releases of a JetPack's TensorRT that parse this form; not run on hardware yet, so the device's golden vectors decide.
_TENSORRT = {"trt8": ("8.5", "8.6"), "trt10": ("10.0", "10.99")}


@dataclass(frozen=True)
class Target:
    """`runtime_min` and `runtime_max` are `major.minor`, inclusive: the range for which there is evidence."""

    form: Form
    backend: Backend
    precision: Precision
    runtime_min: str
    runtime_max: str


def target(profile: str) -> Target:
    """RejectedError BUILD_PROFILE when the profile is unknown."""
    known = profiles().get(profile)
    if known is None:
        raise error("BUILD_PROFILE", profile)
    if known.precision == "int8_qdq_trt":
        return Target("qdq_trt", "tensorrt", "int8_qdq_trt", *_TENSORRT[profile.rsplit("-", 1)[1]])
    newest = ".".join(tool_versions(("onnxruntime",))["onnxruntime"].split(".")[:2])  # the one that it is evaluated with
    return Target("qdq_cpu", cast(Backend, known.backends[0]), cast(Precision, known.precision), _ORT_MIN, newest)
