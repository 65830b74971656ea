"""Any JSON as a processing.json: it is refused by SpecError, or it works on every frame and output that fit. Nothing else comes out."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from processing import answers, pictures, pipeline
from processing.rows import RowMaker
from processing.spec import FrameUnfitError, SpecError

NAMES = sorted({*pictures.OPERATIONS, *answers.NAMES, "blur"})
FIELDS = [
    "top",
    "left",
    "height",
    "width",
    "method",
    "order",
    "mean",
    "std",
    "factor",
    "k",
    "score",
    "iou",
    "classes",
    "rows",
    "columns",
    "most",
]
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-2, 12), st.floats(), st.sampled_from(["box", "NCHW", "a", ""]), st.just(10**40))
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3), st.dictionaries(st.text(max_size=3), SCALARS, max_size=2))
WILD = st.one_of(VALUES, st.dictionaries(st.sampled_from(["op", *FIELDS]), st.one_of(VALUES, st.sampled_from(NAMES)), max_size=6))
JSON = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["pre", "post", "op"]), inner), max_leaves=8
)

SMALL = st.integers(1, 9)
PRE = st.one_of(
    st.just({"op": "grayscale"}),
    st.fixed_dictionaries({"op": st.just("crop"), "top": st.integers(0, 4), "left": st.integers(0, 4), "height": SMALL, "width": SMALL}),
    st.fixed_dictionaries({"op": st.just("resize"), "height": SMALL, "width": SMALL, "method": st.sampled_from(["box", "bilinear"])}),
    st.fixed_dictionaries({"op": st.just("scale"), "factor": st.floats(-10, 10)}),
    st.integers(1, 3).map(lambda count: {"op": "normalize", "mean": [100.0] * count, "std": [50.0] * count}),
    st.just({"op": "standardize"}),
    st.just({"op": "layout", "order": "NHWC"}),
)
LIKELY = st.fixed_dictionaries({"op": st.just("threshold"), "score": st.floats(0, 1)})
NMS = st.fixed_dictionaries({"op": st.just("nms"), "iou": st.floats(0, 1)})
GRID = st.fixed_dictionaries({"op": st.just("grid_boxes"), "classes": st.just(["a", "b"]), "rows": SMALL, "columns": SMALL})
POST = st.one_of(
    st.sampled_from([{"op": "softmax"}, {"op": "sigmoid"}, {"op": "top1"}, {"op": "boxes"}]),
    st.fixed_dictionaries({"op": st.just("top_k"), "k": st.integers(1, 4)}),
    LIKELY,
    NMS,
    GRID,
)
DETECTORS = st.lists(st.one_of(LIKELY, NMS), max_size=3).flatmap(lambda sift: GRID.map(lambda grid: [grid, *sift, {"op": "boxes"}]))


@given(st.one_of(JSON, st.fixed_dictionaries({"pre": st.lists(WILD, max_size=4), "post": st.lists(WILD, max_size=4)})))
def test_any_json_is_compiled_or_refused(raw: Any) -> None:
    said = ""
    try:
        compiled = pipeline.compile(pipeline.read(json.dumps(raw).encode()))
        compiled.check((1, 1, 8, 8), (1, 7))
    except SpecError as refused:
        said = str(refused)
    assert len(said) < 2000, "what is refused is not repeated at length"


@given(st.lists(PRE, max_size=4), st.tuples(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 2, 3])))
@settings(max_examples=150)
def test_what_compiles_takes_a_frame_or_refuses_it(pre: list[Any], shape: Any) -> None:
    try:
        compiled = pipeline.compile({"pre": pre, "post": [{"op": "top1"}]})
        values = compiled(np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8))
    except (SpecError, FrameUnfitError):
        return
    assert (values.dtype, values.flags.c_contiguous) == (np.float32, True)
    assert np.isfinite(values).all()
    compiled.check(values.shape, (1, 1))
    view = compiled.view(shape)
    assert 0 <= view.left < view.left + view.width <= shape[1] + 1e-9
    assert 0 <= view.top < view.top + view.height <= shape[0] + 1e-9


@given(st.one_of(st.lists(POST, min_size=1, max_size=5), DETECTORS), st.floats(0.1, 1e30), st.integers(0, 99))
@settings(max_examples=200)
def test_what_compiles_answers_any_output_that_fits_with_the_keys_that_it_names(post: list[Any], scale: float, seed: int) -> None:
    length = next((7 * step["rows"] * step["columns"] for step in post if step["op"] == "grid_boxes"), 3)
    try:
        compiled = pipeline.compile({"pre": [], "post": post})
        compiled.check((1, 1, 8, 8), (1, length))
    except SpecError:
        return
    answer = compiled.post(np.random.default_rng(seed).normal(size=length) * scale)
    assert set(answer) == set(compiled.keys)
    assert {name for name, value in answer.items() if value is None} <= {name for name, key in compiled.keys.items() if key.nullable}
    kinds = {"int": "i64", "float": "f64", "text": "utf8", "list": "utf8"}
    columns = [{"name": name, "type": kinds[key.kind], "nullable": key.nullable} for name, key in compiled.keys.items()]
    row = RowMaker(columns, compiled.keys)(0, 0, 0, answer)
    assert len(row) == len(columns)
    assert compiled.agree(answer, answer)
