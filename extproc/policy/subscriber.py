"""Follows the policy over ADS, as an xDS client (envoy.service.discovery.v3).

Only the wire and the bookkeeping of versions and nonces are here; a policy's effect is `apply`'s.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from google.protobuf.message import DecodeError
from pydantic import ValidationError

from extproc.rpc import RpcError, StatusCode
from extproc.transport.aio.client import ClientLimits, open_call
from protos.base_pb2 import Node
from protos.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from protos.policy_pb2 import Policy
from sluice.config import PolicyDocument
from sluice.contract.names import POLICY_TYPE_URL
from sluice.contract.paths import ADS_STREAM

log = logging.getLogger(__name__)

LIMITS = ClientLimits(max_message=64 << 20)
"""Ten thousand models take about 10 MiB."""
MIN_BACKOFF, MAX_BACKOFF = 0.1, 1.0

Apply = Callable[[PolicyDocument], None]
"""Puts a policy in force. Raises ValueError where it is not good: the server is told."""


@dataclass(slots=True)
class _Subscription:
    """What was accepted last: a new stream begins with it."""

    version: str = ""


async def follow(address: str, node: Node, apply: Apply) -> None:
    """Subscribe, and subscribe again whenever the stream ends; runs until it is cancelled.

    Raises ValueError for a bad address.
    """
    async for _ in _answered(address, node, apply):
        pass


async def fetch_policy(address: str, node: Node) -> PolicyDocument:
    """The policy that the control plane serves now; it waits until there is one.

    Raises ValueError for a bad address.
    """
    found: list[PolicyDocument] = []
    async with aclosing(_answered(address, node, found.append)) as answered:
        while not found:
            await anext(answered)
    return found[0]


async def _answered(address: str, node: Node, apply: Apply) -> AsyncGenerator[None]:
    """Streams without end, one after the other; yields after each response that was answered."""
    accepted = _Subscription()
    backoff = MIN_BACKOFF
    told = (logging.NOTSET, "")
    while True:
        level = logging.WARNING
        try:
            async with aclosing(_stream(address, node, apply, accepted)) as stream:
                async for _ in stream:
                    backoff, told = MIN_BACKOFF, (logging.NOTSET, "")
                    yield
            reason = "the stream has ended"
        except RpcError as error:
            reason = f"{error.code.name}: {error.details}"
        except OSError as error:
            # So it is when both have only just been started, but not for as long as that.
            level = logging.WARNING if backoff == MAX_BACKOFF else logging.INFO
            reason = str(error) or "no connection in time"
        except DecodeError:
            reason = "the answer is not a DiscoveryResponse"
        if (level, reason) != told:
            log.log(level, "control plane %s: %s; trying again", address, reason)
            told = level, reason
        await asyncio.sleep(backoff)
        backoff = min(backoff * 2, MAX_BACKOFF)


async def _stream(
    address: str, node: Node, apply: Apply, accepted: _Subscription
) -> AsyncGenerator[None]:
    """One stream; yields after each response that was answered."""
    call = await open_call(address, ADS_STREAM, LIMITS)
    request = DiscoveryRequest(type_url=POLICY_TYPE_URL, version_info=accepted.version, node=node)
    try:
        call.send(request.SerializeToString())
        while (message := await call.receive()) is not None:
            response = DiscoveryResponse.FromString(message)
            call.send(_answer(response, apply, accepted).SerializeToString())
            yield
    finally:
        call.close()


def _answer(response: DiscoveryResponse, apply: Apply, accepted: _Subscription) -> DiscoveryRequest:
    """Apply a response; the ACK or NACK to send."""
    answer = DiscoveryRequest(type_url=POLICY_TYPE_URL, response_nonce=response.nonce)
    try:
        apply(_document(response))
        accepted.version = response.version_info
    except ValueError as error:
        log.error("policy %s is refused: %s", response.version_info, error)
        answer.error_detail.code = StatusCode.INVALID_ARGUMENT
        answer.error_detail.message = str(error)
    except Exception:
        # A policy that this worker cannot digest must not take it away from the last good one.
        log.exception("policy %s is refused", response.version_info)
        answer.error_detail.code = StatusCode.INTERNAL
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
