"""Subscribes to the policy over ADS, as an xDS client of the incremental variant.

This module handles the stream, versions and nonces. `Apply` puts a policy in force. All changes of
one response are applied together, or none. After a NACK, the control plane sends with its next
version all that was rejected, so a rejected response is dropped.
"""

import asyncio
import logging
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import cycle

from google.protobuf.message import DecodeError

from extproc.policy.received import ReceivedPolicy
from extproc.rpc import RpcError, StatusCode
from extproc.transport.aio.client import ClientLimits, open_call
from protos.base_pb2 import Node
from protos.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from sluice.config import PolicyDocument
from sluice.config.policy import MAX_POLICY
from sluice.contract.names import POLICY, POLICY_TYPE_URL
from sluice.contract.paths import ADS_DELTA
from sluice.tls import NO_CREDENTIALS, ClientCredentials

log = logging.getLogger(__name__)

LIMITS = ClientLimits(max_message=2 * (MAX_POLICY + (8 << 20)))
"""Room for the largest policy and for a staged one, and for the messages around each of 10,000
models."""
MIN_BACKOFF, MAX_BACKOFF = 0.1, 0.5

PATIENCE = 10.0
"""Seconds without a policy server after which each reason is a warning. Until then, the control
plane may be starting."""

Apply = Callable[[ReceivedPolicy], Awaitable[None]]
"""Puts a policy in force. If this function returns, the policy is accepted (ACK). If it raises
ValueError, nothing has changed, and the policy is rejected (NACK)."""

Sleep = Callable[[float], Awaitable[object]]
"""Waits for a number of seconds."""


@dataclass(frozen=True, slots=True)
class _Server:
    address: str
    credentials: ClientCredentials


@dataclass(slots=True)
class _Accepted:
    """The policy that was accepted last, and the versions of its resources."""

    policy: ReceivedPolicy | None = None
    versions: dict[str, str] = field(default_factory=dict)


async def follow(
    address: str,
    node: Node,
    apply: Apply,
    sleep: Sleep = asyncio.sleep,
    credentials: ClientCredentials = NO_CREDENTIALS,
) -> None:
    """Subscribe, and subscribe again whenever the stream ends. Runs until it is cancelled.

    `address` may have the addresses of several control planes, separated by commas. The next one is
    tried when a stream ends or cannot be opened.

    `sleep` waits between attempts, for `MIN_BACKOFF` to `MAX_BACKOFF` seconds.

    Raises ValueError for an invalid address.
    """
    async for _ in _handled_responses(_Server(address, credentials), node, apply, sleep):
        pass


async def fetch_policy(
    address: str, node: Node, credentials: ClientCredentials = NO_CREDENTIALS
) -> PolicyDocument:
    """The policy that the control plane serves; waits until there is one.

    Raises ValueError for an invalid address.
    """
    fetched: list[PolicyDocument] = []

    async def keep(policy: ReceivedPolicy) -> None:
        fetched.append(policy.document())

    server = _Server(address, credentials)
    async with aclosing(_handled_responses(server, node, keep, asyncio.sleep)) as handled:
        while not fetched:
            await anext(handled)
    return fetched[0]


async def _handled_responses(
    servers: _Server, node: Node, apply: Apply, sleep: Sleep
) -> AsyncGenerator[None]:
    """Open a new stream whenever the last one has ended. Yields after each ACK or NACK."""
    accepted = _Accepted()
    addresses = cycle(servers.address.split(","))
    backoff, waited = MIN_BACKOFF, 0.0
    logged = (logging.NOTSET, "")
    while True:
        server = replace(servers, address=next(addresses))
        try:
            async with aclosing(_stream(server, node, apply, accepted)) as stream:
                async for _ in stream:
                    backoff, waited, logged = MIN_BACKOFF, 0.0, (logging.NOTSET, "")
                    yield
            reason = "the stream ended"
        except RpcError as error:
            reason = f"{error.code.name}: {error.details}"
        except OSError as error:
            reason = str(error) or "connection timeout"
        except DecodeError:
            reason = "the response is not a DeltaDiscoveryResponse"
        level = logging.INFO if waited < PATIENCE else logging.WARNING
        if (level, reason) != logged:
            log.log(level, "control plane %s: %s; retrying", server.address, reason)
            logged = level, reason
        await sleep(backoff)
        waited += backoff
        backoff = min(backoff * 2, MAX_BACKOFF)


async def _stream(
    server: _Server, node: Node, apply: Apply, accepted: _Accepted
) -> AsyncGenerator[None]:
    """Run one stream; yields after each ACK or NACK."""
    call = await open_call(server.address, ADS_DELTA, LIMITS, server.credentials)
    request = DeltaDiscoveryRequest(type_url=POLICY_TYPE_URL, node=node)
    # The settings are sent again, which shows that the control plane responds.
    versions = {name: version for name, version in accepted.versions.items() if name != POLICY}
    request.initial_resource_versions.update(versions)
    try:
        call.send(request.SerializeToString())
        connected = False
        while (message := await call.receive()) is not None:
            response = DeltaDiscoveryResponse.FromString(message)
            if not connected:
                log.info("control plane %s: connected", server.address)
                connected = True
            request = await _acknowledge(response, apply, accepted)
            call.send(request.SerializeToString())
            # A policy may be large, and the next may be far away.
            del message, response
            yield
    finally:
        call.close()


async def _acknowledge(
    response: DeltaDiscoveryResponse, apply: Apply, accepted: _Accepted
) -> DeltaDiscoveryRequest:
    """Apply a response; returns the ACK or NACK."""
    request = DeltaDiscoveryRequest(type_url=POLICY_TYPE_URL, response_nonce=response.nonce)
    try:
        policy = _policy(response, accepted.policy)
        await apply(policy)
        _accept(response, policy, accepted)
    except ValueError as error:
        log.error("policy %s is rejected: %s", response.system_version_info, error)
        request.error_detail.code = StatusCode.INVALID_ARGUMENT
        request.error_detail.message = str(error)
    except Exception as error:
        # An unexpected failure must not end the worker: the last good policy stays in force. The
        # message of the exception is not logged, because it may contain a secret of the policy.
        name, trace = type(error).__name__, "".join(traceback.format_tb(error.__traceback__))
        version = response.system_version_info
        log.error("policy %s is rejected: unexpected %s\n%s", version, name, trace)
        request.error_detail.code = StatusCode.INTERNAL
        request.error_detail.message = "the worker failed on this policy; see its log"
    return request


def _policy(response: DeltaDiscoveryResponse, previous: ReceivedPolicy | None) -> ReceivedPolicy:
    """The policy after a response. Raises ValueError."""
    bodies = {each.name: each.resource.value for each in response.resources}
    if len(bodies) < len(response.resources):
        raise ValueError("two resources of the policy have the same name")
    return ReceivedPolicy.read(bodies, response.removed_resources, previous)


def _accept(response: DeltaDiscoveryResponse, policy: ReceivedPolicy, accepted: _Accepted) -> None:
    accepted.policy = policy
    accepted.versions.update((each.name, each.version) for each in response.resources)
    for name in response.removed_resources:
        accepted.versions.pop(name, None)
