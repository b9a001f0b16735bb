"""Writes the requests for frames as protobuf. The tensor is copied once."""

from functools import lru_cache
from typing import Final

from protos import inference_pb2 as v2
from sluice.protobuf_fields import field_head

_RAW_INPUTS: Final = v2.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER


def infer_request(
    model: str, name: str, datatype: str, shape: tuple[int, ...], raw: bytes | memoryview
) -> bytes:
    """A serialized ModelInferRequest with one tensor. `raw`: its raw contents."""
    size = raw.nbytes if isinstance(raw, memoryview) else len(raw)
    return b"".join((_head(model, name, datatype, shape), field_head(_RAW_INPUTS, size), raw))


@lru_cache(maxsize=1024)  # one for each model and size of a batch
def _head(model: str, name: str, datatype: str, shape: tuple[int, ...]) -> bytes:
    message = v2.ModelInferRequest(model_name=model)
    message.inputs.add(name=name, datatype=datatype, shape=shape)
    return message.SerializeToString()
