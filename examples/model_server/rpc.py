"""The gRPC side of an endpoint: GRPCInferenceService, its handlers registered by method path."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
from google.protobuf.message import Message
from grpc.aio import ServicerContext as Context

from protos import inference_pb2 as pb

from .endpoint import PLATFORM, SERVER_NAME, SERVER_VERSION, Endpoint
from .faults import InjectedFaultError
from .proto_codec import parse_inputs, write_outputs
from .tensors import InvalidInputError, NotFoundError, TensorSpec

SERVICE = "inference.GRPCInferenceService"

Q = TypeVar("Q", bound=Message)
R = TypeVar("R")


class GrpcEndpoint:
    """The methods of one endpoint; a fault of the request ends in the status it deserves."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def handler(self) -> grpc.GenericRpcHandler:
        """What `grpc.aio.Server.add_generic_rpc_handlers` takes."""
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
        """Always, while it answers."""
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, _: pb.ServerReadyRequest, __: Context) -> pb.ServerReadyResponse:
        """It listens only once its model is loaded."""
        return pb.ServerReadyResponse(ready=True)

    async def model_ready(self, request: pb.ModelReadyRequest, _: Context) -> pb.ModelReadyResponse:
        """NOT_FOUND for another model or version."""
        self.endpoint.check(request.name, request.version)
        return pb.ModelReadyResponse(ready=True)

    async def server_metadata(
        self, _: pb.ServerMetadataRequest, __: Context
    ) -> pb.ServerMetadataResponse:
        """Name and version of this server."""
        return pb.ServerMetadataResponse(name=SERVER_NAME, version=SERVER_VERSION)

    async def model_metadata(
        self, request: pb.ModelMetadataRequest, _: Context
    ) -> pb.ModelMetadataResponse:
        """What the model takes and gives; `echo` declares nothing."""
        self.endpoint.check(request.name, request.version)
        model = self.endpoint.model
        return pb.ModelMetadataResponse(
            name=self.endpoint.name,
            versions=[self.endpoint.version],
            platform=PLATFORM,
            inputs=[_described(spec) for spec in (model.inputs if model else ())],
            outputs=[_described(spec) for spec in (model.outputs if model else ())],
        )

    async def model_infer(
        self, request: pb.ModelInferRequest, context: Context
    ) -> pb.ModelInferResponse:
        """Answers raw where the request was raw, typed where it was typed."""
        self.endpoint.check(request.model_name, request.model_version)
        asked = {key: str(value) for key, value in context.invocation_metadata() or ()}
        response = pb.ModelInferResponse(
            model_name=self.endpoint.name, model_version=self.endpoint.version, id=request.id
        )
        model = self.endpoint.model
        if model is None:
            await self.endpoint.faults.strike(asked)
            _copy_inputs(request, response)
            return response
        names = [output.name for output in request.outputs]
        outputs = await self.endpoint.infer(model, parse_inputs(request), names, asked)
        write_outputs(response, outputs, raw=bool(request.raw_input_contents))
        return response


def _copy_inputs(request: pb.ModelInferRequest, response: pb.ModelInferResponse) -> None:
    for entry in request.inputs:
        output = response.outputs.add(name=entry.name, datatype=entry.datatype, shape=entry.shape)
        if entry.HasField("contents"):
            output.contents.CopyFrom(entry.contents)
    response.raw_output_contents.extend(request.raw_input_contents)


def _described(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
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
    async def answer(request: Q, context: Context) -> R:
        try:
            return await method(request, context)
        except InvalidInputError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except NotFoundError as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        except InjectedFaultError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        raise AssertionError("abort always raises")

    return answer
