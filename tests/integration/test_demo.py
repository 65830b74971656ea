"""The whole story, once, on real parts; its JSON is the truth and is looked at here line by line. Runs last: it takes minutes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.local.record import table
from deploy.local.site import AGENTS, CLOUD
from deploy.local.steps.campaigns import SHADOW_PAIRS
from deploy.local.steps.killed import AGENT_BACK_S, WORKER_BACK_S
from deploy.local.steps.ledgers import MAX_PAUSE_US, MIN_ROWS
from tests.integration.chromium_process import load

REPO = Path(__file__).parents[2]
LIMIT_S = 600
PORT_BASE = "23180"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(LIMIT_S + 60)]
Record = dict[str, Any]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, str]:
    """(record, what a person saw)"""
    file = tmp_path_factory.mktemp("demo") / "record.json"
    argv = [sys.executable, "-m", "deploy.local", "demo", "--json", str(file), "--port-base", PORT_BASE]
    argv += ["--picture", str(file.with_name("picture.html"))]
    done = subprocess.run(argv, cwd=REPO, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert file.exists(), done.stdout[-4000:] + done.stderr[-4000:]
    record = json.loads(file.read_text())
    assert done.returncode == (0 if record["ok"] else 1), done.stdout[-4000:] + done.stderr[-4000:]
    return record, done.stdout


@pytest.fixture(scope="module")
def record(told: tuple[Record, str]) -> Record:
    return told[0]


def proof(record: Record, step: str, words: str) -> Record:
    found: list[Record] = [proof for proof in record["proofs"] if proof["step"] == step and words in proof["what"]]
    assert len(found) == 1, f"{step} {words}: {[proof['what'] for proof in record['proofs']]}"
    return found[0]


def test_every_step_came_true(record: Record) -> None:
    failed = [(proof["step"], proof["what"], proof["detail"]) for proof in record["proofs"] if not proof["ok"]]
    assert failed == []
    assert record["ok"] is True
    assert {proof["step"] for proof in record["proofs"]} == {"setup", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "picture"}


def test_steps_that_wait_name_their_event(record: Record) -> None:
    for words in ("v1 on all three", "wave 1", "wave 2", "approved by a person"):
        numbers = [proof["event_no"] for proof in record["proofs"] if words in proof["what"]]
        assert numbers
        assert all(number is not None for number in numbers)


def test_first_model_has_no_incumbent_to_be_compared_with(record: Record) -> None:
    figures = proof(record, "a", "v1 on all three")["figures"]
    assert figures["wave 1 install_success"].startswith("passed")
    for metric in ("agreement", "latency_p95_vs_incumbent"):
        assert figures[f"wave 1 {metric}"].startswith("not_applicable (")


def test_the_latency_gate_saw_its_frames(record: Record) -> None:
    for number in (1, 2):
        said = proof(record, "b", f"wave {number}")["figures"][f"wave {number} latency_p95_us"]
        assert said.startswith("passed: ")
        assert int(said.rpartition("n ")[2]) >= 100


def test_a_wrong_digest_breaks_the_trace(record: Record) -> None:
    good, bad = proof(record, "d", "row ->")["figures"], proof(record, "d", "wrong digest")["figures"]
    assert good["model"] == "model:digits_line/2"
    assert good["data"].startswith("dataset:sha256:")
    assert bad["exit"] != "0"
    assert "image" in bad["missing"]


def test_each_was_busy_when_it_was_killed_and_was_back_in_time(record: Record) -> None:
    busy = {
        "worker killed": "cells_occupied", "pipeline killed": "rows_pending", "agent killed": "accepted_not_acked",
        "ingest killed": "received_not_committed", "broker killed": "sent_not_pubacked",
    }  # fmt: skip
    for words, figure in busy.items():
        assert proof(record, "e", words)["figures"][figure] > 0
    assert proof(record, "e", "control plane killed")["figures"]["open_executions"]
    assert proof(record, "e", "worker killed")["figures"]["back_s"] <= WORKER_BACK_S
    assert proof(record, "e", "agent killed")["figures"]["back_s"] <= AGENT_BACK_S


def test_frames_went_on_while_the_cloud_was_down(record: Record) -> None:
    figures = proof(record, "e", "no pause")["figures"]
    assert {name.split()[0] for name in figures if name.endswith("longest ms")} == {"control", "ingest", "broker"}
    assert all(value * 1000 <= MAX_PAUSE_US for name, value in figures.items() if name.endswith("longest ms"))


LIES = {
    "role signed by a wrong key": {"TUF_UNSIGNED"},
    "one byte of v2's model": {"BUNDLE_MEMBER_DIGEST"},
    "metadata older": {"TUF_ROLLBACK"},
    "past expiry": {"TUF_EXPIRED"},
    "an assignment for another device": {"ASSIGNMENT_DEVICE"},
    "below the raised security epoch": {"BUNDLE_EPOCH"},
    "an approval by an unknown key": {"SIGNER_APPROVAL"},
    "provenance by an unknown builder": {"SIGNER_PROVENANCE"},
    "forged acks": {"ACK_SIGNATURE", "ACK_DEVICE"},
    "forged batches": {"INGEST_SIGNATURE", "INGEST_IDENTITY"},
    "a report for another device": {"REPORT_EXECUTION"},
}


@pytest.mark.parametrize("words", LIES)
def test_each_lie_has_its_code_in_the_log_and_changed_nothing_while_frames_flowed(record: Record, words: str) -> None:
    told = proof(record, "i", words)
    assert told["source"] == "operators' log"
    numbers = {code: int(told["figures"][code].removeprefix("#")) for code in LIES[words]}
    assert told["event_no"] in numbers.values()
    assert told["figures"]["frames"] > 0
    assert told["figures"]["slots"]


def test_no_lie_is_without_a_proof(record: Record) -> None:
    proved = {proof["what"] for proof in record["proofs"] if proof["step"] == "i"}
    others = {what for what in proved if not any(words in what for words in LIES)}
    assert {"older digest" in what or "impostor" in what for what in others} == {True}
    assert proof(record, "i", "forged batches")["figures"]["forged"] == proof(record, "i", "forged batches")["figures"]["refused"]


def test_a_bad_model_is_halted_in_the_shadow_before_it_answers_anything(record: Record) -> None:
    halted = proof(record, "h", "in the shadow")["figures"]
    for metric in ("agreement", "latency_p95_vs_incumbent"):
        said = halted[f"wave 1 {metric}"]
        assert said.startswith("failed: ")
        assert int(said.rpartition("n ")[2]) >= SHADOW_PAIRS
    answered = proof(record, "h", "no live frame")["figures"]
    assert answered == {f"{name} rows by v3": 0 for name in AGENTS}


def test_one_that_went_live_is_halted_and_its_device_returns(record: Record) -> None:
    halted, back = proof(record, "h", "without a shadow")["figures"], proof(record, "h", "is back on its own v2")["figures"]
    assert halted["wave 1 latency_p95_us"].startswith("failed: ")
    assert back["digest"] in proof(record, "c", "all three report v2")["figures"].values()
    assert back["rollback"].startswith(halted["campaign"])
    assert 0 < back["live_frames_by_v3"] == record["facts"]["live_frames_by_the_bad_model"]
    assert 0 < record["facts"]["live_to_halted_s"] < record["facts"]["live_to_confirmed_back_s"]
    assert record["facts"]["alias_to_halted_s"] > 0


def test_the_others_never_saw_the_bad_model(record: Record) -> None:
    figures = proof(record, "h", "never saw")["figures"]
    nothing = {"new_order": False, "requests": 0, "slots": 0}
    assert sorted(seen == nothing for seen in figures.values()) == [False, True, True]


def test_the_cloud_may_go_away_for_ten_seconds(record: Record) -> None:
    figures = proof(record, "j", "as many frames")["figures"]
    for away in ("control", "broker", "control and broker"):
        assert len(figures[f"{away} frames"]) == len(AGENTS)
        for before, without in figures[f"{away} frames"]:
            assert abs(without - before) <= 0.05 * before
        assert figures[f"{away} longest ms"] * 1000 <= MAX_PAUSE_US
        away_s = next(proof["figures"]["away_s"] for proof in record["proofs"] if proof["what"].startswith(f"{away} away for 10 s"))
        assert away_s >= 10


def test_no_row_was_lost_and_none_came_twice(record: Record) -> None:
    figures = proof(record, "f", "bronze + quarantine + gaps")["figures"]
    assert figures["rows"] >= MIN_ROWS
    assert figures["streams"] >= len(AGENTS)


def test_only_what_was_killed_was_restarted(record: Record) -> None:
    restarts = {program["name"]: program["restarts"] for program in record["programs"] if program["restarts"] != ""}
    assert restarts == {name: 1 if name in ("control", "ingest", "broker", "agent-2") else 0 for name in (*CLOUD, *AGENTS)}


def test_programs_run_under_users_of_their_own(record: Record) -> None:
    uids = {program["name"]: program["uid"] for program in record["programs"]}
    assert len(set(uids.values())) == (len(uids) if os.getuid() == 0 else 1)
    assert all(program["uid"] == uids[program["name"]] for program in record["programs"])


def test_the_picture_shows_devices_campaigns_and_kills(record: Record) -> None:
    """It is drawn from the site alone; a browser finds no fault with it."""
    page = Path(proof(record, "picture", "drawn")["figures"]["page"])
    loaded = load(page)
    assert loaded.console == ()
    for words in (*AGENTS, "first-model", "second-model", "worker of agent-1 killed", "agent-2 killed", "broker killed, back in"):
        assert f"{words}" in loaded.dom, words
    assert set(re.findall(r">(v\d) +[0-9a-f]{8}</text>", loaded.dom)) >= {"v1", "v2"}


def test_what_a_person_saw_is_the_record(told: tuple[Record, str]) -> None:
    record, seen = told
    squeezed = "".join(seen.split())
    for _, what, *_ in table(record):
        assert "".join(what.split())[:20] in squeezed
