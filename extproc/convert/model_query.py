"""Messages of ModelReady and ModelMetadata, for REST requests for readiness and metadata.

The model server answers, and not the gateway: only the server knows whether the model is loaded.
"""

import orjson

from extproc.convert.errors import bad_model_response
from extproc.convert.inference import Query
from extproc.convert.protobuf import parse
from extproc.convert.signature import Signature
from protos import inference_pb2 as v2

NOT_READY = 400
"""HTTP status of a model that is not ready. The protocol says 4xx, and model servers say 400."""


def write_query(query: Query, signature: Signature) -> bytes:
    """The request message of a query, with the model and version of the signature."""
    named = {"name": signature.model, "version": signature.version}
    if query == "ready":
        return v2.ModelReadyRequest(**named).SerializeToString()
    return v2.ModelMetadataRequest(**named).SerializeToString()


def read_answer(query: Query, signature: Signature, body: bytes) -> tuple[int, bytes]:
    """The HTTP status and the JSON of a response message. Raises ConversionError (502)."""
    if query == "ready":
        ready = v2.ModelReadyResponse()
        if not parse(ready, body):
            raise bad_model_response("must be a ModelReadyResponse")
        document = {"name": signature.model, "ready": ready.ready}
        return 200 if ready.ready else NOT_READY, orjson.dumps(document)
    metadata = v2.ModelMetadataResponse()
    if not parse(metadata, body):
        raise bad_model_response("must be a ModelMetadataResponse")
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
