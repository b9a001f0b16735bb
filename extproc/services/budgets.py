"""The gRPC service of the supervisor. Workers lease tokens of budgets from it."""

from collections.abc import Callable

from google.protobuf.message import DecodeError

from extproc.limits.arithmetic import MICROS_PER_SECOND, Algorithm, LeaseRequest, Limit
from extproc.limits.broker import EXCHANGE_PATH
from extproc.limits.ledger import Ledger
from extproc.rpc import Call, Handler, RpcError, Services, StatusCode
from protos.budgets_pb2 import ExchangeRequest, ExchangeResponse


class BudgetService:
    """Serves a ledger. `clock` returns seconds since the epoch.

    `count_evictions` is called with the number of budgets that an exchange evicted.
    """

    def __init__(
        self,
        ledger: Ledger,
        clock: Callable[[], float],
        count_evictions: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._count_evictions = count_evictions

    def services(self) -> Services:
        """The handler factory by method path, for a transport."""
        return {EXCHANGE_PATH: lambda call: _Exchanges(self, call)}

    def exchange(self, message: bytes) -> bytes:
        """Execute the lease requests of a message. Raises RpcError if the message is malformed."""
        try:
            request = ExchangeRequest.FromString(message)
            leases = [_request(lease) for lease in request.leases]
        except (DecodeError, ValueError) as error:
            raise RpcError(StatusCode.INVALID_ARGUMENT, f"malformed request: {error}") from None
        ledger = self._ledger
        ledger.max_keys = max(1, request.max_keys)
        evictions = ledger.evictions
        grants = ledger.exchange(int(self._clock() * MICROS_PER_SECOND), leases)
        self._count_evictions(ledger.evictions - evictions)
        response = ExchangeResponse()
        for grant in grants:
            response.grants.add(
                tokens=grant.tokens, free=grant.free, wait=grant.wait, reset=grant.reset,
                lifetime=grant.lifetime,
            )  # fmt: skip
        return response.SerializeToString()


class _Exchanges(Handler):
    """The stream of one worker."""

    def __init__(self, service: BudgetService, call: Call) -> None:
        self._service = service
        self._call = call

    def on_message(self, message: bytes) -> None:
        self._call.send(self._service.exchange(message))

    def on_half_close(self) -> None:
        self._call.finish()

    def on_cancel(self) -> None:
        """Nothing to undo: the leases of the worker expire."""


def _request(lease: ExchangeRequest.Lease) -> LeaseRequest:
    """Raises ValueError for an unknown algorithm, rate or unit."""
    if not lease.rate or not lease.unit:
        raise ValueError("rate and unit must be positive")
    limit = Limit(Algorithm(lease.algorithm), lease.rate, lease.unit, lease.capacity)
    return LeaseRequest(
        lease.key, limit, lease.holder, lease.sequence,
        lease.held, lease.returned, lease.want, lease.lifetime,
    )  # fmt: skip
