"""gRPC health checking (grpc.health.v1): whether this worker, or one service, can take calls.

Who decides that it can is the caller of `set`; this module only tells, once or as it changes.
"""

from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from extproc.rpc import Call, HandlerFactory, RpcError, Services, StatusCode, unary

SERVING: int = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING: int = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN: int = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

MAX_WATCHERS = 10_000
"""Watch calls held at once: each lasts as long as its client likes, and costs about a kilobyte."""


class Health:
    """Serving states by service name; the empty name is the server as a whole."""

    def __init__(self, overall: int = SERVING) -> None:
        self._states: dict[str, int] = {"": overall}
        self._watches: dict[str, set[Call]] = {}
        self._watchers = 0

    def set(self, service: str, state: int) -> None:
        """Change a state and tell whoever watches it."""
        if self._states.get(service) == state:
            return
        self._states[service] = state
        for call in self._watches.get(service, ()):
            call.send(_response(state))

    def services(self) -> Services:
        """Check and Watch, for a transport."""
        watch: HandlerFactory = lambda call: _Watch(call, self)  # noqa: E731
        return {
            "/grpc.health.v1.Health/Check": unary(self._check),
            "/grpc.health.v1.Health/Watch": watch,
        }

    def _check(self, request: bytes) -> bytes:
        state = self._states.get(_service(request))
        if state is None:
            raise RpcError(StatusCode.NOT_FOUND, "unknown service")
        return _response(state)

    def _join(self, service: str, call: Call) -> None:
        if self._watchers >= MAX_WATCHERS:
            raise RpcError(StatusCode.RESOURCE_EXHAUSTED, f"{MAX_WATCHERS} calls watch already")
        self._watchers += 1
        self._watches.setdefault(service, set()).add(call)
        call.send(_response(self._states.get(service, SERVICE_UNKNOWN)))

    def _leave(self, service: str, call: Call) -> None:
        watching = self._watches[service]
        watching.discard(call)
        self._watchers -= 1
        if not watching:
            del self._watches[service]


class _Watch:
    """Ends only when the client cancels, as the health protocol asks."""

    def __init__(self, call: Call, health: Health) -> None:
        self._call = call
        self._health = health
        self._service: str | None = None

    def on_message(self, message: bytes) -> None:
        if self._service is not None:
            self.on_cancel()  # nobody else will, once this call ends with an error
            raise RpcError(StatusCode.INTERNAL, "Watch takes one request")
        service = _service(message)
        self._health._join(service, self._call)
        self._service = service

    def on_half_close(self) -> None:
        if self._service is None:
            raise RpcError(StatusCode.INTERNAL, "Watch takes one request")

    def on_cancel(self) -> None:
        if self._service is not None:
            self._health._leave(self._service, self._call)


def _service(request: bytes) -> str:
    try:
        return str(health_pb2.HealthCheckRequest.FromString(request).service)
    except DecodeError:
        raise RpcError(StatusCode.INVALID_ARGUMENT, "not a HealthCheckRequest") from None


def _response(state: int) -> bytes:
    encoded: bytes = health_pb2.HealthCheckResponse(status=state).SerializeToString()
    return encoded
