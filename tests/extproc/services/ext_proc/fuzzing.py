"""Streams of ext_proc as a hostile client can cause them: mutated headers and bodies.

The number of a stream determines it, so that a failure can be reproduced.
"""

import asyncio
import gzip
import inspect
import logging
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from random import Random

from extproc.policy.current import CurrentPolicy
from extproc.rpc import RpcError, StatusCode
from extproc.services.decider import Decider
from extproc.services.ext_proc.service import ExternalProcessor
from protos.ext_proc_pb2 import (
    HttpBody,
    HttpHeaders,
    HttpTrailers,
    ProcessingRequest,
)
from protos.inference_pb2 import ModelInferRequest, ModelInferResponse, ModelReadyRequest
from tests.extproc.auth.tokens import NOW
from tests.extproc.decision.requests import API_KEY, VERSIONS, bearer, document
from tests.extproc.services.ext_proc.recorded_call import RecordedCall
from tests.mutation import mutated

_METHODS = (*["ModelInfer"] * 8, *["ModelStreamInfer"] * 8, "ModelReady", "ServerLive", "None")
_GRPC = b"application/grpc"
_MEDIA = (_GRPC, _GRPC, b"application/json", b"application/x-protobuf")
_MAX_BODY = 20_000


class _Failures(logging.Handler):
    """Keeps the errors that the services log instead of raising them."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


class Fuzzer:
    """Checks numbered streams, and counts the responses by kind."""

    def __init__(self) -> None:
        self.kinds: Counter[str | None] = Counter()
        grpc_version = {"v1": {**VERSIONS["v1"], "protocol": "grpc"}}
        inputs = [{"name": "x", "datatype": "INT32", "shape": [-1]}]
        current_policy = CurrentPolicy()
        current_policy.apply(
            document(
                {
                    "m": {"websocket": True, "max_body": 1000, "paths": ["/classify"]},
                    "g": {"versions": grpc_version, "max_body": _MAX_BODY},
                    "t": {"versions": grpc_version, "inputs": inputs, "max_body": _MAX_BODY},
                }
            )
        )
        self._loop = asyncio.new_event_loop()
        self._processor = ExternalProcessor(Decider(current_policy, lambda: NOW))
        self._failures = _Failures()
        logger = logging.getLogger("extproc")
        logger.addHandler(self._failures)
        logger.propagate = False

    def check(self, number: int) -> None:
        """Run a stream. Raises AssertionError for a response or an error that breaks a rule."""
        source = Random(number)
        call = RecordedCall()
        handler = self._processor.open(call)
        try:
            for message in _messages(source):
                awaitable = handler.on_message(message)
                if inspect.isawaitable(awaitable):
                    self._loop.run_until_complete(_completed(awaitable))
                if _is_refused(call) or source.random() < 0.02:
                    break
            handler.on_cancel()
        except RpcError as error:
            self._failures.messages += [error.details] * (error.code != StatusCode.INVALID_ARGUMENT)
        assert not self._failures.messages, self._failures.messages
        self.kinds.update(each.WhichOneof("response") for each in call.responses)


def _is_refused(call: RecordedCall) -> bool:
    return bool(call.responses) and call.responses[-1].HasField("immediate_response")


async def _completed(awaitable: object) -> None:
    await awaitable  # type: ignore[misc]


def _messages(source: Random) -> Iterator[bytes]:
    """The parts of one request as Envoy sends them."""
    model, media = source.choice("gt"), source.choice(_MEDIA)
    pieces = list(_pieces(source, model, media))
    headers = _headers(source, model, media, end=not pieces)
    parts = [ProcessingRequest(request_headers=headers)]
    for index, piece in enumerate(pieces):
        last = index == len(pieces) - 1 and source.random() < 0.95
        parts.append(ProcessingRequest(request_body=HttpBody(body=piece, end_of_stream=last)))
    parts += _response_parts(source) if pieces else []
    if source.random() < 0.05:
        parts.append(ProcessingRequest(request_trailers=HttpTrailers()))
    return (part.SerializeToString() for part in parts)


def _headers(source: Random, model: str, media: bytes, *, end: bool) -> HttpHeaders:
    if source.random() < 0.05:
        model = source.choice(("m", "g", "t", "none"))
    path = f"/v2/models/{model}/infer"
    if media == _GRPC:
        path = f"/inference.GRPCInferenceService/{source.choice(_METHODS)}"
    fields = [(":method", b"POST"), (":path", path.encode()), ("content-type", media)]
    if media == _GRPC:
        fields += [
            ("x-model-name", model.encode()),
            ("grpc-encoding", source.choice((b"gzip", b"gzip", b"gzip", b"deflate", b"br"))),
        ]
    if source.random() < 0.2:
        fields.append(("authorization", _bearer(source)))
    if source.random() < 0.02:
        fields.append(("x-api-key", API_KEY.encode()))
    for name in ("content-length", "x-model-version", "x-user", "upgrade", "grpc-timeout", "x!"):
        if source.random() < 0.02:
            fields.append((name, source.choice((b"1", b"v1", b"websocket", b"1S", b"\xff\xfe"))))
    message = HttpHeaders(end_of_stream=end)
    for name, value in fields:
        content = bytes(mutated(value, source, [b"m"])) if source.random() < 0.01 else value
        message.headers.headers.add(key=name, raw_value=content)
    return message


_BEARER = bearer().encode()


def _bearer(source: Random) -> bytes:
    """The valid token, or a mutated one."""
    return bytes(mutated(_BEARER, source, [_BEARER])) if source.random() < 0.5 else _BEARER


def _pieces(source: Random, model: str, media: bytes) -> Iterator[bytes]:
    """The request body: gRPC messages in pieces of any size, or one document."""
    content = _document(model, media)
    if media == _GRPC:
        count = 1 if source.random() < 0.6 else source.choice((0, 2, 5, 50))
        content = b"".join(_framed(source, model) for _ in range(count))
    if source.random() < 0.3:
        content = bytes(mutated(content, source, [content, _infer("g")]))
    while content:
        size = source.choice((len(content), 1, 5, 100, 5000)) if media == _GRPC else len(content)
        yield content[:size]
        content = content[size:]


def _document(model: str, media: bytes) -> bytes:
    if media == b"application/json":
        return b'{"inputs": [{"name": "x", "datatype": "INT32", "shape": [2], "data": [1, 2]}]}'
    return _infer(model)


def _framed(source: Random, model: str) -> bytes:
    message = _infer(model)
    if source.random() < 0.1:
        message = source.choice(
            (_infer("m"), ModelReadyRequest(name=model).SerializeToString(), b"")
        )
    compressed = source.random() < 0.2
    if compressed:
        inflated = message + bytes(source.choice((0, 0, 1000, 3 * _MAX_BODY)))
        compress = source.choice((gzip.compress, zlib.compress))
        message = compress(inflated)
    return struct.pack(">BI", compressed, len(message)) + message


def _infer(model: str) -> bytes:
    message = ModelInferRequest(model_name=model, raw_input_contents=[bytes(8)])
    message.inputs.add(name="x", datatype="INT32", shape=[2])
    return message.SerializeToString()


def _response_parts(source: Random) -> list[ProcessingRequest]:
    if source.random() < 0.5:
        return []
    message = ModelInferResponse(model_name="t", raw_output_contents=[bytes(8)])
    message.outputs.add(name="y", datatype="INT32", shape=[2])
    content = message.SerializeToString()
    framed = struct.pack(">BI", 0, len(content)) + content
    if source.random() < 0.5:
        framed = bytes(mutated(framed, source, [framed]))
    headers = HttpHeaders()
    for name, value in ((":status", b"200"), ("content-type", b"application/grpc")):
        headers.headers.headers.add(key=name, raw_value=value)
    return [
        ProcessingRequest(response_headers=headers),
        ProcessingRequest(response_body=HttpBody(body=framed, end_of_stream=True)),
    ]
