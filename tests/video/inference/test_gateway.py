"""The client reaches the gateway with and without TLS, and survives its restarts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from protos import inference_pb2 as v2
from sluice.config.video import GatewayTls
from sluice.contract.video import VideoReason
from tests.authority import Authority
from tests.video.gateway_server import echo, gateway_server
from video.inference.failure import Failure, InferenceError
from video.inference.gateway import MAX_RESPONSE, GatewayClient
from video.inference.request import infer_request

pytestmark = pytest.mark.anyio

FRAME = infer_request("digits", "image", "BYTES", (1,), b"\x01\0\0\x007")
METADATA = (("x-model-name", "digits"),)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def client(address: str, tls: GatewayTls | None = None) -> AsyncIterator[GatewayClient]:
    opened = GatewayClient(address, tls)
    try:
        yield opened
    finally:
        await opened.close()


async def failure(gateway: GatewayClient, within: float = 10.0) -> Failure:
    with pytest.raises(InferenceError) as error:
        await gateway.infer(FRAME, METADATA, within)
    return error.value.failure


async def test_a_request_of_several_megabytes_is_answered() -> None:
    raw = bytes(6 << 20)
    request = infer_request("digits", "image", "UINT8", (1, len(raw)), raw)
    async with gateway_server() as server, client(server.address) as gateway:
        response = await gateway.infer(request, METADATA, 20)
    assert response.raw_output_contents[0] == raw


async def test_requests_are_encrypted_and_the_server_has_the_name_of_the_config(
    tmp_path: Path,
) -> None:
    authority = Authority("authority")
    issued = authority.issue("gateway.example")
    (tmp_path / "ca.pem").write_bytes(authority.certificate)
    credentials = grpc.ssl_server_credentials([(issued.private_key, issued.certificate)])
    ca = str(tmp_path / "ca.pem")
    async with gateway_server(credentials=credentials) as server:
        async with client(
            server.address, GatewayTls(ca=ca, server_name="gateway.example")
        ) as gateway:
            response = await gateway.infer(FRAME, METADATA, 10)
        async with client(server.address, GatewayTls(ca=ca)) as gateway:
            refused = await failure(gateway, within=0.5)
    assert response.model_name == "digits"
    assert refused.reason is VideoReason.GATEWAY_UNREACHABLE


def test_a_file_that_is_missing_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        GatewayClient("127.0.0.1:1", GatewayTls(ca=str(tmp_path / "ca.pem")))


async def test_a_gateway_that_does_not_listen_is_unreachable() -> None:
    async with client("127.0.0.1:1") as gateway:
        assert (await failure(gateway, within=0.3)).reason is VideoReason.GATEWAY_UNREACHABLE


async def test_requests_wait_for_a_gateway_that_is_restarted() -> None:
    async with gateway_server() as server:
        address = server.address
    async with client(address) as gateway:
        await failure(gateway, within=0.2)
        waiting = asyncio.create_task(gateway.infer(FRAME, METADATA, 20))
        async with gateway_server(address=address):
            response = await waiting
    assert response.model_name == "digits"


async def test_a_response_that_is_too_large_is_a_failure_of_the_model() -> None:
    async def large(
        request: v2.ModelInferRequest, _context: grpc.aio.ServicerContext
    ) -> v2.ModelInferResponse:
        response = echo(request)
        response.raw_output_contents[0] = bytes(MAX_RESPONSE)
        return response

    async with gateway_server(large) as server, client(server.address) as gateway:
        found = await failure(gateway)
    assert found.reason is VideoReason.MODEL_FAILED
    assert not found.may_pass


async def test_a_response_that_is_no_message_is_a_failure_of_the_model() -> None:
    async def other(_request: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        return b"\xff\xff"

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(other)
    name = "inference.GRPCInferenceService"
    service = grpc.method_handlers_generic_handler(name, {"ModelInfer": handler})
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with client(f"127.0.0.1:{port}") as gateway:
            found = await failure(gateway)
    finally:
        await server.stop(0)
    assert found == Failure(VideoReason.MODEL_FAILED, "the response is not a ModelInferResponse")
