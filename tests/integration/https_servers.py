"""Model servers with TLS: REST over HTTPS, and gRPC. They answer with the credentials they got."""

import contextlib
import json
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import grpc
from google.protobuf.message import Message

from protos.inference_pb2 import ModelInferResponse
from tests.authority import Issued


class _Handler(BaseHTTPRequestHandler):
    """Answers with its headers. Closes each connection, so that the next has a new handshake."""

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self._answer({name.lower(): value for name, value in self.headers.items()})

    def _answer(self, headers: dict[str, str]) -> None:
        body = json.dumps(headers).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Log nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    context: ssl.SSLContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        """The handshake is in the thread of the request: a failed one is no error of the server."""
        with contextlib.suppress(OSError):
            if self.context is not None:
                request = self.context.wrap_socket(request, server_side=True)
            super().finish_request(request, client_address)


@contextlib.contextmanager
def rest_server(context: ssl.SSLContext | None) -> Iterator[int]:
    """The port of a REST server on 127.0.0.1; without a context, it has no TLS."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.context = context
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _model_infer(_: bytes, context: grpc.ServicerContext) -> Message:
    metadata = dict(context.invocation_metadata())
    response = ModelInferResponse(model_name="m")
    output = response.outputs.add(name="got", datatype="BYTES", shape=[1])
    output.contents.bytes_contents.append(str(metadata.get("authorization")).encode())
    return response


def _check(_: bytes, __: grpc.ServicerContext) -> bytes:
    return b"\x08\x01"  # SERVING


@contextlib.contextmanager
def grpc_server(issued: Issued) -> Iterator[int]:
    """The port of a gRPC server with TLS on 127.0.0.1."""
    server = grpc.server(ThreadPoolExecutor(2))
    infer = grpc.unary_unary_rpc_method_handler(
        _model_infer, response_serializer=lambda message: message.SerializeToString()
    )
    check = grpc.unary_unary_rpc_method_handler(_check)
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "inference.GRPCInferenceService", {"ModelInfer": infer}
            ),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check}),
        )
    )
    pair = (issued.private_key, issued.certificate)
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()
