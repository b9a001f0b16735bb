"""Runs `sluice video-service` with a control plane and a gateway of the test."""

import asyncio
import io
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx
from PIL import Image

from tests.integration.gateway import free_ports
from tests.video.gateway_server import Answer, GatewayServer, gateway_server
from tests.video.process.ads_server import AdsServer, ads_server, resources
from tests.video.streams_kit import jpeg_model

TIMEOUT = 60.0


def jpeg(number: int) -> bytes:
    """A picture of which each number has another."""
    content = io.BytesIO()
    Image.new("RGB", (32, 32), (number % 256, 0, 255)).save(content, "JPEG")
    return content.getvalue()


@dataclass(slots=True)
class RunningService:
    """The processes, and what they are connected to."""

    process: Process
    ads: AdsServer
    gateway: GatewayServer
    http: list[str]
    """Addresses of the workers."""
    metrics: str
    stop_control_plane: Callable[[], Awaitable[None]]

    async def get(self, path: str) -> httpx.Response:
        """Ask the supervisor."""
        async with httpx.AsyncClient(verify=False) as client:
            return await client.get(f"http://{self.metrics}{path}")

    async def videos(self) -> Any:
        """The status of the streams."""
        return (await self.get("/v1/videos")).json()

    async def pids(self) -> list[int]:
        """The processes of the workers."""
        return [worker["pid"] for worker in (await self.videos())["workers"]]

    async def metric(self, name: str) -> float:
        """The sum of a metric over all its labels."""
        lines = (await self.get("/metrics")).text.splitlines()
        return sum(
            float(each.split()[-1]) for each in lines if each.split("{")[0].split()[0] == name
        )

    async def until(self, condition: Any) -> None:
        """Wait until an asynchronous condition is true."""
        async with asyncio.timeout(TIMEOUT):
            while True:
                with suppress(httpx.TransportError):
                    if await condition():
                        return
                await asyncio.sleep(0.05)

    async def is_ready(self) -> bool:
        """Whether all workers serve."""
        return all(worker["serving"] for worker in (await self.videos())["workers"])

    async def log(self) -> str:
        """The log, after the end of the process."""
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode()


def consecutive_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    while True:
        (first,) = free_ports(1)
        with ExitStack() as stack, suppress(OSError):
            for port in range(first + 1, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first


@asynccontextmanager
async def running_service(
    answer: Answer | None = None, *, workers: int = 1, hang: float = 20.0, drain: float = 5.0
) -> AsyncIterator[RunningService]:
    """Run the service until the block ends. It has the model `digits`."""
    (port,) = free_ports(1)
    first_http, first_grpc = consecutive_ports(workers), consecutive_ports(workers)
    async with AsyncExitStack() as stack, gateway_server(answer) as gateway:
        ads = await stack.enter_async_context(ads_server())
        ads.push(resources({"digits": jpeg_model()}, gateway=gateway.address))
        metrics = f"127.0.0.1:{port}"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sluice.cli", "video-service",
            "--xds", ads.address,
            "--http", f"127.0.0.1:{first_http}",
            "--grpc", f"127.0.0.1:{first_grpc}",
            "--metrics", metrics,
            "--workers", str(workers),
            "--hang-timeout", str(hang),
            "--drain-timeout", str(drain),
            stdin=DEVNULL,
            stderr=PIPE,
            start_new_session=True,
            env={**os.environ, "SLUICE_CONFIG": ""},
        )  # fmt: skip
        addresses = [f"127.0.0.1:{first_http + n}" for n in range(workers)]
        found = RunningService(process, ads, gateway, addresses, metrics, stack.aclose)
        try:
            await found.until(found.is_ready)
            yield found
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
