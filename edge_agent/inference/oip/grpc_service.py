"""gRPC of the Open Inference Protocol: a method of `Service` for each of the service's, found by its name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import grpc
from google.protobuf.json_format import ParseDict

from contracts.errors import RejectedError, SkerryError, error
from edge_agent.inference.oip import grpc_codec
from edge_agent.inference.oip import open_inference_pb2 as pb
from edge_agent.inference.oip.front import Front
from edge_agent.inference.oip.models import Model
from edge_agent.inference.oip.regions import check_no_device_region
from edge_agent.inference.oip.request import InferRequest
from edge_agent.inference.oip.status import status_of, text_of

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
_LOCAL = "unix:"
M = TypeVar("M")


class Service:
    def __init__(self, front: Front) -> None:
        self._front = front

    async def ServerLive(self, request: pb.ServerLiveRequest, local: bool) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest, local: bool) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=await self._front.ready())

    async def ModelReady(self, request: pb.ModelReadyRequest, local: bool) -> pb.ModelReadyResponse:
        """What is not loaded is not ready: clients ask until it is."""
        try:
            return pb.ModelReadyResponse(ready=await self._front.model_ready(request.name, request.version))
        except RejectedError:
            return pb.ModelReadyResponse(ready=False)

    async def ServerMetadata(self, request: pb.ServerMetadataRequest, local: bool) -> pb.ServerMetadataResponse:
        return _filled(self._front.metadata(), pb.ServerMetadataResponse())

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, local: bool) -> pb.ModelMetadataResponse:
        return _filled(await self._front.model_metadata(request.name, request.version), pb.ModelMetadataResponse())

    async def ModelConfig(self, request: pb.ModelConfigRequest, local: bool) -> pb.ModelConfigResponse:
        return _filled({"config": await self._front.config(request.name, request.version)}, pb.ModelConfigResponse())

    async def ModelStatistics(self, request: pb.ModelStatisticsRequest, local: bool) -> pb.ModelStatisticsResponse:
        return _filled({"model_stats": await self._front.statistics(request.name, request.version)}, pb.ModelStatisticsResponse())

    async def ModelInfer(self, request: grpc_codec.Inference, local: bool) -> bytes:
        """A ModelInferResponse, serialised."""

        def read(model: Model) -> InferRequest:
            return grpc_codec.parse(request, model.input.elements)

        def write(model: Model, request_id: str, outputs: Any) -> bytes:
            return grpc_codec.render(model.name, model.version, request_id, outputs)

        return await self._front.infer(request.head.model_name, request.head.model_version, read, write, local)

    async def RepositoryIndex(self, request: pb.RepositoryIndexRequest, local: bool) -> pb.RepositoryIndexResponse:
        return _filled({"models": await self._front.index(request.ready)}, pb.RepositoryIndexResponse())

    async def RepositoryModelLoad(self, request: pb.RepositoryModelLoadRequest, local: bool) -> pb.RepositoryModelLoadResponse:
        await self._front.load(request.model_name, grpc_codec.values_of(request.parameters))
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: pb.RepositoryModelUnloadRequest, local: bool) -> pb.RepositoryModelUnloadResponse:
        await self._front.unload(request.model_name, grpc_codec.values_of(request.parameters))
        return pb.RepositoryModelUnloadResponse()

    async def SystemSharedMemoryStatus(
        self, request: pb.SystemSharedMemoryStatusRequest, local: bool
    ) -> pb.SystemSharedMemoryStatusResponse:
        regions = {region["name"]: region for region in self._front.shared_memory(local).status(request.name)}
        return _filled({"regions": regions}, pb.SystemSharedMemoryStatusResponse())

    async def SystemSharedMemoryRegister(
        self, request: pb.SystemSharedMemoryRegisterRequest, local: bool
    ) -> pb.SystemSharedMemoryRegisterResponse:
        self._front.shared_memory(local).register(request.name, request.key, request.offset, request.byte_size)
        return pb.SystemSharedMemoryRegisterResponse()

    async def SystemSharedMemoryUnregister(
        self, request: pb.SystemSharedMemoryUnregisterRequest, local: bool
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        self._front.shared_memory(local).unregister(request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    async def CudaSharedMemoryStatus(self, request: pb.CudaSharedMemoryStatusRequest, local: bool) -> pb.CudaSharedMemoryStatusResponse:
        check_no_device_region(request.name)
        return pb.CudaSharedMemoryStatusResponse()

    async def CudaSharedMemoryRegister(
        self, request: pb.CudaSharedMemoryRegisterRequest, local: bool
    ) -> pb.CudaSharedMemoryRegisterResponse:
        check_no_device_region(request.name or "a region")
        return pb.CudaSharedMemoryRegisterResponse()

    async def CudaSharedMemoryUnregister(
        self, request: pb.CudaSharedMemoryUnregisterRequest, local: bool
    ) -> pb.CudaSharedMemoryUnregisterResponse:
        check_no_device_region(request.name)
        return pb.CudaSharedMemoryUnregisterResponse()


def _filled(values: dict[str, Any], message: M) -> M:
    ParseDict(values, message)
    return message


def handler(front: Front) -> grpc.GenericRpcHandler:
    service = Service(front)
    unary = {method.name: _unary(method, getattr(service, method.name)) for method in SERVICE.methods if not method.server_streaming}
    return grpc.method_handlers_generic_handler(SERVICE.full_name, unary)  # what it lacks, grpc answers with UNIMPLEMENTED


def _unary(method: Any, call: Callable[[Any, bool], Awaitable[Any]]) -> grpc.RpcMethodHandler:
    kind = getattr(pb, method.input_type.name)
    read = grpc_codec.read_inference if kind is pb.ModelInferRequest else partial(grpc_codec.read, kind)

    async def answer(data: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await call(read(data), context.peer().startswith(_LOCAL))
        except SkerryError as failed:
            refused = failed
        except MemoryError:
            refused = error("OIP_MEMORY")
        return await context.abort(grpc.StatusCode[status_of(refused).grpc], text_of(refused))

    return grpc.unary_unary_rpc_method_handler(answer, None, _serialised)


def _serialised(answer: Any) -> bytes:
    return answer if isinstance(answer, bytes) else bytes(answer.SerializeToString())
