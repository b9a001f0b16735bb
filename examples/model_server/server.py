"""The REST and gRPC servers of this process, from start to graceful shutdown."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Generator, Sequence

import grpc
import uvicorn

from .grpc_service import GrpcService
from .rest_service import RestService
from .served_model import MAX_BODY, ServedModel

GRACE = 3
"""Seconds that calls in progress have to finish after SIGTERM or SIGINT."""
_BACKLOG = 1024


async def serve(models: Sequence[tuple[ServedModel, str, str]]) -> None:
    """Serves each (model, REST address, gRPC address) until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    servers = [_Server(*each) for each in models]
    await asyncio.gather(*(server.run(stop) for server in servers))


class _Uvicorn(uvicorn.Server):
    """A uvicorn server that handles no signals: `serve` stops all servers of the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class _Server:
    """The REST and the gRPC server of one model version."""

    def __init__(self, model: ServedModel, rest_address: str, grpc_address: str) -> None:
        self._model = model
        self._socket = _listen(rest_address)
        self._rest = _Uvicorn(
            uvicorn.Config(
                RestService(model).app(),
                log_level="warning",
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=GRACE,
            )
        )
        self._grpc = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", MAX_BODY),
                # Without this option, two processes can bind one port, and each gets some calls.
                ("grpc.so_reuseport", 0),
            ]
        )
        self._grpc.add_generic_rpc_handlers((GrpcService(model).handler(),))
        self._grpc_host, _, _ = grpc_address.rpartition(":")
        self._grpc_port = self._grpc.add_insecure_port(grpc_address)

    async def run(self, stop: asyncio.Event) -> None:
        await self._grpc.start()
        rest = asyncio.create_task(self._rest.serve(sockets=[self._socket]))
        print(self._ready_line(), flush=True)
        await stop.wait()
        self._rest.should_exit = True
        await asyncio.gather(rest, self._grpc.stop(GRACE))

    def _ready_line(self) -> str:
        host, port = self._socket.getsockname()[:2]
        rest = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        name, version = self._model.name, self._model.version
        return f"{name} {version} rest={rest} grpc={self._grpc_host}:{self._grpc_port}"


def _listen(address: str) -> socket.socket:
    """A socket that listens already, so that a client can connect when it reads the ready line."""
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    return socket.create_server((host.strip("[]"), int(port)), family=family, backlog=_BACKLOG)
