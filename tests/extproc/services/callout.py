"""A running callout and a client that calls it as Envoy does."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc.aio

from extproc.policy.current import CurrentPolicy
from extproc.rpc import unary
from extproc.services.decider import Decider
from extproc.services.ext_authz import Authorization
from extproc.services.ext_proc.service import ExternalProcessor
from extproc.transport import TransportName, serve
from protos.base_pb2 import HeaderValueOption
from protos.ext_authz_pb2 import CheckRequest, CheckResponse
from protos.ext_proc_pb2 import (
    HttpBody,
    HttpHeaders,
    ProcessingRequest,
    ProcessingResponse,
)
from sluice.contract.paths import EXT_AUTHZ, EXT_PROC
from tests.extproc.auth.tokens import NOW

Pairs = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class CalloutClient:
    """A client of ext_proc and ext_authz."""

    current_policy: CurrentPolicy
    channel: grpc.aio.Channel
    processor: ExternalProcessor

    def admission_cache_hits(self) -> int:
        """Requests that were admitted from the admission cache."""
        return self.processor.admissions.hits

    async def process(self, *messages: ProcessingRequest) -> list[ProcessingResponse]:
        """Run one stream: send each message after the response to the one before it.

        An immediate response ends the stream.
        """
        call = self.channel.stream_stream(
            EXT_PROC, ProcessingRequest.SerializeToString, ProcessingResponse.FromString
        )(timeout=5)
        responses: list[ProcessingResponse] = []
        for message in messages:
            await call.write(message)
            responses.append(await call.read())
            if responses[-1].HasField("immediate_response"):
                break
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        return responses

    async def send_headers(
        self, pairs: Pairs, *, end_of_stream: bool = False
    ) -> ProcessingResponse:
        """Send the headers of a request in a new stream, and return the response."""
        (response,) = await self.process(headers(pairs, end_of_stream=end_of_stream))
        return response

    async def check(self, request: CheckRequest) -> CheckResponse:
        call = self.channel.unary_unary(
            EXT_AUTHZ, CheckRequest.SerializeToString, CheckResponse.FromString
        )
        response: CheckResponse = await call(request, timeout=5)
        return response


@asynccontextmanager
async def callout(
    transport: TransportName,
    current_policy: CurrentPolicy,
    clock: Callable[[], float] = lambda: NOW,
) -> AsyncIterator[CalloutClient]:
    """Serve decisions on a free port while the block runs."""
    processor = ExternalProcessor(Decider(current_policy, clock))
    services = {
        EXT_PROC: processor.open,
        EXT_AUTHZ: unary(Authorization(Decider(current_policy, clock)).check),
    }
    server = serve(transport, services, "127.0.0.1:0")
    address = await server.start()
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            yield CalloutClient(current_policy, channel, processor)
    finally:
        await server.close()
        current_policy.close()


def headers(pairs: Pairs, *, end_of_stream: bool = False) -> ProcessingRequest:
    message = HttpHeaders(end_of_stream=end_of_stream)
    for name, value in pairs:
        message.headers.headers.add(key=name, raw_value=value.encode())
    return ProcessingRequest(request_headers=message)


def body(content: bytes, *, end_of_stream: bool = False) -> ProcessingRequest:
    return ProcessingRequest(request_body=HttpBody(body=content, end_of_stream=end_of_stream))


def written(options: Iterable[HeaderValueOption]) -> dict[str, str]:
    """Headers that a response sets. Each must overwrite earlier values."""
    found = {}
    for option in options:
        assert option.append_action == HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
        header = option.header
        assert header.key not in found
        found[header.key] = (header.raw_value or header.value.encode()).decode()
    return found
