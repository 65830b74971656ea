"""What the protocol offers, apart from how it travels: REST and gRPC call the same methods.

Descriptions are JSON-like, in the protocol's words.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from contracts.errors import SkerryError, error
from edge_agent import AGENT_VERSION
from edge_agent.inference.client import HIGH, LOW, Answer, Array
from edge_agent.inference.oip.classes import largest
from edge_agent.inference.oip.datatypes import OF_MANIFEST, from_bytes, to_bytes
from edge_agent.inference.oip.models import Model, Models
from edge_agent.inference.oip.ports import Repository
from edge_agent.inference.oip.regions import Regions
from edge_agent.inference.oip.request import InferRequest, InputTensor, Part, Signature, WantedOutput, known, the_input, the_output
from edge_agent.inference.oip.rest_codec import OutputTensor
from edge_agent.inference.oip.statistics import ModelCounts, Times, exposition
from edge_agent.inference.oip.status import RETRY_ON_A_FRESH_LIST
from edge_agent.inference.oip.trial import Trial

T = TypeVar("T")
Parse = Callable[[Model], InferRequest]
Render = Callable[[Model, str, Sequence[OutputTensor]], T]
Again = Callable[[SkerryError], bool]
EXTENSIONS = ("classification", "model_configuration", "model_repository", "statistics", "system_shared_memory", "binary_tensor_data")
TYPES: Mapping[str, str] = {datatype: f"TYPE_{datatype}" for datatype in OF_MANIFEST.values()}
MAX_NAME = 64
CANARYS_TIME = 0.5  # of the request's: what is left is the live model's, should the candidate fail
_UNLOAD_PARAMETERS = frozenset({"version", "unload_dependents"})


class Limits(NamedTuple):
    timeout_s: float = 10.0  # of a request that names none, and the longest that one may name
    max_request_bytes: int = 64 * 1024**2
    body_s: float = 30.0  # for the head of a request, from the first to the last byte of its body, and for its answer to be taken


class Front:
    def __init__(self, models: Models, repository: Repository, regions: Regions, limits: Limits, trial: Trial | None = None) -> None:
        """Without a `trial` no candidate answers, and nothing is copied to one."""
        self.regions, self.limits = regions, limits
        self._trial = trial or Trial(models)
        self._models, self._repository = models, repository
        self._counts: dict[tuple[str, str], ModelCounts] = {}

    # -- what there is

    async def ready(self) -> bool:
        """The live model is ready."""
        try:
            return any(model.live and model.ready for model in await self._models.all())
        except SkerryError:
            return False

    async def model_ready(self, name: str, version: str) -> bool:
        """Raises RejectedError ARENA_MODEL."""
        return (await self._models.find(name, version)).ready

    def metadata(self) -> dict[str, Any]:
        return {"name": "skerry", "version": AGENT_VERSION, "extensions": list(EXTENSIONS)}

    async def model_metadata(self, name: str, version: str) -> dict[str, Any]:
        """Raises RejectedError ARENA_MODEL."""
        model = await self._models.find(name, version)
        return {
            "name": model.name,
            "versions": [one.version for one in await self._models.all() if one.name == name],
            "platform": model.backend,
            "inputs": [_tensor(model.input)],
            "outputs": [_tensor(model.output)],
        }

    async def config(self, name: str, version: str) -> dict[str, Any]:
        """Raises RejectedError ARENA_MODEL."""
        model = await self._models.find(name, version)
        return {
            "name": model.name,
            "platform": model.backend,
            "backend": model.backend,
            "version_policy": {"specific": {"versions": [int(model.version)]}},
            "max_batch_size": 0,
            "input": [_dimensions(model.input)],
            "output": [_dimensions(model.output)],
        }

    async def statistics(self, name: str = "", version: str = "") -> list[dict[str, Any]]:
        """Of all versions where none is named. Raises RejectedError ARENA_MODEL."""
        models = [await self._models.find(name, version)] if version else await self._models.all()
        if name and not version:
            models = tuple(model for model in models if model.name == name) or (await self._models.find(name, ""),)
        return [self._counts_of(model).message(model.name, model.version) for model in models]

    async def metrics(self) -> str:
        models = {model.digest: (model.name, model.version) for model in await self._models.all()}
        waiting = self._models.pending()
        return exposition(self._counts, {key: waiting.get(digest, 0) for digest, key in models.items()}, self._trial.counts)

    def shared_memory(self, local: bool) -> Regions:
        """Raises RejectedError OIP_REGION_OWNER to callers over TCP: nobody knows who they are."""
        if not local:
            raise error("OIP_REGION_OWNER", "", "shared memory is served over the Unix socket only")
        return self.regions

    # -- repository

    async def index(self, ready_only: bool) -> list[dict[str, Any]]:
        return [dict(one) for one in await self._repository.index() if not ready_only or one["state"] == "READY"]

    async def load(self, name: str, parameters: Mapping[str, Any]) -> None:
        """A model's configuration and files come from its signed bundle alone. Raises RejectedError OIP_PARAMETER, OIP_NOT_ADMITTED."""
        known(parameters, frozenset({"version"}), "load")
        await self._repository.load(*_named(name, parameters))
        self._models.forget()

    async def unload(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Raises RejectedError OIP_PARAMETER, OIP_IN_USE, OIP_NOT_ADMITTED."""
        known(parameters, _UNLOAD_PARAMETERS, "unload")
        await self._repository.unload(*_named(name, parameters))
        self._models.forget()

    # -- inference

    async def infer(self, name: str, version: str, parse: Parse, render: Render[T], local: bool) -> T:
        """`local`: the caller came over the Unix socket, so shared memory may be named. Raises OIP_*, ARENA_*, WORKER_*."""
        model = await self._models.find(name, version)
        try:
            return await self._infer(model, not version, parse, render, local, _swapped)
        except SkerryError as refused:
            if not _swapped(refused):
                raise
        self._models.forget()
        return await self._infer(await self._models.find(name, version), not version, parse, render, local, _never)

    async def _infer(self, model: Model, any_version: bool, parse: Parse, render: Render[T], local: bool, again: Again) -> T:
        """`again`: after which failures the request is asked once more; those are not counted."""
        began_ns = time.monotonic_ns()
        self._models.announce(model)
        try:
            request = parse(model)
        except BaseException as failed:
            self._failed(model, began_ns, failed)
            raise
        begun = _Begun(began_ns, time.monotonic_ns() - began_ns, local)
        candidate = self._trial.canary(model, request.id) if any_version else None
        if candidate is not None:
            try:
                rendered = await self._answer(candidate, request, render, begun, _the_models_fault, CANARYS_TIME)
            except SkerryError as failed:
                if not _the_models_fault(failed):
                    raise
                self._trial.canary_failed(candidate)
                if failed.code in RETRY_ON_A_FRESH_LIST:
                    self._models.forget()  # the trial is over
            else:
                self._trial.canary_answered(candidate)
                return rendered
        return await self._answer(model, request, render, begun, again)

    async def _answer(
        self, model: Model, request: InferRequest, render: Render[T], begun: _Begun, again: Again, share_of_time: float = 1.0
    ) -> T:
        try:
            call = _Call(self.shared_memory, request, model, begun, self.limits.timeout_s, share_of_time)
            seat = await self._models.seat(model)

            def use(answer: Answer) -> T:
                self._trial.answered(model, call.cell, answer)
                rendered = render(model, request.id, call.outputs(answer, seat.labels))
                self._trial.copy(model, seat, call.cell, answer)
                return rendered

            rendered = await seat.infer(call.fill, use, call.deadline_ns, call.priority)
        except BaseException as failed:
            if not (isinstance(failed, SkerryError) and again(failed)):
                self._failed(model, begun.at_ns, failed, hurried=request.timeout_us > 0)
            raise
        self._counts_of(model).answer(call.times(time.monotonic_ns()), time.time_ns() // 1_000_000)
        return rendered

    def _failed(self, model: Model, began_ns: int, failed: BaseException, hurried: bool = False) -> None:
        """`hurried`: the caller has set the deadline."""
        self._counts_of(model).failure(time.monotonic_ns() - began_ns)
        if isinstance(failed, SkerryError):
            self._trial.refused(model, failed, hurried)

    def _counts_of(self, model: Model) -> ModelCounts:
        key = model.name, model.version
        counts = self._counts.get(key)
        if counts is None:
            counts = self._counts[key] = ModelCounts()
        return counts


class _Begun(NamedTuple):
    """A request that has been read."""

    at_ns: int
    read_ns: int  # how long that took
    local: bool


class _Call:
    """One request held against its model: what is written into the cell, and what is made of the answer."""

    cell: Array  # once it is filled

    def __init__(
        self, shared: Callable[[bool], Regions], request: InferRequest, model: Model, begun: _Begun, limit_s: float, share_of_time: float
    ) -> None:
        """Raises RejectedError OIP_TENSOR, OIP_REGION_OWNER."""
        self._model, self._shared, self._begun = model, shared, begun
        self._input: InputTensor = the_input(request, model.input)
        self._wanted: WantedOutput = the_output(request, model.output)
        if self._input.part or self._wanted.part:
            shared(begun.local)
        limit_ns = int(limit_s * 1e9)
        self.deadline_ns = begun.at_ns + int(share_of_time * (min(request.timeout_us * 1000, limit_ns) or limit_ns))
        self.priority = LOW if request.low_priority else HIGH
        self._waits_ns, self._read_ns = time.monotonic_ns(), begun.read_ns
        self._answered_ns = self._queue_ns = self._infer_ns = 0

    def fill(self, cell: Array) -> None:
        self.cell = cell
        before_ns = time.monotonic_ns()
        self._queue_ns = before_ns - self._waits_ns  # for a seat and a cell
        given, part = self._input, self._input.part
        cell[...] = given.values if part is None else self._shared_values(given, part)
        self._read_ns += time.monotonic_ns() - before_ns

    def _shared_values(self, given: InputTensor, part: Part) -> Array:
        return from_bytes(given.name, given.datatype, given.shape, self._shared(self._begun.local).read(part))

    def outputs(self, answer: Answer, labels: tuple[str, ...]) -> tuple[OutputTensor, ...]:
        """Raises RejectedError WORKER_NOT_FINITE: no JSON can say it, and nobody shall take it for an answer."""
        self._answered_ns = time.monotonic_ns()
        self._queue_ns += int(answer.queue_us * 1000)
        self._infer_ns = int(answer.compute_us * 1000)
        if not answer.finite:
            raise error("WORKER_NOT_FINITE", self._model.name)
        wanted, offered = self._wanted, self._model.output
        datatype, values = offered.datatype, answer.output
        if wanted.classes:
            datatype, values = "BYTES", largest(answer.output, wanted.classes, labels)
        if wanted.part is None:
            return (OutputTensor(offered.name, datatype, values.shape, values, wanted.binary),)
        return (OutputTensor(offered.name, datatype, values.shape, None, False, self._written(wanted.part, to_bytes(datatype, values))),)

    def times(self, now_ns: int) -> Times:
        return Times(now_ns - self._begun.at_ns, self._queue_ns, self._read_ns, self._infer_ns, now_ns - self._answered_ns)

    def _written(self, part: Part, data: bytes) -> Part:
        self._shared(self._begun.local).write(part, data)
        return part._replace(byte_size=len(data))


def _named(name: str, parameters: Mapping[str, Any]) -> tuple[str, str]:
    """Raises RejectedError OIP_NOT_ADMITTED for what no model can be called: the agent is not told of it."""
    version = str(parameters.get("version", ""))
    if len(name) > MAX_NAME or len(version) > MAX_NAME:
        raise error("OIP_NOT_ADMITTED", name[:MAX_NAME], "no model has so long a name or version")
    return name, version


def _swapped(failed: SkerryError) -> bool:
    """The version, under our hands."""
    return failed.code in RETRY_ON_A_FRESH_LIST


def _the_models_fault(failed: SkerryError) -> bool:
    """Not the request's own."""
    return not failed.code.startswith("OIP_")


def _never(failed: SkerryError) -> bool:
    return False


def _tensor(signature: Signature) -> dict[str, Any]:
    return {"name": signature.name, "datatype": signature.datatype, "shape": list(signature.shape)}


def _dimensions(signature: Signature) -> dict[str, Any]:
    return {"name": signature.name, "data_type": TYPES[signature.datatype], "dims": list(signature.shape)}
