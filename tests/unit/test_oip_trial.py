"""A candidate beside the live model, asked over REST in memory: who answers, what is copied, what is shed, what is counted."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.errors import error
from edge_agent.inference.oip.canary import chosen
from edge_agent.inference.oip.compare import Comparison, Verdict, by_largest
from edge_agent.inference.oip.front import Front, Limits
from edge_agent.inference.oip.models import Models
from edge_agent.inference.oip.regions import Regions
from edge_agent.inference.oip.rest import RestApp
from edge_agent.inference.oip.shadow import MAX_BYTES, MAX_COPIES, Shadow
from edge_agent.inference.oip.trial import Shares, Trial
from tests.simulators.bundles import OUTPUT_SHAPE, fake_slot
from tests.simulators.oip import INPUT, SimArenas, SimSeatClient, listed
from tests.unit.test_oip_front import Caller, SimRepository

LIVE, CANDIDATE = "tiny-1", "tiny-2"
WAIT_S = 10.0


def ids(wanted: bool, share: float = 0.5) -> str:
    """An id that the candidate answers, or one that it does not."""
    return next(one for one in map(str, range(1000)) if chosen(one, CANDIDATE, share) is wanted)


class Bench(Caller):
    """The front with its shadow's thread; `draw` 0 draws every request."""

    def __init__(self, shares: Shares, *models: dict[str, Any], timeout_s: float = 5.0, cells: int = 2) -> None:
        self.arenas = SimArenas(*(models or (listed(), listed(number=2, live=False, candidate=True))), cells=cells)
        loop = asyncio.get_running_loop()
        self.shadow = Shadow(self.arenas.attach, lambda copy, outcome: loop.call_soon_threadsafe(self.trial.compared, copy, outcome))
        self.models = Models(self.arenas, 4, spare=self.shadow.hand_over)
        self.trial = Trial(self.models, shares, self.shadow, lambda: 0.0)
        front = Front(self.models, SimRepository(), Regions([]), Limits(timeout_s, 1000, 0.1), self.trial)
        self.app = RestApp(front, True)

    async def ask(self, request_id: str = "", version: str = "") -> Any:
        """The version that answered, or the code."""
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
        path = f"/v2/models/tiny{version and '/versions/' + version}/infer"
        _, answer = await self("POST", path, json.dumps({"id": request_id, "inputs": [tensor]}).encode())
        return answer.get("model_version", answer.get("code"))

    @property
    def counts(self) -> Any:
        return self.trial.counts["tiny", "2"]

    def client(self, digest: str) -> SimSeatClient:
        """The seat that was taken last."""
        return self.arenas.clients[digest][-1]

    async def until(self, condition: Callable[[], Any]) -> None:
        until = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < until
            await asyncio.sleep(0.002)


@asynccontextmanager
async def bench(shares: Shares, *models: dict[str, Any], timeout_s: float = 5.0, cells: int = 2) -> AsyncIterator[Bench]:
    here = Bench(shares, *models, timeout_s=timeout_s, cells=cells)
    shadowing = asyncio.ensure_future(asyncio.to_thread(here.shadow.run))
    try:
        yield here
    finally:
        for clients in here.arenas.clients.values():
            for client in clients:
                client.hold_up.set()
        here.shadow.close()
        await shadowing
        here.models.close()


# -- canary


def test_the_candidate_answers_its_share_of_the_ids_and_only_where_no_version_is_named() -> None:
    async def scenario() -> None:
        async with bench(Shares(canary=0.5)) as here:
            assert [await here.ask(ids(True)) for _ in range(3)] == ["2"] * 3
            assert [await here.ask(ids(False)) for _ in range(3)] == ["1"] * 3
            assert (await here.ask(ids(True), "1"), await here.ask("")) == ("1", "1")
            assert (here.counts.canary_answered, here.counts.canary_failed) == (3, 0)

    asyncio.run(scenario())


@pytest.mark.parametrize("failure", ["WORKER_CRASH", "ARENA_BUSY", "ARENA_DETACHED", "WORKER_MODEL", "NaN", "hangs"])
def test_what_the_candidate_cannot_answer_the_live_model_answers(failure: str) -> None:
    async def scenario() -> None:
        async with bench(Shares(canary=0.5), timeout_s=0.4) as here:
            assert await here.ask(ids(True)) == "2"
            client = here.client(CANDIDATE)
            client.finite, client.at_once = failure != "NaN", failure != "hangs"
            client.failure = error(failure) if "_" in failure else None
            assert await here.ask(ids(True)) == "1"
            assert (here.counts.canary_answered, here.counts.canary_failed) == (1, 1)
            _, stats = await here("GET", "/v2/models/tiny/stats")
            assert sum(one["inference_stats"]["fail"]["count"] for one in stats["model_stats"]) == 0, "no caller saw it"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "beside",
    [
        listed(number=2, live=False),  # loaded by hand: no update tries it
        listed(number=2, live=False, candidate=True, state="restarting"),
        listed("other", number=2, live=False, candidate=True),
        {**listed(number=2, live=False, candidate=True), "input": {**INPUT, "shape": [1, 5]}},
    ],
)
def test_a_model_that_is_no_candidate_or_not_ready_or_unlike_answers_nothing(beside: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with bench(Shares(canary=0.5), listed(), beside) as here:
            assert {await here.ask(str(number)) for number in range(20)} == {"1"}

    asyncio.run(scenario())


def test_a_request_that_is_wrong_is_no_failure_of_the_candidate() -> None:
    async def scenario() -> None:
        async with bench(Shares(canary=0.5)) as here:
            wrong = {"id": ids(True), "inputs": [{"name": "z", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
            _, answer = await here("POST", "/v2/models/tiny/infer", json.dumps(wrong).encode())
            assert (answer["code"], here.trial.counts, here.trial.windows()) == ("OIP_TENSOR", {}, [])

    asyncio.run(scenario())


def test_the_trial_ends_with_the_candidate() -> None:
    async def scenario() -> None:
        async with bench(Shares(1.0, 0.5)) as here:
            assert await here.ask(ids(True)) == "2"
            here.arenas.loaded = [listed()]
            here.client(CANDIDATE).hang_up()
            assert [await here.ask(ids(True)) for _ in range(2)] == ["1", "1"]
            assert here.models.pair.candidate is None
            assert (here.counts.canary_failed, here.counts.sent) == (1, 0)

    asyncio.run(scenario())


# -- shadow


def test_a_copy_is_compared_off_the_path_at_low_priority() -> None:
    async def scenario() -> None:
        async with bench(Shares(shadow=1.0)) as here:
            assert await here.ask() == "1"
            await here.until(lambda: here.counts.compared)
            client = here.client(CANDIDATE)
            assert client.asked == ["low"]
            client.hold_up.clear()
            began = time.monotonic()
            assert await here.ask() == "1"
            assert time.monotonic() - began < 1  # the candidate is held up for five
            await here.until(lambda: len(client.asked) == 2)
            assert (here.counts.sent, here.counts.compared, here.counts.agreed) == (2, 1, 1)
            client.hold_up.set()
            await here.until(lambda: here.counts.compared == 2)

    asyncio.run(scenario())


def test_what_finds_no_room_is_shed_without_a_word_to_the_caller() -> None:
    async def scenario() -> None:
        async with bench(Shares(shadow=1.0)) as here:
            await here.ask()
            await here.until(lambda: here.counts.compared)
            client = here.client(CANDIDATE)
            client.hold_up.clear()
            await here.ask()
            await here.until(lambda: len(client.asked) == 2)
            assert {await here.ask() for _ in range(MAX_COPIES + 3)} == {"1"}
            assert (here.counts.sent, here.counts.shed["QUEUE_FULL"]) == (MAX_COPIES + 2, 3)
            assert not here.shadow.room(8)

    asyncio.run(scenario())


def test_no_copies_are_made_while_callers_wait_for_the_live_model() -> None:
    async def scenario() -> None:
        async with bench(Shares(shadow=1.0), cells=1) as here:
            await here.ask()
            await here.until(lambda: here.counts.compared)
            client = here.client(LIVE)
            client.at_once = False
            asked = [asyncio.ensure_future(here.ask()) for _ in range(2)]
            await here.until(lambda: here.models.pending()[LIVE] == len(asked))
            for one in asked:
                await here.until(lambda: client.waiting)
                client.settle()
                await one
            assert [await one for one in asked] == ["1", "1"]
            assert (here.counts.sent, dict(here.counts.shed)) == (2, {"CALLERS_WAIT": 1})

    asyncio.run(scenario())


def test_the_queue_is_bounded_by_bytes_too_and_takes_one_copy_of_any_size() -> None:
    shadow = Shadow(SimArenas().attach, lambda copy, outcome: None)
    assert shadow.room(10 * MAX_BYTES)
    shadow.put(None)  # type: ignore[arg-type]  # something waits
    assert shadow.room(MAX_BYTES // 2)
    assert not shadow.room(MAX_BYTES // 2 + 1)


def test_where_every_seat_is_taken_the_shadows_goes_over_to_the_callers_when_the_trial_is_over() -> None:
    async def scenario() -> None:
        async with bench(Shares(shadow=1.0)) as here:
            here.arenas.seats = 1
            await here.ask()
            await here.until(lambda: here.counts.compared)
            assert await here.ask(version="2") == "ARENA_SEATS"
            here.arenas.loaded = [listed(number=2)]
            here.models.forget()
            assert [await here.ask() for _ in range(3)] == ["2"] * 3
            assert len(here.arenas.clients[CANDIDATE]) == 1
            assert here.shadow.hand_over(CANDIDATE) is None

    asyncio.run(scenario())


@pytest.mark.parametrize("code", ["ARENA_BUSY", "ARENA_TIMEOUT", "ARENA_DETACHED"])
def test_a_copy_that_gets_no_answer_is_shed_with_its_code_and_is_no_pair(code: str) -> None:
    async def scenario() -> None:
        async with bench(Shares(shadow=1.0)) as here:
            await here.ask()
            await here.until(lambda: here.counts.compared)
            here.client(CANDIDATE).failure = error(code)
            await here.ask()
            await here.until(lambda: here.counts.shed)
            assert (here.counts.compared, dict(here.counts.shed)) == (1, {code: 1})
            assert sum(window["pairs"] for window in here.trial.windows()) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("failure", ["WORKER_CRASH", "WORKER_MODEL", "NaN"])
def test_a_candidate_that_fails_where_the_live_model_answers_does_not_agree(failure: str) -> None:
    async def scenario() -> None:
        async with bench(Shares(shadow=1.0)) as here:
            await here.ask()
            await here.until(lambda: here.counts.compared)
            client = here.client(CANDIDATE)
            client.finite, client.failure = failure != "NaN", error(failure) if "_" in failure else None
            await here.ask()
            await here.until(lambda: here.counts.compared == 2)
            (window,) = here.trial.windows()
            assert (window["pairs"], window["agreed"], here.counts.agreed) == (2, 1, 1)

    asyncio.run(scenario())


def test_nothing_is_copied_of_what_was_not_drawn_or_not_answered_by_the_live_model() -> None:
    async def scenario() -> None:
        async with bench(Shares(shadow=0.0)) as here:
            await here.ask()
            assert here.trial.counts == {}
        async with bench(Shares(shadow=1.0)) as here:
            assert (await here.ask("", "2"), here.trial.counts) == ("2", {})
            await here.ask()
            here.client(LIVE).finite = False
            assert (await here.ask(), here.counts.sent) == ("WORKER_NOT_FINITE", 1)

    asyncio.run(scenario())


# -- what is told


def test_windows_hold_what_both_models_did() -> None:
    async def scenario() -> None:
        async with bench(Shares(1.0, 0.5)) as here:
            for request in (ids(True), ids(False), "", ""):
                await here.ask(request)
            await here.until(lambda: here.counts.compared == 3)
            here.client(LIVE).failure = error("WORKER_CRASH")
            assert await here.ask() == "WORKER_CRASH"
            (window,) = here.trial.windows()
            assert (window["bundle_digest"], window["shadow_digest"]) == (LIVE, CANDIDATE)
            assert (window["frames"], window["pairs"], window["agreed"], window["refusals"]) == (4, 3, 3, {"WORKER_CRASH": 1})
            assert (sum(window["latency"]), sum(window["shadow_latency"]), window["score_shift"]) == (3, 4, [3, 0.0, 0.0])
            assert here.trial.windows() == []

    asyncio.run(scenario())


def test_without_a_candidate_the_live_model_is_counted_alone() -> None:
    async def scenario() -> None:
        async with bench(Shares(1.0, 0.5), listed()) as here:
            await here.ask("a")
            here.client(LIVE).finite = False
            await here.ask("b")
            (window,) = here.trial.windows()
            assert (window["shadow_digest"], window["frames"], window["not_finite"], window["refused"]) == ("", 2, 1, 1)
            assert (sum(window["latency"]), window["pairs"], here.trial.counts) == (2, 0, {})

    asyncio.run(scenario())


def test_what_the_caller_is_to_blame_for_is_not_held_against_the_live_model() -> None:
    async def scenario() -> None:
        async with bench(Shares(1.0), listed()) as here:
            await here.ask()
            here.trial.windows()
            client = here.client(LIVE)
            client.failure = error("WORKER_MODEL")
            assert await here.ask() == "WORKER_MODEL"
            client.failure, client.finite = None, False
            nan = np.array([1, np.nan, 3, 4], "<f4").tobytes()
            _, answer = await here("POST", "/v2/models/tiny/infer", nan, headers={b"inference-header-content-length": b"0"})
            client.at_once = False
            tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
            hurried = json.dumps({"inputs": [tensor], "parameters": {"timeout": 1000}}).encode()
            _, late = await here("POST", "/v2/models/tiny/infer", hurried)
            assert (answer["code"], late["code"], here.trial.windows()) == ("WORKER_NOT_FINITE", "ARENA_TIMEOUT", [])

    asyncio.run(scenario())


def test_prometheus_shows_the_trial() -> None:
    async def scenario() -> None:
        async with bench(Shares(1.0, 0.5)) as here:
            await here.ask(ids(True))
            await here.ask()
            await here.until(lambda: here.counts.compared)
            here.counts.shed["ARENA_BUSY"] += 1
            _, text = await here("GET", "/metrics")
            for name in ("shadow_sent", "shadow_compared", "shadow_agreed", "canary_answered"):
                assert f'skerry_oip_{name}{{model="tiny",version="2"}} 1' in text
            assert 'skerry_oip_canary_failed{model="tiny",version="2"} 0' in text
            assert 'skerry_oip_shadow_shed{model="tiny",version="2",code="ARENA_BUSY"} 1' in text

    asyncio.run(scenario())


# -- how answers are compared


def test_the_bundles_own_processing_compares(tmp_path: Path) -> None:
    """Its scores go through a softmax: a constant more in each logit is the same answer."""
    _, slot, manifest = fake_slot(tmp_path)
    route = {"slot": str(slot), "input": manifest.input.model_dump(), "output": manifest.output.model_dump()}
    logits = np.linspace(0, 1, int(np.prod(OUTPUT_SHAPE)), dtype="<f4").reshape(OUTPUT_SHAPE)
    verdict, without = (Comparison(route, other)(logits, logits + 1) for other in (route, {**route, "slot": "/nowhere"}))
    assert verdict
    assert verdict.agreed
    assert verdict.shift == pytest.approx(0, abs=1e-6)
    assert without == Verdict(True, 1.0)


@pytest.mark.parametrize(
    ("one", "other", "agreed"),
    [
        ([[1, 2]], [[3, 4]], True), ([[1, 2]], [[4, 3]], False), ([[1, 2], [2, 1]], [[1, 2], [1, 2]], False),
        ([[1, 2]], [[1, 2, 3]], None), ([[1]], [[2]], None),
    ],
)  # fmt: skip
def test_outputs_agree_when_the_largest_of_each_row_is_the_same(one: Any, other: Any, agreed: bool | None) -> None:
    verdict = by_largest(np.array(one, "<f4"), np.array(other, "<f4"))
    assert (verdict and verdict.agreed) == agreed
