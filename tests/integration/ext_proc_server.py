"""A minimal ext_proc server, for tests of the control plane without the callout. It switches no
native route on.

`python -m tests.integration.ext_proc_server PORT` runs one in a process of its own, so that a test
can kill it. The process ends when its standard input closes.
"""

import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2_grpc

from extproc.services.native_runtime import NativeRuntimeService
from protos import base_pb2
from protos.discovery_pb2 import DiscoveryRequest
from protos.ext_proc_pb2 import ProcessingRequest, ProcessingResponse
from sluice.contract.paths import RUNTIME

CLUSTER = "x-test-cluster"
REFUSE = "x-test-refuse"


class ExtProcServer:
    """Serves ExternalProcessor and gRPC health checks on a port.

    The server routes a request to the cluster in the header `x-test-cluster`. It refuses a request
    with the header `x-test-refuse`, whose value becomes the `response_code_details`. `requests` has
    the headers of every request, in order of arrival.
    """

    def __init__(self, port: int) -> None:
        self.requests: list[dict[str, str]] = []
        # By default, gRPC closes an idle connection after the third ping, and Envoy pings often.
        pings = [("grpc.http2.max_ping_strikes", 0)]
        self._server = grpc.server(ThreadPoolExecutor(64), options=pings)
        self._layer = NativeRuntimeService(tuple).response()
        handler = grpc.stream_stream_rpc_method_handler(
            self._process,
            request_deserializer=ProcessingRequest.FromString,
            response_serializer=ProcessingResponse.SerializeToString,
        )
        service = grpc.method_handlers_generic_handler(
            "envoy.service.ext_proc.v3.ExternalProcessor", {"Process": handler}
        )
        runtime = grpc.stream_stream_rpc_method_handler(
            self._runtime, request_deserializer=DiscoveryRequest.FromString
        )
        _, runtime_service, method = RUNTIME.split("/")
        runtimes = grpc.method_handlers_generic_handler(runtime_service, {method: runtime})
        self._server.add_generic_rpc_handlers((service, runtimes))
        health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), self._server)
        self._server.add_insecure_port(f"127.0.0.1:{port}")

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait()

    def _process(
        self, requests: Iterable[ProcessingRequest], _: grpc.ServicerContext
    ) -> Iterator[ProcessingResponse]:
        for request in requests:
            headers = {
                header.key: (header.raw_value or header.value.encode()).decode()
                for header in request.request_headers.headers.headers
            }
            self.requests.append(headers)
            yield (
                _refusal(headers[REFUSE]) if REFUSE in headers else _route(headers.get(CLUSTER, ""))
            )

    def _runtime(
        self, requests: Iterable[DiscoveryRequest], _: grpc.ServicerContext
    ) -> Iterator[bytes]:
        version, response = self._layer
        for request in requests:
            if request.version_info != version:
                yield response
                return


def _route(cluster: str) -> ProcessingResponse:
    response = ProcessingResponse()
    mutation = response.request_headers.response.header_mutation
    for name, value in (("x-model-service", cluster), ("x-sluice-reason", "test")):
        if value:
            option = mutation.set_headers.add()
            option.header.key, option.header.raw_value = name, value.encode()
            option.append_action = (
                base_pb2.HeaderValueOption.HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD
            )
    return response


def _refusal(details: str) -> ProcessingResponse:
    response = ProcessingResponse()
    response.immediate_response.status.code = 403
    response.immediate_response.body = b"refused by the callout"
    response.immediate_response.details = details
    return response


if __name__ == "__main__":
    ExtProcServer(int(sys.argv[1])).start()
    sys.stdin.read()
