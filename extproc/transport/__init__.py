"""gRPC servers for services (`extproc.rpc`), over a transport chosen by name.

`asyncio`, the default, is our own HTTP/2 on the running event loop; `grpcio` is the reference
implementation of gRPC.
"""

from typing import Literal, Protocol

from extproc.memory_budget import DEFAULT_LIMIT, MemoryBudget
from extproc.rpc import Services
from extproc.transport.counters import Counters
from extproc.transport.limits import Rate, TransportLimits
from extproc.transport.tls import Tls

__all__ = [
    "TRANSPORTS",
    "Counters",
    "Rate",
    "Server",
    "Tls",
    "TransportLimits",
    "TransportName",
    "serve",
]

TransportName = Literal["asyncio", "grpcio"]
TRANSPORTS: tuple[TransportName, ...] = ("asyncio", "grpcio")


class Server(Protocol):
    """A server on one address. Its methods are called from the event loop that it runs on."""

    @property
    def counters(self) -> Counters:
        """Totals since the server was created."""

    async def start(self) -> str:
        """Bind and listen; returns the bound address, with the port the system chose for port 0.

        Raises OSError when the address cannot be bound.
        """

    async def drain(self, deadline_seconds: float) -> None:
        """Refuse new calls, wait for the open ones, cancel the rest at the deadline, then close."""

    async def close(self) -> None:
        """Cancel every call and close at once. May be called twice."""


def serve(
    transport: TransportName,
    services: Services,
    address: str,
    *,
    limits: TransportLimits | None = None,
    memory: MemoryBudget | None = None,
    tls: Tls | None = None,
    reuse_port: bool = False,
) -> Server:
    """Create a server for `host:port` or `unix:/path`; it listens once `start()` is awaited.

    `memory` bounds the request and response bytes of all calls. Without it, the server has a budget
    of its own. `reuse_port` lets several processes listen on one TCP port. Raises ValueError for a
    bad address.
    """
    limits = limits or TransportLimits()
    memory = memory or MemoryBudget(DEFAULT_LIMIT)
    if transport == "grpcio":
        from extproc.transport.grpcio import GrpcioServer

        return GrpcioServer(
            services, address, limits=limits, memory=memory, tls=tls, reuse_port=reuse_port
        )
    from extproc.transport.aio.server import AsyncioServer

    return AsyncioServer(
        services, address, limits=limits, memory=memory, tls=tls, reuse_port=reuse_port
    )
