"""Runs all processes of a gateway on this machine."""

import asyncio
import logging
import signal
import sys
import tempfile
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path

from sluice.config import GatewayConfig, policy_document
from sluice.config.load import load
from sluice.devkeys import DevKeys
from sluice.runner import plan
from sluice.runner.envoy import callout_ready
from sluice.runner.process import ChildExitedError, ChildProcess, ProcessSpec, is_free

log = logging.getLogger(__name__)

READY_TIMEOUT = 60.0
"""Seconds for all processes to become ready."""


class StartError(Exception):
    """The gateway could not be started. None of its processes runs."""


@dataclass(frozen=True, slots=True)
class UpOptions:
    """Options of `sluice up`. `transport` is that of the callout workers; None: the default."""

    config: Path
    demo: bool = False
    envoy: Path | None = None
    transport: str | None = None


async def up(options: UpOptions) -> None:
    """Run until SIGINT or SIGTERM, then stop all processes. Raises ConfigError or StartError."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if options.demo:
        _ensure_keys()
    config = load(options.config)
    policy_document(config, options.config.parent)  # fails now if a key set cannot be read
    with tempfile.TemporaryDirectory(prefix="sluice-") as directory:
        specs = _specs(options, config, Path(directory))
        _check_addresses(specs)
        children = [ChildProcess(spec) for spec in specs]
        try:
            if await _start(children, config, stop):
                _announce(options, config)
                await stop.wait()
        finally:
            await _stop(children)


def _ensure_keys() -> None:
    try:
        DevKeys.default().ensure()
    except OSError as error:
        raise StartError(f"cannot write the development key of the demo: {error}") from error


def _specs(options: UpOptions, config: GatewayConfig, directory: Path) -> list[ProcessSpec]:
    """All processes, in the order of their start. They are stopped in reverse order."""
    models = plan.demo_models(config) if options.demo else None
    try:
        envoy = plan.envoy(config, options.envoy, directory)
    except plan.NoEnvoyError as error:
        raise StartError(str(error)) from error
    return [
        *([models] if models else []),
        plan.control_plane(config, options.config),
        plan.callout(config, options.config, options.transport),
        envoy,
    ]


def _check_addresses(specs: Sequence[ProcessSpec]) -> None:
    taken = [f"{a} ({s.name})" for s in specs for a in s.listens if not is_free(a)]
    if taken:
        raise StartError(f"address in use, or not an address of this machine: {', '.join(taken)}")


async def _start(
    children: Sequence[ChildProcess], config: GatewayConfig, stop: asyncio.Event
) -> bool:
    """Start all processes. Returns False when `stop` is set before all are ready."""
    try:
        for child in children:
            await child.start()
        async with asyncio.timeout(READY_TIMEOUT):
            started = await _first(_ready(children, config), stop.wait())
    except TimeoutError:  # before OSError, of which it is a subclass
        raise StartError(f"the gateway was not ready within {READY_TIMEOUT:.0f} s") from None
    except (ChildExitedError, OSError) as error:
        raise StartError(str(error)) from error
    return started


async def _ready(children: Sequence[ChildProcess], config: GatewayConfig) -> None:
    await asyncio.gather(*(child.ready() for child in children))
    await callout_ready(config.envoy.admin, config.callout.workers)
    for child in children:
        child.keep()


async def _first(
    wanted: Coroutine[object, object, None], other: Coroutine[object, object, object]
) -> bool:
    """Whether `wanted` ends before `other`. The one that has not ended is cancelled."""
    tasks = [asyncio.create_task(wanted), asyncio.create_task(other)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            tasks[0].result()
        return tasks[0].done()
    finally:
        for task in tasks:
            task.cancel()


async def _stop(children: Sequence[ChildProcess]) -> None:
    for child in reversed(children):
        await child.stop()


def _announce(options: UpOptions, config: GatewayConfig) -> None:
    scheme = "https" if config.listener.tls else "http"
    rows = [
        ("gateway", f"{scheme}://{config.listener.address}"),
        ("control plane", f"http://{config.control_plane.http}"),
        ("xDS", config.control_plane.xds),
        ("callout", ", ".join(config.callout.addresses())),
        ("metrics", f"http://{config.telemetry.metrics.address}/metrics"),
        ("Envoy admin", f"http://{config.envoy.admin}"),
        ("config", f"{options.config} (changes take effect at once)"),
    ]
    print("Sluice is ready.", file=sys.stderr)
    for name, where in rows:
        print(f"  {name:<14} {where}", file=sys.stderr)
    print("Press Ctrl-C to stop.", file=sys.stderr, flush=True)
