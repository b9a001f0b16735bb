"""The broker as a store: a worker leases tokens from its supervisor over a Unix socket.

A supervisor of several workers serves `extproc.services.budgets` at this socket.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from google.protobuf.message import DecodeError

from extproc.limits.arithmetic import LeaseGrant, LeaseRequest
from extproc.limits.store import StoreError
from extproc.rpc import RpcError, StatusCode
from extproc.transport.aio.client import ClientCall, ClientLimits, open_call
from protos.budgets_pb2 import ExchangeRequest, ExchangeResponse

EXCHANGE_PATH = "/sluice.budgets.v1.BudgetService/Exchange"

MAX_MESSAGE = 1 << 18
"""Bytes. A batch of 128 requests takes less than 64 KiB."""


class BrokerStore:
    """Calls the broker on one stream: connects on first use, and again after a failure."""

    def __init__(self, path: Path, max_keys: int) -> None:
        self._path = path
        self._max_keys = max_keys
        self._connecting = asyncio.Lock()
        self._call: ClientCall | None = None
        self._pending: deque[asyncio.Future[list[LeaseGrant]]] = deque()
        self._receiving: asyncio.Task[None] | None = None

    async def exchange(self, requests: Sequence[LeaseRequest]) -> list[LeaseGrant]:
        """Send the requests. Raises StoreError if the broker is unreachable or ends the call."""
        message = ExchangeRequest(leases=map(_lease, requests), max_keys=self._max_keys)
        grants: asyncio.Future[list[LeaseGrant]] = asyncio.get_running_loop().create_future()
        try:
            call = await self._connected()
            self._pending.append(grants)
            call.send(message.SerializeToString())
            return await grants
        except (OSError, RpcError) as error:
            raise StoreError(f"the broker at {self._path} failed: {error}") from error

    async def close(self) -> None:
        if self._call is not None and self._receiving is not None:
            self._call.close()
            await self._receiving

    async def _connected(self) -> ClientCall:
        async with self._connecting:
            if self._call is None or self._receiving is None or self._receiving.done():
                limits = ClientLimits(max_message=MAX_MESSAGE)
                self._call = await open_call(f"unix:{self._path}", EXCHANGE_PATH, limits)
                self._receiving = asyncio.create_task(self._receive(self._call))
            return self._call

    async def _receive(self, call: ClientCall) -> None:
        """Assign each response to the oldest pending request, until the call ends."""
        failure = RpcError(StatusCode.UNAVAILABLE, "the broker has ended the call")
        try:
            while (message := await call.receive()) is not None:
                response = ExchangeResponse.FromString(message)
                grants = self._pending.popleft()
                if not grants.done():
                    grants.set_result([_grant(grant) for grant in response.grants])
        except (DecodeError, IndexError):
            failure = RpcError(StatusCode.INTERNAL, "the broker's response is malformed")
        except RpcError as error:
            failure = error
        call.close()
        while self._pending:
            grants = self._pending.popleft()
            if not grants.done():
                grants.set_exception(failure)


def _lease(request: LeaseRequest) -> ExchangeRequest.Lease:
    limit = request.limit
    return ExchangeRequest.Lease(
        key=request.key, algorithm=limit.algorithm, rate=limit.rate, unit=limit.unit,
        capacity=limit.capacity, holder=request.holder, sequence=request.sequence,
        held=request.held, returned=request.returned, want=request.want, lifetime=request.lifetime,
    )  # fmt: skip


def _grant(grant: ExchangeResponse.Grant) -> LeaseGrant:
    return LeaseGrant(grant.tokens, grant.free, grant.wait, grant.reset, grant.lifetime)
