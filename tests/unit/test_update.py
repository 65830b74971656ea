"""The update table: each path that matters, told as a story of events."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from contracts.states import State
from edge_agent.core import diagram
from edge_agent.core.orders import Order
from edge_agent.core.record import Record, from_json, to_json
from edge_agent.core.update import (
    Done,
    Effect,
    Event,
    Fault,
    Note,
    Ordered,
    Refused,
    Report,
    Revert,
    Run,
    Start,
    Tick,
    UnforeseenEventError,
    Work,
    step,
)

V1, V2 = "1" * 64, "2" * 64
FIRST = Order(1, "install", "c1/d/1", 1, "bundles/p/m-1.json", V1, 100, activate=True, min_frames=10)
SECOND = replace(FIRST, generation=2, execution="c2/d/1", fence=2, path="bundles/p/m-2.json", digest=V2)


def run(record: Record, *events: Event) -> tuple[Record, list[Effect]]:
    effects: list[Effect] = []
    for event in events:
        record, more = step(record, event)
        effects += more
    return record, effects


def reported(effects: list[Effect]) -> list[tuple[str, str]]:
    return [(effect.state.value, effect.code) for effect in effects if isinstance(effect, Report)]


INSTALL = (Done(), Done(), Done(), Done(), Done(), Done())  # admit, download, seal, prove, activate, probe


def confirmed(*orders: Order) -> Record:
    record = Record()
    for order in orders:
        record, _ = run(record, Ordered(order), *INSTALL)
    assert record.state is State.CONFIRMED
    return record


def test_a_first_install_goes_through_every_state_and_reports_each_once() -> None:
    record, effects = run(Record(), Ordered(FIRST), *INSTALL)
    states = ["OFFERED", "DOWNLOADING", "STAGED", "BUILDING_ENGINE", "ACTIVATING", "PROBATION", "CONFIRMED"]
    assert reported(effects) == [(state, "") for state in states]
    assert (record.live, record.history) == (V1, (V1,))


def test_the_same_order_again_changes_nothing() -> None:
    for events in ((), INSTALL[:1], INSTALL[:4], INSTALL):
        record, _ = run(Record(), Ordered(FIRST), *events)
        assert step(record, Ordered(FIRST)) == (record, ())


def test_shadowing_waits_for_a_newer_assignment_that_says_activate() -> None:
    held = replace(SECOND, activate=False, shadow_pairs=50)
    record, effects = run(confirmed(FIRST), Ordered(held), *INSTALL[:4])
    assert (record.state, record.live) == (State.SHADOWING, V1)
    record, effects = run(record, Start(), Done(), Ordered(held))
    assert (record.state, effects) == (State.SHADOWING, [Run(Work.SHADOW)])
    record, effects = run(record, Ordered(replace(held, generation=3, activate=True)))
    assert (record.state, reported(effects)) == (State.ACTIVATING, [("ACTIVATING", "")])


def test_activate_may_come_before_the_worker_is_proven() -> None:
    held = replace(SECOND, activate=False, shadow_pairs=50)
    record, _ = run(confirmed(FIRST), Ordered(held), Done(), Ordered(replace(held, activate=True)), Done(), Done(), Done())
    assert record.state is State.ACTIVATING


@pytest.mark.parametrize(("done", "ends"), [(0, "REJECTED"), (1, "FAILED"), (2, "FAILED"), (3, "FAILED")])
def test_a_refusal_before_activating_leaves_the_incumbent(done: int, ends: str) -> None:
    record, effects = run(confirmed(FIRST), Ordered(SECOND), *INSTALL[:done], Refused("BUNDLE_GOLDEN", "off by 3"))
    assert reported(effects)[-1] == (ends, "BUNDLE_GOLDEN")
    assert (record.live, record.previous, record.bad_fence(V2)) == (V1, V1, 2)


@pytest.mark.parametrize("done", [4, 5])
@pytest.mark.parametrize("event", [Refused("WORKER_NOT_FINITE"), Fault("WORKER_START")])
def test_a_failure_from_activating_on_rolls_back(done: int, event: Event) -> None:
    record, effects = run(confirmed(FIRST), Ordered(SECOND), *INSTALL[:done], event, Fault("WORKER_START"), Done())
    code = event.code  # type: ignore[union-attr]
    assert reported(effects)[-2:] == [("ROLLING_BACK", code), ("REVERTED", code)]
    assert (record.live, record.history, record.bad_fence(V2)) == (V1, (V1,), 2)


def test_a_full_disk_does_not_condemn_a_bundle() -> None:
    record, _ = run(confirmed(FIRST), Ordered(SECOND), Fault("BUNDLE_NO_SPACE"))
    assert (record.state, record.bad_fence(V2)) == (State.FAILED, None)


def test_a_bad_digest_is_not_installed_again_until_a_new_fence_names_it() -> None:
    record, _ = run(confirmed(FIRST), Ordered(SECOND), *INSTALL[:5], Refused("WORKER_CRASH"), Done())
    assert step(record, Ordered(SECOND)) == (record, ())
    record, _ = run(record, Ordered(replace(SECOND, fence=3, execution="c3/d/1")))
    assert (record.state, record.bad_fence(V2)) == (State.OFFERED, None)


@pytest.mark.parametrize(("done", "ends"), [(0, "TIMED_OUT"), (3, "TIMED_OUT"), (4, "ROLLING_BACK"), (5, "ROLLING_BACK")])
def test_each_state_has_its_deadline(done: int, ends: str) -> None:
    states = ["OFFERED", "DOWNLOADING", "STAGED", "BUILDING_ENGINE", "ACTIVATING", "PROBATION"]
    order = replace(SECOND, deadlines=((states[done], 1000.0),))
    record, effects = run(confirmed(FIRST), Ordered(order), *INSTALL[:done], Tick(999.9))
    assert record.state.value == states[done]
    record, effects = run(record, Tick(1000.0))
    assert reported(effects) == [(ends, "ASSIGNMENT_DEADLINE")]


def test_a_higher_fence_supersedes_before_activating() -> None:
    third = replace(FIRST, generation=3, execution="c3/d/1", fence=3)
    record, effects = run(confirmed(FIRST), Ordered(SECOND), Done(), Ordered(third))
    assert reported(effects)[-2:] == [("SUPERSEDED", ""), ("OFFERED", "")]
    assert (record.execution, record.previous) == ("c3/d/1", V1)


def test_a_higher_fence_in_probation_first_rolls_back_without_condemning() -> None:
    third = replace(FIRST, generation=3, execution="c3/d/1", fence=3, kind="rollback")
    record, effects = run(confirmed(FIRST), Ordered(SECOND), *INSTALL[:5], Ordered(third), Ordered(third), Done())
    assert reported(effects)[-2:] == [("ROLLING_BACK", "ASSIGNMENT_SUPERSEDED"), ("REVERTED", "ASSIGNMENT_SUPERSEDED")]
    assert record.bad_fence(V2) is None
    record, effects = run(record, Ordered(third), *INSTALL)
    assert (record.state, record.live) == (State.CONFIRMED, V1)


def test_a_confirmed_roll_back_forgets_what_came_later() -> None:
    back = replace(FIRST, generation=3, execution="c3/d/1", fence=3, kind="rollback")
    record, _ = run(confirmed(FIRST, SECOND), Ordered(back), *INSTALL)
    assert record.history == (V1,)


def test_kind_none_cancels_before_activating_and_stays_after() -> None:
    none = Order(5, "none")
    _, effects = run(confirmed(FIRST), Ordered(SECOND), Done(), Ordered(none))
    assert reported(effects)[-1] == ("CANCELED", "")
    probation, _ = run(confirmed(FIRST), Ordered(SECOND), *INSTALL[:5])
    assert step(probation, Ordered(none)) == (probation, ())
    assert step(confirmed(FIRST), Ordered(none)) == (confirmed(FIRST), ())


def test_an_unknown_kind_is_reported_once_and_nothing_moves() -> None:
    record, effects = run(confirmed(FIRST), Ordered(Order(7, "teleport")), Ordered(Order(7, "teleport")))
    assert (record.state, effects) == (State.CONFIRMED, [Note("ASSIGNMENT_KIND", "teleport")])


def test_an_older_fence_is_ignored() -> None:
    record = confirmed(FIRST, SECOND)
    assert step(record, Ordered(FIRST)) == (record, ())


def test_a_local_revert_is_an_execution_of_its_own() -> None:
    record, effects = run(confirmed(FIRST, SECOND), Revert("WORKER_CIRCUIT_OPEN"), Done())
    last = [effect for effect in effects if isinstance(effect, Report)][-1]
    assert (last.execution, last.fence, last.state, last.code, last.local) == ("c2/d/1", 2, State.REVERTED, "WORKER_CIRCUIT_OPEN", True)
    assert (record.live, record.history, record.bad_fence(V2)) == (V1, (V1,), 2)
    assert step(record, Ordered(SECOND)) == (record, ())


def test_a_first_model_has_nothing_to_revert_to() -> None:
    record = confirmed(FIRST)
    assert step(record, Revert("WORKER_CIRCUIT_OPEN")) == (record, ())


def test_attempts_are_counted_and_bounded() -> None:
    record, _ = run(Record(), Ordered(FIRST), *INSTALL[:3])
    for _ in range(3):
        record, effects = step(record, Start())
        assert effects == (Run(Work.PROVE),)
    record, effects = step(record, Start())
    assert reported(list(effects)) == [("FAILED", "BUNDLE_SELF_TEST")]


def test_an_unforeseen_event_raises() -> None:
    record, _ = run(confirmed(FIRST, SECOND), Ordered(replace(FIRST, fence=3)))
    with pytest.raises(UnforeseenEventError):
        step(record, Revert("WORKER_CIRCUIT_OPEN"))


def test_a_record_survives_json() -> None:
    record, _ = run(
        confirmed(FIRST), Ordered(replace(SECOND, deadlines=(("STAGED", 5.0),))), Start(), Refused("BUNDLE_PROFILE", "wrong board")
    )
    assert from_json(to_json(record)) == record
    with pytest.raises(ValueError, match="schema"):
        from_json(to_json(record).replace('"schema": 1', '"schema": 2'))


def test_the_diagram_in_the_docs_is_current() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "update-states.md"
    assert page.read_text() == diagram.markdown(), "run: python -m edge_agent.core.diagram > docs/reference/update-states.md"
