"""Subscribes to the config of the video service over ADS, as a client of the incremental variant.

All changes of one response are applied together, or none. After a NACK, the control plane sends
with its next version all that was rejected, so a rejected response is dropped. While no control
plane responds, the last config stays in force.
"""

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import cycle
from typing import Final, NoReturn

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from protos.base_pb2 import Node
from protos.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from sluice.contract.names import VIDEO_SETTINGS, VIDEO_TYPE_URL
from sluice.contract.paths import ADS_DELTA
from sluice.tls import NO_CREDENTIALS, ClientCredentials
from video.process.control_plane import call_metadata, open_channel
from video.process.received import ReceivedConfig

log = logging.getLogger(__name__)

MIN_BACKOFF, MAX_BACKOFF = 0.1, 0.5

CONNECT_TIMEOUT: Final = 20.0
"""Seconds until the next control plane is tried."""

PATIENCE: Final = 10.0
"""Seconds without a control plane after which each reason is a warning. Until then, the control
plane may be starting."""

Apply = Callable[[ReceivedConfig], Awaitable[None]]
"""Puts a config in force. If this function returns, the config is accepted (ACK). If it raises
ValueError, nothing has changed, and the config is rejected (NACK)."""


@dataclass(slots=True)
class Subscription:
    """What was accepted last. `connected`: whether a control plane responds. `rejected`: NACKs."""

    config: ReceivedConfig | None = None
    versions: dict[str, str] = field(default_factory=dict)
    connected: bool = False
    rejected: int = 0


class Subscriber:
    """Follows the config. `addresses` of control planes are separated by commas."""

    def __init__(
        self,
        addresses: str,
        node: Node,
        apply: Apply,
        credentials: ClientCredentials = NO_CREDENTIALS,
    ) -> None:
        self._addresses = addresses.split(",")
        self._node = node
        self._apply = apply
        self._credentials = credentials
        self.state = Subscription()

    async def run(self) -> NoReturn:
        """Subscribe, and subscribe again whenever the stream ends, until cancelled."""
        backoff, waited, logged = MIN_BACKOFF, 0.0, (logging.NOTSET, "")
        for address in cycle(self._addresses):
            try:
                await self._stream(address)
                reason = "the stream ended"
            except grpc.aio.AioRpcError as error:
                reason = f"{error.code().name}: {error.details()}"
            except asyncio.InvalidStateError:
                reason = "the stream ended"  # before a message could be sent
            except OSError as error:
                reason = str(error) or "connection timeout"
            except DecodeError:
                reason = "the response is not a DeltaDiscoveryResponse"
            if self.state.connected:
                backoff, waited, logged = MIN_BACKOFF, 0.0, (logging.NOTSET, "")
            self.state.connected = False
            level = logging.INFO if waited < PATIENCE else logging.WARNING
            if (level, reason) != logged:
                log.log(level, "control plane %s: %s; retrying", address, reason)
                logged = level, reason
            await asyncio.sleep(backoff)
            waited += backoff
            backoff = min(backoff * 2, MAX_BACKOFF)
        raise AssertionError("a cycle does not end")

    async def _stream(self, address: str) -> None:
        """Run one stream until it ends. Raises AioRpcError, OSError and DecodeError."""
        metadata = call_metadata(self._credentials)
        async with open_channel(address, self._credentials) as channel:
            method = channel.stream_stream(
                ADS_DELTA,
                request_serializer=DeltaDiscoveryRequest.SerializeToString,
                response_deserializer=bytes,
            )
            call = method(metadata=metadata)
            request = DeltaDiscoveryRequest(type_url=VIDEO_TYPE_URL, node=self._node)
            # The settings are sent again, which shows that the control plane responds.
            known = {n: v for n, v in self.state.versions.items() if n != VIDEO_SETTINGS}
            request.initial_resource_versions.update(known)
            # A refused connection fails the call at once, so that the next control plane is tried.
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await call.write(request)
            while (message := await call.read()) is not grpc.aio.EOF:
                response = DeltaDiscoveryResponse.FromString(message)
                if not self.state.connected:
                    log.info("control plane %s: connected", address)
                self.state.connected = True
                await call.write(await self._acknowledge(response))

    async def _acknowledge(self, response: DeltaDiscoveryResponse) -> DeltaDiscoveryRequest:
        """Apply a response; returns the ACK or NACK."""
        request = DeltaDiscoveryRequest(type_url=VIDEO_TYPE_URL, response_nonce=response.nonce)
        try:
            config = self._read(response)
            await self._apply(config)
            self._accept(response, config)
        except ValueError as error:
            self.state.rejected += 1
            log.error("config %s is rejected: %s", response.system_version_info, error)
            request.error_detail.code = grpc.StatusCode.INVALID_ARGUMENT.value[0]
            request.error_detail.message = str(error)
        except Exception as error:
            # An unexpected failure must not end the worker: the last good config stays in force.
            # The message of the exception is not logged, because it may contain a secret.
            self.state.rejected += 1
            name, trace = type(error).__name__, "".join(traceback.format_tb(error.__traceback__))
            version = response.system_version_info
            log.error("config %s is rejected: unexpected %s\n%s", version, name, trace)
            request.error_detail.code = grpc.StatusCode.INTERNAL.value[0]
            request.error_detail.message = "the worker failed on this config; see its log"
        return request

    def _read(self, response: DeltaDiscoveryResponse) -> ReceivedConfig:
        """The config after a response. Raises ValueError."""
        bodies = {each.name: each.resource.value for each in response.resources}
        if len(bodies) < len(response.resources):
            raise ValueError("two resources have the same name")
        return ReceivedConfig.read(bodies, response.removed_resources, self.state.config)

    def _accept(self, response: DeltaDiscoveryResponse, config: ReceivedConfig) -> None:
        state = self.state
        state.config = config
        state.versions.update((each.name, each.version) for each in response.resources)
        for name in response.removed_resources:
            state.versions.pop(name, None)
