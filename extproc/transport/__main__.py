"""`python -m extproc.transport`: a server of health checks and an echo, to run protocol checkers
and load generators against.

It prints the bound address on its first line and drains on SIGTERM or SIGINT.
"""

import argparse
import asyncio
import signal
from pathlib import Path

import uvloop

from extproc.rpc import Call, Services
from extproc.services.health import Health
from extproc.transport import TRANSPORTS, Tls, serve


class Echo:
    """Sends each message back as it comes, and ends when the client does."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def on_message(self, message: bytes) -> None:
        self._call.send(message)

    def on_half_close(self) -> None:
        self._call.finish()

    def on_cancel(self) -> None:
        """An echo holds nothing."""


async def _run(options: argparse.Namespace) -> None:
    services: Services = {"/sluice.Echo/Stream": Echo, **Health().services()}
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
    parser.add_argument("--certificate", type=Path, help="PEM file; serves TLS")
    parser.add_argument("--key", type=Path)
    parser.add_argument("--client-ca", type=Path, help="PEM file; demands client certificates")
    parser.add_argument("--drain-seconds", type=float, default=5.0)
    uvloop.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
