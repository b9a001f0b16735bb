"""Runs one Envoy of a gateway on this machine, and drains it before it ends."""

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

from sluice.bootstrap import NodeNames
from sluice.config import GatewayConfig
from sluice.envoy_binary import NoEnvoyError
from sluice.output import write_error
from sluice.runner import plan
from sluice.runner.drain import drain
from sluice.runner.process import ChildProcess
from sluice.runner.race import ends_first
from sluice.runner.signals import StopSignals
from sluice.runner.start import StartError, check_addresses, temporary_folder

log = logging.getLogger(__name__)


class EnvoyEndedError(Exception):
    """Envoy has ended by itself."""


@dataclass(frozen=True, slots=True)
class EnvoyOptions:
    """Options of `sluice envoy`. `binary`: None for the installed one."""

    binary: Path | None
    node: NodeNames


async def run_envoy(config: GatewayConfig, directory: Path, options: EnvoyOptions) -> None:
    """Run until a signal. SIGTERM drains Envoy before it ends it, SIGINT ends it at once.

    File names in the config are relative to `directory`. Only its sections about Envoy and the
    servers to which it connects are read. Raises StartError and EnvoyEndedError.
    """
    signals = StopSignals()
    signals.handle()
    with temporary_folder() as folder:
        try:
            spec = plan.envoy(config, directory, options.binary, folder, options.node)
        except NoEnvoyError as error:
            raise StartError(str(error)) from error
        except OSError as error:
            raise StartError(write_error(error)) from error
        check_addresses([spec])
        envoy = ChildProcess(spec)
        try:
            await envoy.start()
        except OSError as error:
            raise StartError(f"cannot start {spec.argv[0]}: {error.strerror}") from error
        try:
            await _run(envoy, signals, config, folder)
        finally:
            await envoy.stop()


async def _run(
    envoy: ChildProcess, signals: StopSignals, config: GatewayConfig, folder: Path
) -> None:
    ended = asyncio.create_task(envoy.ended())
    try:
        await ends_first(asyncio.shield(ended), signals.wait())
        if signals.drain.is_set() and not ended.done():
            log.info("SIGTERM: draining Envoy; another SIGTERM ends it at once")
            drained = drain(config.envoy.admin, folder, config.envoy.drain)
            await ends_first(asyncio.shield(ended), drained, signals.end.wait())
        if ended.done():
            raise EnvoyEndedError(f"Envoy ended with {ended.result()}")
    finally:
        ended.cancel()
