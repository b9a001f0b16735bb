"""The gRPC service of a model version: GRPCInferenceService of the V2 protocol."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
from google.protobuf.message import Message
from grpc.aio import ServicerContext as Context

from protos import inference_pb2 as pb

from .faults import InjectedFaultError
from .proto_codec import parse_inputs, write_outputs
from .served_model import PLATFORM, SERVER_NAME, SERVER_VERSION, ServedModel
from .tensors import InvalidInputError, NotFoundError, TensorSpec

SERVICE = "inference.GRPCInferenceService"

Q = TypeVar("Q", bound=Message)
R = TypeVar("R")


class GrpcService:
    """The method handlers. Each exception of this package ends a call with its gRPC status."""

    def __init__(self, model: ServedModel) -> None:
        self._served = model

    def handler(self) -> grpc.GenericRpcHandler:
        """The handler for `grpc.aio.Server.add_generic_rpc_handlers`."""
        methods = {
            "ServerLive": _unary(self.server_live, pb.ServerLiveRequest),
            "ServerReady": _unary(self.server_ready, pb.ServerReadyRequest),
            "ModelReady": _unary(self.model_ready, pb.ModelReadyRequest),
            "ServerMetadata": _unary(self.server_metadata, pb.ServerMetadataRequest),
            "ModelMetadata": _unary(self.model_metadata, pb.ModelMetadataRequest),
            "ModelInfer": _unary(self.model_infer, pb.ModelInferRequest),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def server_live(self, _: pb.ServerLiveRequest, __: Context) -> pb.ServerLiveResponse:
        """A server that responds is live."""
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, _: pb.ServerReadyRequest, __: Context) -> pb.ServerReadyResponse:
        """A server that responds is ready: the model is loaded before the server listens."""
        return pb.ServerReadyResponse(ready=True)

    async def model_ready(self, request: pb.ModelReadyRequest, _: Context) -> pb.ModelReadyResponse:
        """Whether the model is ready; NOT_FOUND for another model or version."""
        self._served.check_name(request.name, request.version)
        return pb.ModelReadyResponse(ready=True)

    async def server_metadata(
        self, _: pb.ServerMetadataRequest, __: Context
    ) -> pb.ServerMetadataResponse:
        """Name and version of the server."""
        return pb.ServerMetadataResponse(name=SERVER_NAME, version=SERVER_VERSION)

    async def model_metadata(
        self, request: pb.ModelMetadataRequest, _: Context
    ) -> pb.ModelMetadataResponse:
        """Inputs and outputs of the model. `echo` declares none."""
        self._served.check_name(request.name, request.version)
        model = self._served.model
        return pb.ModelMetadataResponse(
            name=self._served.name,
            versions=[self._served.version],
            platform=PLATFORM,
            inputs=[_tensor_metadata(spec) for spec in (model.inputs if model else ())],
            outputs=[_tensor_metadata(spec) for spec in (model.outputs if model else ())],
        )

    async def model_infer(
        self, request: pb.ModelInferRequest, context: Context
    ) -> pb.ModelInferResponse:
        """Runs the model. The outputs are raw if the inputs were raw, and typed otherwise."""
        self._served.check_name(request.model_name, request.model_version)
        metadata = {key: str(value) for key, value in context.invocation_metadata() or ()}
        response = pb.ModelInferResponse(
            model_name=self._served.name, model_version=self._served.version, id=request.id
        )
        model = self._served.model
        if model is None:
            await self._served.inject_faults(metadata)
            _copy_inputs(request, response)
            return response
        inputs, names = parse_inputs(request), [output.name for output in request.outputs]
        outputs = await self._served.infer(model, inputs, names, metadata)
        write_outputs(response, outputs, raw=bool(request.raw_input_contents))
        return response


def _copy_inputs(request: pb.ModelInferRequest, response: pb.ModelInferResponse) -> None:
    for entry in request.inputs:
        output = response.outputs.add(name=entry.name, datatype=entry.datatype, shape=entry.shape)
        if entry.HasField("contents"):
            output.contents.CopyFrom(entry.contents)
    response.raw_output_contents.extend(request.raw_input_contents)


def _tensor_metadata(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(
        name=spec.name, datatype=spec.datatype, shape=spec.shape
    )


def _unary(
    method: Callable[[Q, Context], Awaitable[Message]], request: type[Q]
) -> grpc.RpcMethodHandler:
    return grpc.unary_unary_rpc_method_handler(
        _with_status(method),
        request_deserializer=request.FromString,
        response_serializer=lambda response: response.SerializeToString(),
    )


def _with_status(
    method: Callable[[Q, Context], Awaitable[R]],
) -> Callable[[Q, Context], Awaitable[R]]:
    async def handle(request: Q, context: Context) -> R:
        try:
            return await method(request, context)
        except InvalidInputError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except NotFoundError as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        except InjectedFaultError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        raise AssertionError("abort raises")

    return handle
