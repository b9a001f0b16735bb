"""Converts REST requests for readiness and metadata to ModelReady and ModelMetadata.

The model server answers, and not the gateway: only the server knows whether the model is loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from extproc.convert.converted_message import (
    REMOVED_FROM_REQUEST,
    ConvertedMessage,
    Steps,
    converted_response,
)
from extproc.convert.converter import Converter
from extproc.convert.inference import Headers, InferenceRequest, Query, Reading, ResponseOptions
from extproc.convert.limits import ConversionLimits
from extproc.convert.protobuf import parse_response
from extproc.convert.protobuf_wire import METADATA, Nested
from extproc.convert.signature import Signature
from protos import inference_pb2 as v2
from sluice.contract.paths import OIP_GRPC_PREFIX
from sluice.media_types import JSON, PROTOBUF

NOT_READY = 400
"""HTTP status of a model that is not ready. The protocol says 4xx, and model servers say 400."""

_METHODS: Mapping[Query, str] = {"ready": "ModelReady", "metadata": "ModelMetadata"}


@dataclass(frozen=True, slots=True)
class QueryConverter(Converter):
    """Converts a request without a body to a gRPC call, and the response to JSON."""

    query: Query = "ready"

    @property
    def takes_body(self) -> bool:
        """A query has no body."""
        return False

    def request_steps(self, body: bytes, headers: Headers) -> Steps:
        """The gRPC call, which names the model. The server chooses the version."""
        yield len(body)
        return ConvertedMessage(
            write_query(self.query, self.signature),
            PROTOBUF[0],
            {
                ":method": "POST",
                ":path": f"{OIP_GRPC_PREFIX}{_METHODS[self.query]}",
                "content-type": PROTOBUF[0],
                "te": "trailers",
            },
            (*REMOVED_FROM_REQUEST, "accept-encoding"),
            response_options=ResponseOptions(request_id=headers.get("x-request-id", "")),
        )

    @property
    def _response_fields(self) -> Nested:
        return METADATA if self.query == "metadata" else {}

    def _from_message(self, options: ResponseOptions, body: bytes) -> ConvertedMessage:
        status, document = read_answer(self.query, self.signature, body, self.limits)
        return converted_response(document, JSON, status)


def query_converter(query: Query, signature: Signature, limits: ConversionLimits) -> QueryConverter:
    """The converter of a query to a model server that speaks gRPC."""
    return QueryConverter(f"{query}-grpc", "grpc", signature, limits, 0, _no_tensors, query=query)


def _no_tensors(body: bytes, headers: Headers) -> Reading:
    yield len(body)
    return InferenceRequest([])


def write_query(query: Query, signature: Signature) -> bytes:
    """The request message of a query, with the model and version of the signature."""
    named = {"name": signature.model, "version": signature.version}
    if query == "ready":
        return v2.ModelReadyRequest(**named).SerializeToString()
    return v2.ModelMetadataRequest(**named).SerializeToString()


def read_answer(
    query: Query, signature: Signature, body: bytes, limits: ConversionLimits
) -> tuple[int, bytes]:
    """The HTTP status and the JSON of a response message. Raises ConversionError (502)."""
    if query == "ready":
        ready = v2.ModelReadyResponse()
        parse_response(ready, body, {}, limits)
        document = {"name": signature.model, "ready": ready.ready}
        return 200 if ready.ready else NOT_READY, orjson.dumps(document)
    metadata = v2.ModelMetadataResponse()
    parse_response(metadata, body, METADATA, limits)
    return 200, _metadata(metadata)


def _metadata(message: v2.ModelMetadataResponse) -> bytes:
    """The metadata as the server gives them, in JSON."""
    return orjson.dumps(
        {
            "name": message.name,
            "versions": list(message.versions),
            "platform": message.platform,
            "inputs": [_tensor(entry) for entry in message.inputs],
            "outputs": [_tensor(entry) for entry in message.outputs],
        }
    )


def _tensor(entry: v2.ModelMetadataResponse.TensorMetadata) -> dict[str, object]:
    return {"name": entry.name, "datatype": entry.datatype, "shape": list(entry.shape)}
