"""`python -m examples.model_server`: serves models, each version at its own addresses.

One process can serve several. It prints one line for each endpoint as soon as that accepts calls.
"""

import argparse
import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Generator, Sequence

import grpc
import uvicorn
import uvloop

from .endpoint import MAX_BODY, MODELS, Endpoint
from .rest import RestEndpoint
from .rpc import GrpcEndpoint
from .tensors import NotFoundError

# How long calls under way get to finish after SIGTERM, in seconds.
GRACE = 3
_BACKLOG = 1024


class _Uvicorn(uvicorn.Server):
    """Leaves signals alone: one handler stops all the servers of this process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class _Serving:
    """The two servers of one endpoint."""

    def __init__(self, endpoint: Endpoint, rest: str, grpc_address: str) -> None:
        self._endpoint = endpoint
        self._socket = _listen(rest)
        self._rest = _Uvicorn(
            uvicorn.Config(
                RestEndpoint(endpoint).app(),
                log_level="warning",
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=GRACE,
            )
        )
        self._rpc = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", MAX_BODY),
                # Two processes on one port would split its calls between them unnoticed.
                ("grpc.so_reuseport", 0),
            ]
        )
        self._rpc.add_generic_rpc_handlers((GrpcEndpoint(endpoint).handler(),))
        self._rpc_host, _, _ = grpc_address.rpartition(":")
        self._rpc_port = self._rpc.add_insecure_port(grpc_address)

    async def run(self, stop: asyncio.Event) -> None:
        await self._rpc.start()
        serving = asyncio.create_task(self._rest.serve(sockets=[self._socket]))
        print(self._line(), flush=True)
        await stop.wait()
        self._rest.should_exit = True
        await asyncio.gather(serving, self._rpc.stop(GRACE))

    def _line(self) -> str:
        host, port = self._socket.getsockname()[:2]
        rest = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        name, version = self._endpoint.name, self._endpoint.version
        return f"{name} {version} rest={rest} grpc={self._rpc_host}:{self._rpc_port}"


def _listen(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    # The socket listens at once: a client that reads the line connects, and waits for the accept.
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    return socket.create_server((host.strip("[]"), int(port)), family=family, backlog=_BACKLOG)


async def serve(endpoints: Sequence[tuple[Endpoint, str, str]]) -> None:
    """Serves each (endpoint, REST address, gRPC address) until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    serving = [_Serving(*row) for row in endpoints]
    await asyncio.gather(*(each.run(stop) for each in serving))


def _arguments(words: Sequence[str]) -> list[tuple[str, str, str, str]]:
    parser = argparse.ArgumentParser(prog="python -m examples.model_server", description=__doc__)
    parser.add_argument("--model", choices=MODELS)
    parser.add_argument("--version", default="v1")
    parser.add_argument("--rest", default="127.0.0.1:9101", metavar="HOST:PORT")
    parser.add_argument("--grpc", default="127.0.0.1:9201", metavar="HOST:PORT")
    parser.add_argument(
        "--serve",
        nargs=3,
        action="append",
        default=[],
        metavar=("MODEL:VERSION", "REST", "GRPC"),
        help="one endpoint; repeat it for more in this process",
    )
    given = parser.parse_args(words)
    rows = [(*what.partition(":")[::2], rest, rpc) for what, rest, rpc in given.serve]
    if given.model:
        rows.append((given.model, given.version, given.rest, given.grpc))
    if not rows:
        parser.error("nothing to serve: give --model, or --serve once for each endpoint")
    for address in (address for row in rows for address in row[2:]):
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            parser.error(f"not HOST:PORT: {address}")
    return rows


def main() -> None:
    """Exit status 2 for a model that does not exist or an address that is taken."""
    try:
        rows = [
            (Endpoint.load(model, version), rest, rpc)
            for model, version, rest, rpc in _arguments(sys.argv[1:])
        ]
        uvloop.run(serve(rows))
    except (NotFoundError, OSError, RuntimeError) as error:
        print(f"model_server: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
