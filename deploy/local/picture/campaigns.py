"""PURE: the operators' event log and the campaigns' views -> waves over time, phases of devices, versions of bundles, refusals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

from contracts.errors import CODES, RejectedError, TrustError
from contracts.operator import CampaignView, EventView
from contracts.states import TERMINAL
from deploy.local.picture.facts import Campaign, JudgedGate, Mark, Phase, Stretch, seconds

_ENDED = {state.value for state in TERMINAL}
_STANDS = {"SUCCEEDED", "ROLLED_BACK", "ABORTED", "PAUSED"}
_OF_A_WAVE = ("wave_moved", "campaign_moved", "gate_judged")  # their verdicts are shown where the campaign is


def campaigns(events: Sequence[EventView], views: Iterable[CampaignView], until_s: float) -> tuple[Campaign, ...]:
    """In the order in which they were made; `until_s` ends what is still under way."""
    known = {view.id: view for view in views}
    made = [event.subject for event in events if event.event == "campaign_created"]
    return tuple(_campaign(known[name], [event for event in events if event.subject == name], until_s) for name in made if name in known)


def _campaign(view: CampaignView, events: Sequence[EventView], until_s: float) -> Campaign:
    gates = tuple(JudgedGate(wave.number, gate) for wave in view.waves for gate in wave.gates)
    return Campaign(view.id, view.name, view.release, view.state, tuple(_stretches(events, until_s)), gates, _rolled_back(events, until_s))


def _stretches(events: Sequence[EventView], until_s: float) -> Iterator[Stretch]:
    """Each state of each wave, until the wave's next one; PASSED and FAILED last no time."""
    moves = [(seconds(event.utc), event.data) for event in events if event.event == "wave_moved"]
    stands_s = next((seconds(event.utc) for event in events if _stands(event)), until_s)
    for position, (at_s, move) in enumerate(moves):
        later = (after_s for after_s, after in moves[position + 1 :] if after["wave"] == move["wave"])
        ended = move["state"] in ("PASSED", "FAILED")
        yield Stretch(move["wave"], move["state"], at_s, at_s if ended else next(later, max(at_s, stands_s)))


def _stands(event: EventView) -> bool:
    return event.event == "campaign_moved" and event.data.get("state") in _STANDS


def _rolled_back(events: Sequence[EventView], until_s: float) -> tuple[float, float] | None:
    moves = [(seconds(event.utc), event.data.get("state")) for event in events if event.event == "campaign_moved"]
    began = [at_s for at_s, state in moves if state == "ROLLING_BACK"]
    if not began:
        return None
    return began[0], next((at_s for at_s, state in moves if at_s >= began[0] and state in _STANDS), until_s)


def phases(events: Iterable[EventView], until_s: float) -> dict[str, tuple[Phase, ...]]:
    """Device -> its executions' states over time, as the control plane learned of them."""
    moves: dict[str, list[EventView]] = {}
    for event in events:
        if event.event == "execution_moved":
            moves.setdefault(event.subject, []).append(event)
    found: dict[str, list[Phase]] = {}
    for moved in moves.values():
        for event, after in zip_longest(moved, moved[1:]):
            if event.data["state"] not in _ENDED:
                phase = _phase(event, seconds(after.utc) if after else until_s)
                found.setdefault(str(event.data["device"]), []).append(phase)
    return {device: tuple(sorted(those, key=lambda phase: phase.from_s)) for device, those in found.items()}


def _phase(event: EventView, to_s: float) -> Phase:
    data = event.data
    return Phase(str(data["state"]), str(data["kind"]), str(data["target_digest"]), seconds(event.utc), to_s)


def versions(events: Iterable[EventView]) -> tuple[dict[str, str], dict[str, str]]:
    """(bundle digest -> model version as `v2`, release -> the same), in the order of building."""
    bundles: dict[str, str] = {}
    releases: dict[str, str] = {}
    for event in events:
        if event.event in ("release_built", "release_signed"):
            version = "v" + str(event.data["model_version"]).rpartition("/")[2]
            releases[event.subject] = version
            bundles.update(dict.fromkeys(map(str, event.data.get("manifests", {}).values()), version))
    return bundles, releases


def refusals(events: Iterable[EventView]) -> Iterator[Mark]:
    """What the log says was refused: its code says that somebody lies or that something never works."""
    for event in events:
        code = str(event.data.get("code") or "")
        if event.event not in _OF_A_WAVE and code in CODES and CODES[code].kind in (RejectedError, TrustError):
            yield Mark(seconds(event.utc), "refused", code, _device(event), int(event.data.get("count", 1)), CODES[code].meaning)


def _device(event: EventView) -> str:
    """Whom it happened to, or who tried it."""
    named = (str(event.data.get("device", "")), event.subject, event.actor.removeprefix("device:"))
    return next((name for name in named if name.startswith("dev-")), "")
