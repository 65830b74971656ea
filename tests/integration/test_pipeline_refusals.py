"""Frames and answers that are none, and whose fault that is: real pipelines and workers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from processing import pipeline
from tests.integration.test_pipeline_process import FPS, PICTURES, run, site
from tests.simulators.bundles import PROCESSING, fake_slot
from tests.simulators.onnx_bundles import onnx_slot


def test_a_frame_that_becomes_no_input_of_the_model_is_refused_as_what_it_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path) as made:
            digest = await made.load(onnx_slot)
            (tmp_path / "slots" / digest / "processing.json").write_text(json.dumps({**PROCESSING, "pre": []}))
            await made.link.route(digest, None)
            seen = await made.window(lambda window: window["frames"] > FPS // 2)
            assert seen["refusals"] == {"FRAME_SHAPE": seen["refused"]}, "probation counts these against the model"

    run(scenario())


def test_a_candidate_that_fails_where_the_incumbent_answers_does_not_agree(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path) as made:
            first = float(pipeline.compile(PROCESSING).pre(PICTURES[0]).flat[0])
            old = await made.load(fake_slot)
            new = await made.load(fake_slot, {"do": "nan", "at": "run", "value": first})
            await made.link.route(old, new)
            seen = await made.window(lambda window: window["pairs"] > 2 * len(PICTURES))
            assert 0 < seen["agreed"] < seen["pairs"]
            assert seen["refused"] == 0

    run(scenario())


def test_a_new_state_folder_begins_new_books(tmp_path: Path) -> None:
    """The counters outlive it until a reboot."""

    async def scenario() -> None:
        async with site(tmp_path) as made:
            digest = await made.load(onnx_slot)
            await made.link.route(digest, None)
            await made.rows(20)
            await made.link.close()
            made.ledger.rows.clear()
            made.link = made.new_link()
            await made.link.route(digest, None)
            await made.rows(20)
            await made.link.close()
            made.check_books()

    run(scenario())


def test_a_frame_that_the_crop_does_not_fit_is_refused_and_the_next_one_tried(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async def scenario() -> None:
        async with site(tmp_path) as made:
            digest = await made.load(onnx_slot)
            crop = {"op": "crop", "top": 10, "left": 0, "height": 15, "width": 24}  # the pictures have 24 rows
            spec = {**PROCESSING, "pre": [crop, *PROCESSING["pre"]]}
            (tmp_path / "slots" / digest / "processing.json").write_text(json.dumps(spec))
            await made.link.route(digest, None)
            seen = await made.window(lambda window: window["frames"] > FPS // 2)
            assert seen["refusals"].get("FRAME_SHAPE", 0) > 0
            assert seen["accepted_rows"] == 0
            await made.link.close()
            made.check_books()
            assert made.ledger.rows == []
            assert sum(made.link.refusals.values()) == made.link.counters()["refused"] >= made.link.refusals["FRAME_SHAPE"] > 0
            assert capfd.readouterr().err.count('"frames_unfit"') == 1, "said once, with its reason"

    run(scenario())
