"""The server's table of an execution: terminal states are for ever, nothing moves back."""

from __future__ import annotations

import pytest

from contracts.states import TERMINAL, State
from control_plane.domain.execution import BEFORE_ACTIVATING, REPORTED, SERVER, Execution, moved, reported

PATH = (State.OFFERED, State.DOWNLOADING, State.STAGED, State.BUILDING_ENGINE, State.SHADOWING, State.ACTIVATING, State.PROBATION)
SERVER_STATES = set(State) - {State.IDLE}


def execution(state: State) -> Execution:
    return Execution("c/dev/1", "dev", 1, "install", "t" * 64, "p" * 64, 1, state)


def test_every_state_has_its_rows() -> None:
    assert set(REPORTED) == set(SERVER) == SERVER_STATES


@pytest.mark.parametrize("state", sorted(TERMINAL))
@pytest.mark.parametrize("to", sorted(SERVER_STATES))
def test_terminal_states_never_change(state: State, to: State) -> None:
    assert reported(execution(state), to, "", "") is None
    with pytest.raises(ValueError, match="cannot move"):
        moved(execution(state), to)


def test_no_report_moves_an_execution_back() -> None:
    for index, state in enumerate(PATH):
        assert not set(PATH[: index + 1]) & REPORTED[state]


def test_states_may_be_skipped_but_not_the_offer() -> None:
    late = reported(execution(State.OFFERED), State.CONFIRMED, "", "")
    assert late is not None
    assert late.state is State.CONFIRMED
    assert reported(execution(State.QUEUED), State.CONFIRMED, "", "") is None


def test_failed_only_before_activating() -> None:
    for state in PATH:
        assert (State.FAILED in REPORTED[state]) == (state in BEFORE_ACTIVATING)


def test_the_server_itself_never_confirms() -> None:
    assert all(State.CONFIRMED not in to and State.PROBATION not in to for to in SERVER.values())
