"""Model servers, and requests and responses of a model with labels."""

import contextlib
import json
import queue
import struct
import threading
import wsgiref.simple_server
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import httpx

from protos.inference_pb2 import ModelInferRequest, ModelInferResponse
from sluice.config.gateway import Requests
from sluice.contract.paths import OIP_GRPC_PREFIX

INFER = "/v2/models/labelled/infer"
REQUEST = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}
RESPONSE = {
    "model_name": "labelled",
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [0.1, 0.9]}],
}
ANSWER = json.dumps(RESPONSE).encode()
JSON = "200 OK\r\ncontent-type: application/json"
MAX_RESPONSE = MIB = 1 << 20
DEFAULT = Requests().max_response


class Wsgi:
    """A WSGI model server: it reads as many bytes as `content-length` says, and no chunks."""

    def __init__(self) -> None:
        self.bodies: queue.Queue[bytes] = queue.Queue()
        self.server = wsgiref.simple_server.make_server("127.0.0.1", 0, self.application)
        self.thread = threading.Thread(target=self.server.serve_forever)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_port}"

    def application(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        self.bodies.put(environ["wsgi.input"].read(length))
        start_response("200 OK", [("content-type", "application/json")])
        return [ANSWER]


class GrpcServer:
    """A gRPC model server. ModelStreamInfer answers each message before the next arrives."""

    def __init__(self) -> None:
        self.response = ModelInferResponse(model_name="tensors")
        self.response.outputs.add(name="y", datatype="FP32", shape=[1, 2])
        self.response.raw_output_contents.append(struct.pack("<2f", 0.1, 0.9))
        serve = {
            "ModelInfer": grpc.unary_unary_rpc_method_handler(
                self.infer, ModelInferRequest.FromString, bytes
            ),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(
                self.stream, ModelInferRequest.FromString, bytes
            ),
        }
        handler = grpc.method_handlers_generic_handler(OIP_GRPC_PREFIX.strip("/"), serve)
        self.received = 0
        """Bytes of the tensors of the latest request."""
        self.server = grpc.server(
            futures.ThreadPoolExecutor(4),
            handlers=[handler],
            options=[("grpc.max_receive_message_length", -1)],
        )
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"

    @contextlib.contextmanager
    def responding(self, data: bytes) -> Iterator[None]:
        """Respond with a tensor of these bytes in a with block."""
        usual = self.response
        self.response = ModelInferResponse(model_name="tensors")
        self.response.outputs.add(name="z", datatype="INT8", shape=[len(data)])
        self.response.raw_output_contents.append(data)
        try:
            yield
        finally:
            self.response = usual

    def infer(self, request: ModelInferRequest, context: grpc.ServicerContext) -> bytes:
        self.received = sum(map(len, request.raw_input_contents))
        return self.response.SerializeToString()

    def stream(
        self, requests: Iterator[ModelInferRequest], context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        for request in requests:
            yield ModelInferResponse(id=request.id).SerializeToString()


def top_label(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    label: str = response.json()["outputs"][0]["top_k"][0][0]["label"]
    return label


def reason(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["reason"]


def chunks() -> Iterator[bytes]:
    """A request body of unknown length."""
    body = json.dumps(REQUEST).encode()
    yield body[:10]
    yield body[10:]
