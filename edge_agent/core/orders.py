"""From a verified assignment to an order: what the update table needs of it, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from contracts.assignment import KINDS, Assignment
from contracts.errors import error


@dataclass(frozen=True)
class Order:
    """`kind` may be unknown to this agent: the table answers ASSIGNMENT_KIND. Deadlines are seconds since 1970 UTC."""

    generation: int
    kind: str
    execution: str = ""
    fence: int = 0
    path: str = ""
    digest: str = ""
    length: int = 0
    activate: bool = False
    shadow_pairs: int = 0
    min_s: float = 0.0
    min_frames: int = 0
    epoch_floor: int = 0
    deadlines: tuple[tuple[str, float], ...] = ()


def parse(raw: bytes) -> Assignment:
    """Raises RejectedError ASSIGNMENT_INVALID."""
    try:
        return Assignment.model_validate_json(raw)
    except ValidationError as invalid:
        raise error("ASSIGNMENT_INVALID", "assignment.json", str(invalid.errors()[0]["msg"])) from invalid


def order_of(assignment: Assignment, device: str) -> Order:
    """Raises TrustError ASSIGNMENT_DEVICE when it is another device's, RejectedError ASSIGNMENT_INVALID when it makes no sense."""
    if assignment.device != device:
        raise error("ASSIGNMENT_DEVICE", assignment.device, f"this is {device}")
    head = Order(assignment.desired_generation, assignment.kind, epoch_floor=assignment.security_epoch_floor)
    if assignment.kind == "none" or assignment.kind not in KINDS:
        return head
    models = [component for component in assignment.components if component.name == "model"]
    if len(models) != 1 or not assignment.execution or assignment.fence < 1:
        raise error("ASSIGNMENT_INVALID", assignment.execution, "one model component, an execution and a fence are needed")
    return Order(
        generation=assignment.desired_generation,
        kind=assignment.kind,
        execution=assignment.execution,
        fence=assignment.fence,
        path=models[0].target,
        digest=models[0].sha256,
        length=models[0].length,
        activate=assignment.activate,
        shadow_pairs=assignment.shadow_pairs,
        min_s=assignment.probation.min_s,
        min_frames=assignment.probation.min_frames,
        epoch_floor=assignment.security_epoch_floor,
        deadlines=tuple(sorted((state.value, when.timestamp()) for state, when in assignment.deadline_utc.items())),
    )
