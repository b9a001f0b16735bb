"""Envoy waits longer for a response that takes the callout more time."""

import asyncio
import gzip
import struct
import threading
from collections.abc import Awaitable
from datetime import timedelta
from functools import partial

import pytest

from extproc.decision import Admission, Decision
from extproc.policy.current import CurrentPolicy
from extproc.services.decider import Decider
from extproc.services.ext_proc.service import ExternalProcessor
from extproc.transport import TRANSPORTS, TransportName
from protos.ext_proc_pb2 import (
    ProcessingRequest,
    ProcessingResponse,
)
from protos.inference_pb2 import ModelInferRequest
from sluice.contract.paths import EXT_PROC
from tests.extproc.auth.tokens import NOW
from tests.extproc.services.callout import CalloutClient, body, callout, headers
from tests.extproc.services.ext_proc.recorded_call import RecordedCall
from tests.extproc.services.ext_proc.streams import (
    DECLARED,
    GRPC_INFER,
    INFER,
    TENSOR,
    models,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("one_event_loop")]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_envoy_is_asked_to_wait_longer_while_a_body_waits_for_a_thread(
    transport: TransportName,
) -> None:
    current_policy = CurrentPolicy()
    current_policy.apply(models(message_timeout=0.05, conversion_timeout=9))
    gate = threading.Event()
    async with callout(transport, current_policy) as client:
        pool = client.processor.checks.pool
        held = [pool.for_caller(name).run("held", partial(_passed, gate), 1) for name in "ab"]
        threads = asyncio.gather(*held)
        call = client.channel.stream_stream(
            EXT_PROC, ProcessingRequest.SerializeToString, ProcessingResponse.FromString
        )(timeout=5)
        await call.write(headers((*GRPC_INFER, ("grpc-encoding", "gzip"))))
        assert (await call.read()).HasField("request_headers")
        message = gzip.compress(ModelInferRequest(model_name="g").SerializeToString())
        await call.write(body(struct.pack(">BI", 1, len(message)) + message, end_of_stream=True))
        first = await call.read()
        assert first.WhichOneof("response") is None
        assert first.override_message_timeout.ToTimedelta() == timedelta(seconds=9.05)
        gate.set()
        while (response := await call.read()).WhichOneof("response") is None:
            pass
        assert response.HasField("request_body")
        await call.done_writing()
        await threads


class WaitingDecider(Decider):
    """Waits before each decision, as for a key or for tokens of a limit."""

    def __init__(self, current_policy: CurrentPolicy, answered: asyncio.Event) -> None:
        super().__init__(current_policy, lambda: NOW)
        self._answered = answered

    def decide(
        self, headers: dict[str, bytes], *, has_body: bool
    ) -> Decision | Awaitable[Decision]:
        return self._decide_later(super().decide(headers, has_body=has_body))

    async def _decide_later(self, decision: Decision | Awaitable[Decision]) -> Decision:
        await self._answered.wait()
        assert isinstance(decision, Admission)
        return decision


class SignallingCall(RecordedCall):
    """Tells when a response is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = asyncio.Event()

    def send(self, message: bytes) -> None:
        super().send(message)
        self.sent.set()


async def test_envoy_is_asked_to_wait_longer_while_a_decision_waits() -> None:
    current_policy, answered, call = CurrentPolicy(), asyncio.Event(), SignallingCall()
    current_policy.apply(models(message_timeout=0.05, conversion_timeout=9))
    stream = ExternalProcessor(WaitingDecider(current_policy, answered)).open(call)
    waiting = stream.on_message(headers(DECLARED).SerializeToString())
    assert waiting is not None
    task = asyncio.ensure_future(waiting)
    async with asyncio.timeout(60):
        await call.sent.wait()
        answered.set()
        await task
    asked, *_, last = call.responses
    assert asked.WhichOneof("response") is None
    assert asked.override_message_timeout.ToTimedelta() == timedelta(seconds=9.05)
    assert last.HasField("request_headers")


async def test_a_fast_response_is_the_only_message(client: CalloutClient) -> None:
    client.current_policy.apply(models(message_timeout=5))
    *_, passed = await client.process(headers(INFER), body(TENSOR, end_of_stream=True))
    assert passed.HasField("request_body")
    assert not passed.HasField("override_message_timeout")


def _passed(gate: threading.Event) -> bytes:
    assert gate.wait(60)
    return b""
