"""Messages with replaced bodies are the same as those that protobuf writes."""

import time
from collections.abc import Callable

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
    expected = ProcessingResponse(
        response_body=replaced(body, x="1", x_sluice_body_length=str(size))
    )
    assert messages.response_body(body, [("x", "1")], ["a", "b"]) == expected.SerializeToString()


def test_a_large_body_is_copied_once() -> None:
    """protobuf would copy it for each message around it, while the event loop waits."""
    body = bytes(40 << 20)
    once = cpu_seconds(lambda: body + b"x")
    assert cpu_seconds(lambda: messages.response_body(body, [], [])) < 5 * once


def cpu_seconds(work: Callable[[], bytes]) -> float:
    """CPU time of this thread for one run: the best of several."""
    times = []
    for _ in range(5):
        started = time.thread_time()
        work()
        times.append(time.thread_time() - started)
    return min(times)
