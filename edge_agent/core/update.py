"""The device's update state machine, as a table.

Rules
- `step(record, event)` returns the next record and the effects. The caller makes the record durable first, in one
  transaction with the reports among the effects, and only then runs the work. So every work may run twice.
- A state has one piece of work (WORK). The loop begins it with `Start`, which counts the attempt; what comes of it
  returns as Done, Refused (this content does not work here) or Fault (this machine is at fault).
- A state does not choose its successor: TRANSITIONS does. An event without a row is a bug and raises.
- Terminal states never change. A new order begins a new execution; so does a local roll back after CONFIRMED.
- FAILED ends an execution only before ACTIVATING; from there on it goes through ROLLING_BACK to REVERTED(code).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from contracts.assignment import KINDS
from contracts.states import TERMINAL, State
from edge_agent.core.orders import Order
from edge_agent.core.record import Record, counted, with_bad, with_confirmed


class Work(str, Enum):
    ADMIT = "admit"  # fetch and judge the manifest, check the space
    DOWNLOAD = "download"  # members into .staging
    SEAL = "seal"  # verify the model signature, move the whole slot to its final name
    PROVE = "prove"  # load the worker: engine, golden vectors, limits
    SHADOW = "shadow"  # copies of the frames to the candidate
    ACTIVATE = "activate"  # swap `current`, route live frames to the candidate
    PROBE = "probe"  # judge it on live frames
    ROLL_BACK = "roll_back"  # swap back, route to the previous one, unload the candidate
    TIDY = "tidy"  # only the live model stays loaded; slots that nothing names are deleted


# -- events


@dataclass(frozen=True)
class Ordered:
    """A verified assignment; the same one may come any number of times."""

    order: Order


@dataclass(frozen=True)
class Start:
    """The loop is about to begin the work of the present state."""


@dataclass(frozen=True)
class Done:
    """The work of the present state is finished."""


@dataclass(frozen=True)
class Refused:
    code: str
    detail: str = ""


@dataclass(frozen=True)
class Fault:
    code: str
    detail: str = ""


@dataclass(frozen=True)
class Tick:
    """Seconds since 1970 UTC."""

    utc_s: float


@dataclass(frozen=True)
class Revert:
    """The incumbent is given up on this device by itself (open circuit, damaged slot).

    `barred`: digests of the history to which nothing returns, each with its code: BUNDLE_EPOCH when its security epoch is below the
    device's floor, BUNDLE_MEMBER_DIGEST when its slot is damaged or gone.
    """

    code: str
    detail: str = ""
    barred: tuple[tuple[str, str], ...] = ()


Event = Ordered | Start | Done | Refused | Fault | Tick | Revert

# -- effects


@dataclass(frozen=True)
class Report:
    """A transition to report; stored in the same transaction as the record."""

    execution: str
    fence: int
    state: State
    code: str = ""
    detail: str = ""
    local: bool = False


@dataclass(frozen=True)
class Note:
    """Something to report that is no transition."""

    code: str
    detail: str = ""
    event: str = "assignment_refused"


@dataclass(frozen=True)
class Run:
    work: Work


Effect = Report | Note | Run


class On(str, Enum):
    """What an event means for the record it meets: `meaning` decides, by values alone."""

    START = "start"
    EXHAUSTED = "attempts used up"
    DONE = "done"
    HOLD = "done, not yet to be activated"
    REFUSED = "refused"
    FAULT = "local fault"
    DEADLINE = "deadline"
    OFFER = "newer order"
    ACTIVATE = "told to activate"
    WITHDRAWN = "order withdrawn"
    UNKNOWN = "order of unknown kind"
    REVERT = "local revert"
    BARRED = "local revert, but the way back is barred"
    KEEP = "nothing new"


_S, _O = State, On
ANY_TERMINAL = (_S.IDLE, *sorted(TERMINAL, key=lambda state: list(State).index(state)))

# fmt: off
WORK: dict[State, Work] = {
    _S.OFFERED:         Work.ADMIT,
    _S.DOWNLOADING:     Work.DOWNLOAD,
    _S.STAGED:          Work.SEAL,
    _S.BUILDING_ENGINE: Work.PROVE,
    _S.SHADOWING:       Work.SHADOW,
    _S.ACTIVATING:      Work.ACTIVATE,
    _S.PROBATION:       Work.PROBE,
    _S.ROLLING_BACK:    Work.ROLL_BACK,
    **{state: Work.TIDY for state in ANY_TERMINAL},
}

# Beginnings of a work that may kill the machine; network work is bounded by its deadline alone, a roll back never gives up.
MAX_ATTEMPTS: dict[State, int] = {
    _S.STAGED: 5, _S.BUILDING_ENGINE: 3, _S.SHADOWING: 8, _S.ACTIVATING: 3, _S.PROBATION: 5,
}

# Starts in a row that were cut off before the agent had tidied up; then the confirmed model is taken for the reason.
MAX_STARTS = 8

TRANSITIONS: dict[tuple[State, On], State] = {
    # state               what happens          next state
    (_S.OFFERED,         _O.DONE):              _S.DOWNLOADING,
    (_S.OFFERED,         _O.REFUSED):           _S.REJECTED,
    (_S.DOWNLOADING,     _O.DONE):              _S.STAGED,
    (_S.STAGED,          _O.DONE):              _S.BUILDING_ENGINE,
    (_S.BUILDING_ENGINE, _O.DONE):              _S.ACTIVATING,
    (_S.BUILDING_ENGINE, _O.HOLD):              _S.SHADOWING,
    (_S.SHADOWING,       _O.HOLD):              _S.SHADOWING,
    (_S.SHADOWING,       _O.DONE):              _S.ACTIVATING,
    (_S.SHADOWING,       _O.ACTIVATE):          _S.ACTIVATING,
    (_S.ACTIVATING,      _O.DONE):              _S.PROBATION,
    (_S.PROBATION,       _O.DONE):              _S.CONFIRMED,
    (_S.ROLLING_BACK,    _O.DONE):              _S.REVERTED,
    **{(state, on): _S.FAILED
       for state in (_S.DOWNLOADING, _S.STAGED, _S.BUILDING_ENGINE, _S.SHADOWING) for on in (_O.REFUSED, _O.FAULT, _O.EXHAUSTED)},
    (_S.OFFERED,         _O.FAULT):             _S.FAILED,
    **{(state, on): to
       for state in (_S.OFFERED, _S.DOWNLOADING, _S.STAGED, _S.BUILDING_ENGINE, _S.SHADOWING)
       for on, to in ((_O.DEADLINE, _S.TIMED_OUT), (_O.WITHDRAWN, _S.CANCELED), (_O.OFFER, _S.OFFERED))},
    **{(state, _O.ACTIVATE): state
       for state in (_S.OFFERED, _S.DOWNLOADING, _S.STAGED, _S.BUILDING_ENGINE, _S.ACTIVATING, _S.PROBATION, _S.ROLLING_BACK)},
    **{(state, on): _S.ROLLING_BACK
       for state in (_S.ACTIVATING, _S.PROBATION) for on in (_O.REFUSED, _O.FAULT, _O.EXHAUSTED, _O.DEADLINE, _O.OFFER)},
    **{(state, _O.WITHDRAWN): state for state in (_S.ACTIVATING, _S.PROBATION)},
    **{(_S.ROLLING_BACK, on): _S.ROLLING_BACK for on in (_O.REFUSED, _O.FAULT, _O.DEADLINE, _O.OFFER, _O.WITHDRAWN)},
    **{(state, _O.OFFER): _S.OFFERED for state in ANY_TERMINAL},
    **{(state, on): state for state in ANY_TERMINAL for on in (_O.DONE, _O.WITHDRAWN, _O.ACTIVATE)},
    **{(state, _O.REVERT): _S.ROLLING_BACK for state in ANY_TERMINAL},
    **{(state, _O.BARRED): state for state in ANY_TERMINAL},
    **{(state, on): state for state in WORK for on in (_O.START, _O.KEEP, _O.UNKNOWN)},
}
# fmt: on


class UnforeseenEventError(RuntimeError):
    """A bug: the table has no row for this. It ends the process; the record resumes."""


def step(record: Record, event: Event) -> tuple[Record, tuple[Effect, ...]]:
    """The next record and what is to be done. Raises UnforeseenEventError for an event without a row."""
    on = meaning(record, event)
    to = TRANSITIONS.get((record.state, on))
    if to is None:
        raise UnforeseenEventError(f"{event} in {record.state.value} ({on.value})")
    if on is On.START:
        return counted(record), (Run(WORK[record.state]),)
    if on is On.OFFER and to is State.OFFERED:
        return _begin(record, event)
    if on is On.REVERT:
        return _begin_revert(record, event)
    if on is On.UNKNOWN:
        return _note(record, event)
    if on is On.BARRED:
        return _note_barred(record, event)
    return _stay(record, event) if to is record.state else _move(record, event, on, to)


def gives_up(record: Record) -> Revert | None:
    """A confirmed model that takes the machine down at each start is given up, as an open circuit would give it up."""
    starts = record.attempts_in(record.state)
    if not record.terminal or starts < MAX_STARTS:
        return None
    return Revert("BUNDLE_SELF_TEST", f"{starts} starts in a row were cut off")


def meaning(record: Record, event: Event) -> On:
    if isinstance(event, Ordered):
        return _meaning_of_order(record, event.order)
    if isinstance(event, Start):
        return On.EXHAUSTED if record.attempts_in(record.state) >= MAX_ATTEMPTS.get(record.state, 1 << 62) else On.START
    if isinstance(event, Tick):
        deadline = record.deadline()
        return On.DEADLINE if deadline is not None and event.utc_s >= deadline else On.KEEP
    if isinstance(event, Done):
        holds = record.state in (State.BUILDING_ENGINE, State.SHADOWING) and not record.activate
        return On.HOLD if holds else On.DONE
    if isinstance(event, Revert):
        return On.REVERT if _earlier(record, event.barred) else On.BARRED if _earlier(record) else On.KEEP
    return On.REFUSED if isinstance(event, Refused) else On.FAULT


def _meaning_of_order(record: Record, order: Order) -> On:
    if order.kind not in KINDS:
        return On.UNKNOWN if order.generation > record.noted_generation else On.KEEP
    if order.kind == "none":
        return On.WITHDRAWN
    if order.fence > record.fence:
        return On.OFFER
    told = order.activate and (order.execution, order.fence) == (record.execution, record.fence)
    return On.ACTIVATE if told and not record.activate and not record.local else On.KEEP


def _earlier(record: Record, barred: tuple[tuple[str, str], ...] = ()) -> str:
    """Where a local roll back goes: the newest confirmed digest before the incumbent that did not fail here and is not barred."""
    candidates = [digest for digest in record.history[:-1] if record.bad_fence(digest) is None and digest not in dict(barred)]
    return candidates[-1] if candidates else ""


def _begin(record: Record, event: Event) -> tuple[Record, tuple[Effect, ...]]:
    assert isinstance(event, Ordered)
    order = event.order
    begun = Record(
        state=State.OFFERED, kind=order.kind, execution=order.execution, fence=order.fence, path=order.path, target=order.digest,
        length=order.length, previous=record.confirmed, activate=order.activate, shadow_pairs=order.shadow_pairs, min_s=order.min_s,
        min_frames=order.min_frames, deadlines=order.deadlines, history=record.history, noted_generation=record.noted_generation,
        bad=tuple((digest, fence) for digest, fence in record.bad if digest != order.digest or fence >= order.fence),
    )  # fmt: skip
    superseded = () if record.terminal else (_report(replace(record, state=State.SUPERSEDED)),)
    return begun, (*superseded, _report(begun))


def _begin_revert(record: Record, event: Event) -> tuple[Record, tuple[Effect, ...]]:
    assert isinstance(event, Revert)
    given_up = record.confirmed
    begun = Record(
        state=State.ROLLING_BACK, kind="local_rollback", execution=record.execution, fence=record.fence, target=given_up,
        previous=_earlier(record, event.barred), code=event.code, detail=event.detail, history=record.history, bad=record.bad,
        noted_generation=record.noted_generation,
    )  # fmt: skip
    begun = with_bad(begun, given_up)
    return begun, (_report(begun),)


def _note(record: Record, event: Event) -> tuple[Record, tuple[Effect, ...]]:
    assert isinstance(event, Ordered)
    return replace(record, noted_generation=event.order.generation), (Note("ASSIGNMENT_KIND", event.order.kind),)


def _note_barred(record: Record, event: Event) -> tuple[Record, tuple[Effect, ...]]:
    assert isinstance(event, Revert)
    wanted = _earlier(record)
    return record, (Note(dict(event.barred)[wanted], f"from {record.confirmed} back to {wanted}", "roll_back_refused"),)


def _stay(record: Record, event: Event) -> tuple[Record, tuple[Effect, ...]]:
    """Same state. A newer assignment of the same execution may say activate, and other deadlines; who has tidied up has started."""
    if record.terminal and isinstance(event, Done):
        return replace(record, attempts=()), ()
    same = isinstance(event, Ordered) and (event.order.execution, event.order.fence) == (record.execution, record.fence)
    if record.terminal or record.local or not isinstance(event, Ordered) or not same:
        return record, ()
    return replace(record, activate=record.activate or event.order.activate, deadlines=event.order.deadlines), ()


def _move(record: Record, event: Event, on: On, to: State) -> tuple[Record, tuple[Effect, ...]]:
    code, detail = _reason(record, event, on)
    moved = replace(record, state=to, code=code or record.code, detail=detail or record.detail)
    if on is On.ACTIVATE:
        moved = replace(moved, activate=True)
    if _condemns(on, to):
        moved = with_bad(moved, record.target)
    if to is State.CONFIRMED:
        moved = with_confirmed(moved)
    if to is State.REVERTED and record.local:
        moved = replace(moved, history=record.history[: record.history.index(record.previous) + 1])
    return moved, (_report(moved),)


def _reason(record: Record, event: Event, on: On) -> tuple[str, str]:
    if isinstance(event, Refused | Fault):
        return event.code, event.detail
    if on is On.DEADLINE:
        return "ASSIGNMENT_DEADLINE", f"in {record.state.value}"
    if on is On.EXHAUSTED:
        return "BUNDLE_SELF_TEST", f"{record.attempts_in(record.state)} attempts in {record.state.value} were cut off"
    return ("ASSIGNMENT_SUPERSEDED", "") if on is On.OFFER else ("", "")


def _condemns(on: On, to: State) -> bool:
    """A digest is remembered as bad when its content was refused or when it failed live; a full disk does not condemn it."""
    return on in (On.REFUSED, On.EXHAUSTED) or (to is State.ROLLING_BACK and on is not On.OFFER)


def _report(record: Record) -> Report:
    return Report(record.execution, record.fence, record.state, record.code, record.detail, record.local)
