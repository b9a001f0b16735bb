"""Follows the policy over ADS, as an xDS client (envoy.service.discovery.v3).

Only the wire and the bookkeeping of versions and nonces are here; a policy's effect is `apply`'s.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import grpc.aio
from google.protobuf.message import DecodeError
from pydantic import ValidationError

from protos.base_pb2 import Node
from protos.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from protos.policy_pb2 import Policy
from sluice.config import POLICY_TYPE_URL, PolicyDocument

log = logging.getLogger(__name__)

STREAM = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
MAX_MESSAGE = 64 << 20
"""Bytes: ten thousand models take about 10 MiB."""
MIN_BACKOFF, MAX_BACKOFF = 0.1, 1.0

_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    # A control plane that vanishes without a word is noticed, and one that returns is found soon.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Workers of one machine do not share a connection, and thus not its failure either.
    ("grpc.use_local_subchannel_pool", 1),
]

_INVALID_ARGUMENT, _INTERNAL = 3, 13
"""google.rpc.Code, of the reason in a NACK."""

Apply = Callable[[PolicyDocument], None]
"""Puts a policy in force. Raises ValueError where it is not good: the server is told."""


@dataclass(slots=True)
class _Subscription:
    """What was accepted last: a new stream begins with it."""

    version: str = ""


async def follow(address: str, node: Node, apply: Apply) -> None:
    """Subscribe, and subscribe again whenever the stream ends; runs until it is cancelled."""
    accepted = _Subscription()
    backoff = MIN_BACKOFF
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        while True:
            try:
                async for _ in _stream(channel, node, apply, accepted):
                    backoff = MIN_BACKOFF
                reason = "the stream has ended"
            except grpc.aio.AioRpcError as error:
                reason = f"{error.code().name}: {error.details()}"
            except asyncio.InvalidStateError:  # grpcio's answer to a write on a stream that ended
                reason = "the stream has ended"
            log.warning("control plane %s: %s; trying again", address, reason)
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, MAX_BACKOFF)


async def fetch_policy(address: str, node: Node) -> PolicyDocument:
    """The policy that the control plane serves now; it waits until there is one.

    Raises ValueError.
    """
    found: list[PolicyDocument] = []
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        async for _ in _stream(channel, node, found.append, _Subscription()):
            if found:
                return found[0]
    raise ValueError("the control plane ended the stream without a policy")


async def _stream(
    channel: grpc.aio.Channel, node: Node, apply: Apply, accepted: _Subscription
) -> AsyncIterator[None]:
    """One stream; yields after each response that was answered."""
    method = channel.stream_stream(
        STREAM,
        request_serializer=DiscoveryRequest.SerializeToString,
        response_deserializer=DiscoveryResponse.FromString,
    )
    call = method(wait_for_ready=True)
    request = DiscoveryRequest(type_url=POLICY_TYPE_URL, version_info=accepted.version, node=node)
    try:
        await call.write(request)
        while True:
            response = await call.read()
            if response is grpc.aio.EOF:
                return
            await call.write(_answer(response, apply, accepted))
            yield
    finally:
        call.cancel()


def _answer(response: DiscoveryResponse, apply: Apply, accepted: _Subscription) -> DiscoveryRequest:
    """Apply a response; the ACK or NACK to send."""
    answer = DiscoveryRequest(type_url=POLICY_TYPE_URL, response_nonce=response.nonce)
    try:
        apply(_document(response))
        accepted.version = response.version_info
    except ValueError as error:
        log.error("policy %s is refused: %s", response.version_info, error)
        answer.error_detail.code = _INVALID_ARGUMENT
        answer.error_detail.message = str(error)
    except Exception:
        # A policy that this worker cannot digest must not take it away from the last good one.
        log.exception("policy %s is refused", response.version_info)
        answer.error_detail.code = _INTERNAL
        answer.error_detail.message = "the worker failed on this policy; its log says how"
    answer.version_info = accepted.version
    return answer


def _document(response: DiscoveryResponse) -> PolicyDocument:
    """The policy of a response. Raises ValueError."""
    if len(response.resources) != 1:
        raise ValueError(f"expected one policy, not {len(response.resources)}")
    try:
        policy = Policy.FromString(response.resources[0].value)
        return PolicyDocument.model_validate_json(policy.config)
    except DecodeError as error:
        raise ValueError("not a Policy message") from error
    except ValidationError as error:
        # Only places and kinds of mistakes: the document holds keys.
        found = (f"{'.'.join(map(str, e['loc']))}: {e['type']}" for e in error.errors())
        raise ValueError(f"not a valid policy: {'; '.join(found)}") from None
