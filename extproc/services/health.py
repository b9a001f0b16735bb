"""gRPC health checking (grpc.health.v1): Check returns a service's status, Watch streams it.

The caller of `set` decides the status of a service.
"""

from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from extproc.rpc import Call, RpcError, Services, StatusCode, unary

SERVING: int = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING: int = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN: int = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

MAX_WATCHERS = 10_000
"""Maximum concurrent Watch calls. A call takes memory, and the client decides when it ends."""


class HealthService:
    """Holds the status of each service. The empty name stands for the whole server."""

    def __init__(self, overall: int = SERVING) -> None:
        self._statuses: dict[str, int] = {"": overall}
        self._watchers: dict[str, set[Call]] = {}
        self._watcher_count = 0

    def set(self, service: str, status: int) -> None:
        """Set a service's status and send it to the service's watchers."""
        if self._statuses.get(service) == status:
            return
        self._statuses[service] = status
        for call in self._watchers.get(service, ()):
            call.send(_response(status))

    def services(self) -> Services:
        """The handler factories by method path, for a transport."""
        return {
            "/grpc.health.v1.Health/Check": unary(self._check),
            "/grpc.health.v1.Health/Watch": self._watch,
        }

    def add_watcher(self, service: str, call: Call) -> None:
        """Send the current status and every later status to a call. Raises RpcError."""
        if self._watcher_count >= MAX_WATCHERS:
            message = f"the maximum of {MAX_WATCHERS} concurrent Watch calls is reached"
            raise RpcError(StatusCode.RESOURCE_EXHAUSTED, message)
        self._watcher_count += 1
        self._watchers.setdefault(service, set()).add(call)
        call.send(_response(self._statuses.get(service, SERVICE_UNKNOWN)))

    def remove_watcher(self, service: str, call: Call) -> None:
        """Send no more statuses to a call."""
        watchers = self._watchers[service]
        watchers.discard(call)
        self._watcher_count -= 1
        if not watchers:
            del self._watchers[service]

    def _watch(self, call: Call) -> "_Watch":
        return _Watch(call, self)

    def _check(self, request: bytes) -> bytes:
        status = self._statuses.get(_service(request))
        if status is None:
            raise RpcError(StatusCode.NOT_FOUND, "unknown service")
        return _response(status)


class _Watch:
    """One Watch call. Only the client ends a valid call, as the health protocol requires."""

    def __init__(self, call: Call, health: HealthService) -> None:
        self._call = call
        self._health = health
        self._service: str | None = None

    def on_message(self, message: bytes) -> None:
        if self._service is not None:
            # The transport does not call on_cancel after an error.
            self.on_cancel()
            raise RpcError(StatusCode.INTERNAL, "Watch takes one request")
        service = _service(message)
        self._health.add_watcher(service, self._call)
        self._service = service

    def on_half_close(self) -> None:
        if self._service is None:
            raise RpcError(StatusCode.INTERNAL, "Watch takes one request")

    def on_cancel(self) -> None:
        if self._service is not None:
            self._health.remove_watcher(self._service, self._call)


def _service(request: bytes) -> str:
    try:
        return str(health_pb2.HealthCheckRequest.FromString(request).service)
    except DecodeError:
        raise RpcError(StatusCode.INVALID_ARGUMENT, "invalid HealthCheckRequest") from None


def _response(status: int) -> bytes:
    encoded: bytes = health_pb2.HealthCheckResponse(status=status).SerializeToString()
    return encoded
