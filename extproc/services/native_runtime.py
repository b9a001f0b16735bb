"""envoy.service.runtime.v3.RuntimeDiscoveryService: switches native routes off (RTDS).

Envoy asks for one layer of its runtime. The layer has a key with the value 0 for each version whose
native routes are off, and one for each model that has such a version. Without its key, a route is
on. The variant of the protocol is state of the world: a response has the whole layer.

The service ends a stream without an error after each response. Envoy opens the next stream at once,
with the version that it has, and gets the next response when there is another version. So no open
stream has a response. Envoy logs a warning for a stream that ends after a response has started,
also when Envoy itself stops.
"""

from collections.abc import Callable, Collection
from hashlib import blake2b

from google.protobuf.any_pb2 import Any as PackedMessage
from google.protobuf.message import DecodeError

from extproc.rpc import Call, RpcError, Services, StatusCode
from protos.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from protos.runtime_pb2 import Runtime
from sluice.contract.names import (
    NATIVE_RUNTIME,
    RUNTIME_TYPE_URL,
    native_model_key,
    native_version_key,
    split_cluster_name,
)
from sluice.contract.paths import RUNTIME

MAX_STREAMS = 10_000
"""Maximum concurrent streams. A stream takes memory, and the client decides when it ends."""


class NativeRuntimeService:
    """The gRPC service. `off` returns the clusters whose native routes are off at present.

    `publish` must be called when the result of `off` has changed.
    """

    def __init__(self, off: Callable[[], Collection[str]]) -> None:
        self._off = off
        self._waiting: set[_Stream] = set()

    def services(self) -> Services:
        """The handler factory by method path, for a transport."""
        return {RUNTIME: self._open}

    def publish(self) -> None:
        """Send the layer to every Envoy that has another version."""
        version, response = self.response()
        for stream in tuple(self._waiting):
            stream.offer(version, response)

    def close(self) -> None:
        """End all streams. Envoy then opens a stream to another worker, and keeps its layer."""
        for stream in tuple(self._waiting):
            stream.end()

    def response(self) -> tuple[str, bytes]:
        """The version of the layer, which is the same in all workers, and a response with it."""
        runtime = Runtime(name=NATIVE_RUNTIME)
        runtime.layer.update(layer(self._off()))
        value = runtime.SerializeToString(deterministic=True)
        version = blake2b(value, digest_size=8).hexdigest()
        response = DiscoveryResponse(
            version_info=version,
            resources=[PackedMessage(type_url=RUNTIME_TYPE_URL, value=value)],
            type_url=RUNTIME_TYPE_URL,
            nonce=version,
        )
        return version, response.SerializeToString()

    def remove(self, stream: "_Stream") -> None:
        """Forget a stream that has ended."""
        self._waiting.discard(stream)

    def _open(self, call: Call) -> "_Stream":
        if len(self._waiting) >= MAX_STREAMS:
            message = f"the maximum of {MAX_STREAMS} concurrent streams is reached"
            raise RpcError(StatusCode.RESOURCE_EXHAUSTED, message)
        stream = _Stream(call, self)
        self._waiting.add(stream)
        return stream


def layer(off: Collection[str]) -> dict[str, int]:
    """The keys and values that switch off the native routes to these clusters."""
    keys = {native_version_key(cluster) for cluster in off}
    keys |= {native_model_key(split_cluster_name(cluster)[0]) for cluster in off}
    return dict.fromkeys(keys, 0)


class _Stream:
    """One stream, which ends with its only response."""

    __slots__ = ("_call", "_service", "_subscribed", "_version")

    def __init__(self, call: Call, service: NativeRuntimeService) -> None:
        self._call = call
        self._service = service
        self._subscribed = False
        self._version = ""

    def on_message(self, message: bytes) -> None:
        try:
            self._process(message)
        except BaseException:
            self._service.remove(self)
            raise

    def on_half_close(self) -> None:
        self.end()

    def on_cancel(self) -> None:
        self._service.remove(self)

    def offer(self, version: str, response: bytes) -> None:
        """Send the layer if the client has subscribed to it and has another version."""
        if self._subscribed and version != self._version:
            self._call.send(response)
            self.end()

    def end(self) -> None:
        """End the call without an error."""
        self._service.remove(self)
        self._call.finish()

    def _process(self, message: bytes) -> None:
        try:
            request = DiscoveryRequest.FromString(message)
        except DecodeError:
            raise RpcError(StatusCode.INVALID_ARGUMENT, "invalid DiscoveryRequest") from None
        if request.type_url != RUNTIME_TYPE_URL:
            raise RpcError(StatusCode.INVALID_ARGUMENT, f"type_url must be {RUNTIME_TYPE_URL}")
        self._subscribed = NATIVE_RUNTIME in request.resource_names
        self._version = request.version_info
        self.offer(*self._service.response())
