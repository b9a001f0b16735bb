"""Run a server with health checks and an echo service, for protocol checkers and load generators.

`python -m extproc.transport` prints the bound address as its first line. SIGTERM and SIGINT drain
the server.
"""

import argparse
import asyncio
import signal
from pathlib import Path

import uvloop

from extproc.rpc import Call, Services
from extproc.services.health import HealthService
from extproc.transport import TRANSPORTS, Tls, serve


class Echo:
    """Sends each message back, and ends the call when the client half-closes."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def on_message(self, message: bytes) -> None:
        self._call.send(message)

    def on_half_close(self) -> None:
        self._call.finish()

    def on_cancel(self) -> None:
        """Nothing to undo."""


async def _run(options: argparse.Namespace) -> None:
    services: Services = {"/sluice.Echo/Stream": Echo, **HealthService().services()}
    tls = Tls(options.certificate, options.key, options.client_ca) if options.certificate else None
    server = serve(options.transport, services, options.listen, tls=tls)
    print(await server.start(), flush=True)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()
    await server.drain(options.drain_seconds)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m extproc.transport", description=__doc__)
    parser.add_argument("--transport", choices=TRANSPORTS, default=TRANSPORTS[0])
    parser.add_argument("--listen", default="127.0.0.1:0", help="host:port or unix:/path")
    parser.add_argument("--certificate", type=Path, help="PEM file of the server; enables TLS")
    parser.add_argument("--key", type=Path, help="PEM file of the certificate's key")
    parser.add_argument("--client-ca", type=Path, help="PEM file; requires client certificates")
    parser.add_argument(
        "--drain-seconds", type=float, default=5.0, help="time for open calls after a signal"
    )
    uvloop.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
