"""A detector goes the whole way: trained, registered, built, signed, rolled out to one device, and its rows read from Delta.

Then its successor beside it in the shadow: the agreement gate counts frames on which both found the same boxes. What the lake holds
is, byte for byte, what the builder's side computes from the same pictures.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deltalake import DeltaTable
from PIL import Image

from contracts.canonical import canonical_json, sha256_hex
from contracts.features import FeatureSchema, bronze
from contracts.manifest import Manifest
from contracts.operator import CampaignView
from control_plane.build.evaluate import Evaluator
from deploy.local.steps import campaigns, enrolled, first_model, ledgers, released, setup
from deploy.local.story import Story
from processing import pipeline, windows
from tests.integration.local_site import local_site

PORT_BASE, SEED = 23_280, 21
AGENT, LIMIT_S, CAMPAIGN_S, MIN_ROWS = "agent-1", 400, 120, 200
GATES = ("install_success=1", "agreement=0.2@100", "latency_p95_vs_incumbent=5@100")
COLUMNS = (
    "frame_no",
    "bundle_digest",
    "count",
    "count_bolt",
    "count_nut",
    "count_washer",
    "best_class",
    "best_score",
    "best_left",
    "boxes",
)
PICTURES = 60  # that are computed again
WHOLE = 6  # its place in a window's row

pytestmark = [pytest.mark.slow, pytest.mark.timeout(LIMIT_S)]


@dataclass(frozen=True)
class Told:
    first: Manifest
    second: Manifest
    shadow: CampaignView
    rows: list[dict[str, Any]]
    wanted: list[str]  # of each picture: the column `boxes` that the builder's side comes to, by the first model
    windows: dict[str, tuple[list[Any], list[Any]]]  # by bundle: rows of the window's table, and what the rows of frames come to
    confirmed: str
    digests: dict[int, str]  # model version -> bundle digest


@pytest.fixture(scope="module")
def told() -> Told:
    return asyncio.run(_tell())


async def _belt(story: Story) -> None:
    story.example = "belt_parts"


async def _tell() -> Told:
    async with local_site(PORT_BASE, SEED, (_belt, setup.run)) as story:
        await enrolled.run(story, [AGENT])
        await first_model.run(story)
        shadow = await _successor(story)
        kept = await ledgers.drained(story, [AGENT])
        await ledgers.equal(story, kept, MIN_ROWS)
        await ledgers.frames(story, kept)
        rows = await asyncio.to_thread(_rows, story.site.lake / "bronze_belt_parts")
        first, second = (Manifest(**json.loads(_blob(story, story.digests[version]))) for version in (1, 2))
        windowed = {
            story.digests[version]: await asyncio.to_thread(_windowed, story, manifest) for version, manifest in ((1, first), (2, second))
        }
        device = await story.api.get(f"/v1/devices/{story.devices[AGENT]}")
        wanted = await asyncio.to_thread(_computed, story, first)
        return Told(first, second, shadow, rows, wanted, windowed, device["confirmed_digest"], story.digests)


async def _successor(story: Story) -> CampaignView:
    await story.training
    await released.register(story, 2)
    await released.release(story, 2)
    since = story.feed.last
    async with story.proving("h", "v2 in the shadow of v1", CAMPAIGN_S, ["control", AGENT]) as proof:
        campaign = await campaigns.begin(story, "second", 2, ["all"], GATES, shadow_pairs=100)
        seen = await campaigns.ended(story, proof, campaign, since)
        story.digests[2] = seen.waves[0].executions[0].target_digest
        return seen


def _blob(story: Story, digest: str) -> bytes:
    return next((story.site.state("control") / "blobs").rglob(digest)).read_bytes()


def _rows(table: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = DeltaTable(str(table)).to_pyarrow_table(columns=list(COLUMNS)).to_pylist()
    return rows


def _windowed(story: Story, manifest: Manifest) -> tuple[list[Any], list[Any]]:
    """The training side's way: the bundle's own processing, over the rows of its frames."""
    frames, windowed = (_table(story, schema, manifest) for schema in (manifest.feature_schema, manifest.window_schemas[0]))
    spec = pipeline.read(_blob(story, manifest.members["processing.json"].sha256))
    (window,) = windows.compile(spec, [column.model_dump() for column in manifest.feature_schema.columns])
    return windowed, windows.windows_of(window, frames)


def _table(story: Story, schema: FeatureSchema, manifest: Manifest) -> list[Any]:
    """Rows by this bundle, in the order of the schema's columns and of the frames."""
    of_bundle = [("bundle_digest", "=", sha256_hex(canonical_json(manifest.model_dump(mode="json"))))]
    table = DeltaTable(str(story.site.lake / bronze(schema).name)).to_pyarrow_table(
        columns=[column.name for column in schema.columns], filters=of_bundle
    )
    return sorted(list(row.values()) for row in table.to_pylist())


def _computed(story: Story, manifest: Manifest) -> list[str]:
    """The builder's way: its processing, its evaluation of the very member, over the device's pictures."""
    paths = sorted(story.site.frames(AGENT).glob("*.png"))[:PICTURES]
    frames = [np.asarray(Image.open(path)) for path in paths]
    processing = pipeline.compile(pipeline.read(_blob(story, manifest.members["processing.json"].sha256)))
    model = _blob(story, manifest.members[manifest.variants[0].member].sha256)
    outputs = Evaluator(Path(sys.executable), 60).run(model, manifest.input, manifest.output, processing.many(frames)).outputs
    answers = [processing.post(output, processing.view(frame.shape)) for output, frame in zip(outputs, frames, strict=True)]
    return [json.dumps(answer["boxes"], separators=(",", ":")) for answer in answers]


def test_the_detector_was_built_with_figures_of_frames_and_of_boxes(told: Told) -> None:
    for manifest in (told.first, told.second):
        measured = manifest.evaluation
        assert measured.samples == 400
        assert measured.accuracy_low is not None
        assert measured.accuracy_high is not None
        assert 0.7 < measured.accuracy_low < measured.accuracy < measured.accuracy_high < 1
        assert measured.f1_low is not None
        assert measured.f1_high is not None
        assert 0.9 < measured.f1_low < (measured.f1 or 0) < measured.f1_high < 1
        assert manifest.tolerance.top1_agreement == 0, "the largest value of a grid names nothing"
        assert manifest.tolerance.answer_agreement >= 0.75
    assert told.second.evaluation.accuracy > told.first.evaluation.accuracy


def test_agreement_of_the_two_detectors_is_what_packaging_measured(told: Told) -> None:
    gates = {gate.metric: gate for gate in told.shadow.waves[0].gates}
    assert {metric: gate.verdict for metric, gate in gates.items()} == {
        "install_success": "passed", "agreement": "passed", "latency_p95_vs_incumbent": "passed",
    }  # fmt: skip
    expected = told.second.evaluation.expected_agreement["model:belt_parts/1"]
    assert 2 * told.first.evaluation.accuracy - 1 <= expected < 1
    assert gates["agreement"].value == pytest.approx(expected, abs=0.2)
    assert told.confirmed == told.digests[2]


def test_a_row_of_the_lake_is_a_frame_with_its_counts_and_its_best_box(told: Told) -> None:
    assert len({row["frame_no"] for row in told.rows}) == len(told.rows) >= MIN_ROWS
    for row in told.rows:
        boxes = json.loads(row["boxes"])
        assert row["count"] == len(boxes) == row["count_bolt"] + row["count_nut"] + row["count_washer"]
        best = boxes[0] if boxes else [None] * 6
        assert (row["best_class"], row["best_score"], row["best_left"]) == (best[0], approx(best[1]), approx(best[2]))
    assert {0, 1, 2} <= {row["count"] for row in told.rows}, "empty frames are rows, too"


def approx(value: float | None) -> Any:
    return None if value is None else pytest.approx(value, abs=1e-4)


def test_what_the_lake_holds_is_byte_for_byte_what_the_builder_computes(told: Told) -> None:
    seen = {row["frame_no"] % setup.FRAMES: row["boxes"] for row in told.rows if row["bundle_digest"] == told.digests[1]}
    compared = [(seen[number], wanted) for number, wanted in enumerate(told.wanted) if number in seen]
    assert len(compared) >= PICTURES // 2
    assert [pair for pair in compared if pair[0] != pair[1]] == []


def test_windows_of_the_lake_are_what_its_rows_of_frames_come_to(told: Told) -> None:
    for seen, computed in told.windows.values():
        assert [row[:WHOLE] for row in seen] == [row[:WHOLE] for row in computed]
        assert [row[WHOLE + 1 :] for row in seen] == [[approx_double(value) for value in row[WHOLE + 1 :]] for row in computed]
        assert all(row[WHOLE] for row in seen[1:-1]), "between the first and the last one nothing began or ended"
    assert any(row[WHOLE] and row[5] > 50 for seen, _ in told.windows.values() for row in seen), "five seconds of 20 frames"


def approx_double(value: Any) -> Any:
    return pytest.approx(value, abs=1e-9) if isinstance(value, float) else value
