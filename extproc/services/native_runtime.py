"""envoy.service.runtime.v3.RuntimeDiscoveryService: switches native routes on (RTDS).

Envoy asks for one layer of its runtime. The layer has a key with the value 100 for each version
whose native routes are on, and one for each model all of whose versions have such a key. The keys
contain the digest of what the routes were compiled from. Without its key, a route is off. So Envoy
admits requests alone only by routes that belong to the policy in force, and an edit is in force for
them as soon as the worker has the policy, before Envoy has loaded its new routes.

The variant of the protocol is state of the world: a response has the whole layer.

The service ends a stream without an error after each response. Envoy opens the next stream at once,
with the version that it has, and gets the next response when there is another version. So no open
stream has a response. Envoy logs a warning for a stream that ends after a response has started,
also when Envoy itself stops.
"""

from collections.abc import Callable, Collection, Iterable
from hashlib import blake2b

from google.protobuf.any_pb2 import Any as PackedMessage
from google.protobuf.message import DecodeError

from extproc.policy.compiled import NativeRoutes
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
        self._layer = _Layer({})
        self._waiting: set[_Stream] = set()

    def services(self) -> Services:
        """The handler factory by method path, for a transport."""
        return {RUNTIME: self._open}

    def vouch(self, routes: Iterable[NativeRoutes]) -> None:
        """Set the native routes that may be on. The next `publish` sends the layer."""
        self._layer = self._layer.replaced(routes)

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
        return self._layer.response(frozenset(self._off()))

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


def on_keys(routes: NativeRoutes, off: Collection[str]) -> list[str]:
    """The keys of the native routes that are on if those to the clusters `off` are off."""
    on = [cluster for cluster in routes.clusters if cluster not in off]
    keys = [native_version_key(routes.digest, cluster) for cluster in on]
    if len(on) == len(routes.clusters):
        keys.append(native_model_key(routes.digest, routes.model))
    return keys


class _Layer:
    """The layer with some native routes. It keeps their parts, because a change concerns few.

    During a staged rollout, a model may have the routes of two policies.
    """

    def __init__(self, parts: dict[NativeRoutes, bytes]) -> None:
        self._parts = parts
        self._latest: tuple[Collection[str], tuple[str, bytes]] | None = None

    def replaced(self, routes: Iterable[NativeRoutes]) -> "_Layer":
        """The layer with other routes."""
        # Workers may have received the same models in another order.
        in_order = sorted(routes, key=lambda each: (each.model, each.digest))
        return _Layer({each: self._parts.get(each) or _part(each, ()) for each in in_order})

    def response(self, off: frozenset[str]) -> tuple[str, bytes]:
        """The version of the layer, and a response with it."""
        if self._latest is None or self._latest[0] != off:
            self._latest = off, self._response(off)
        return self._latest[1]

    def _response(self, off: frozenset[str]) -> tuple[str, bytes]:
        models = {split_cluster_name(cluster)[0] for cluster in off}
        changed = {each: _part(each, off) for each in self._parts if each.model in models}
        # Serialized messages of a type, one after another, are the message with the fields of all.
        head = Runtime(name=NATIVE_RUNTIME).SerializeToString()
        value = b"".join((head, *(self._parts | changed).values()))
        version = blake2b(value, digest_size=8).hexdigest()
        response = DiscoveryResponse(
            version_info=version,
            resources=[PackedMessage(type_url=RUNTIME_TYPE_URL, value=value)],
            type_url=RUNTIME_TYPE_URL,
            nonce=version,
        )
        return version, response.SerializeToString()


def _part(routes: NativeRoutes, off: Collection[str]) -> bytes:
    """The keys of one model, as a serialized Runtime."""
    runtime = Runtime()
    runtime.layer.update(dict.fromkeys(on_keys(routes, off), 100))
    return runtime.SerializeToString(deterministic=True)


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
