"""Messages with replaced bodies are the same as those that protobuf writes."""

import pytest

from extproc.services.ext_proc import messages
from protos.base_pb2 import HeaderValue, HeaderValueOption
from protos.ext_proc_pb2 import (
    BodyMutation,
    BodyResponse,
    CommonResponse,
    HeaderMutation,
    ProcessingResponse,
)


def replaced(body: bytes, **headers: str) -> BodyResponse:
    options = [
        HeaderValueOption(
            header=HeaderValue(key=name.replace("_", "-"), raw_value=value.encode()),
            append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        for name, value in headers.items()
    ]
    mutation = HeaderMutation(set_headers=options, remove_headers=["a", "b"])
    common = CommonResponse(header_mutation=mutation, body_mutation=BodyMutation(body=body))
    return BodyResponse(response=common)


@pytest.mark.parametrize("size", [0, 1, 100, 127, 128, 20_000, 3 << 20])
def test_a_replaced_body_is_written_as_protobuf_writes_it(size: int) -> None:
    body = bytes(size)
    expected = ProcessingResponse(request_body=replaced(body, x="1"))
    assert messages.request_body(body, [("x", "1")], ["a", "b"]) == expected.SerializeToString()
    expected = ProcessingResponse(response_body=replaced(body, x="1", content_length=str(size)))
    assert messages.response_body(body, [("x", "1")], ["a", "b"]) == expected.SerializeToString()
