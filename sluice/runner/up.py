"""Runs all processes of a gateway on this machine."""

import asyncio
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from sluice.bootstrap import NodeNames
from sluice.config import GatewayConfig
from sluice.config.addresses import reachable
from sluice.config.checked import check_files, load_checked
from sluice.config.identity import Identity
from sluice.config.load import load
from sluice.config.named_files import RUNS_HERE
from sluice.config.policy import jwks_files
from sluice.demo import checkout_key_set
from sluice.devkeys import ISSUER, DevKeyError, DevKeys
from sluice.envoy_binary import NoEnvoyError
from sluice.extras import VIDEO_HINT, missing_for_video
from sluice.identity import callout_files, control_plane_files, video_files
from sluice.output import replace_file, write_error
from sluice.runner import plan
from sluice.runner.drain import drain_if_busy
from sluice.runner.envoy import wait_for_callout
from sluice.runner.process import ChildExitedError, ChildProcess
from sluice.runner.race import ends_first
from sluice.runner.signals import StopSignals
from sluice.runner.start import StartError, check_addresses, temporary_folder
from sluice.runner.waiting import (
    AdminServer,
    ConfigRejectedError,
    wait_for_acceptance,
    wait_for_rejection,
    waits_for,
)
from sluice.tls import TlsFiles

log = logging.getLogger(__name__)

READY_TIMEOUT = 60.0
"""Seconds for all processes to become ready, by default."""

REPORT_INTERVAL = 10.0
"""Seconds between two log lines about what the start waits for."""


@dataclass(frozen=True, slots=True)
class UpOptions:
    """Options of `sluice up`.

    `config`: the config file; with a `store`, what an empty store begins with, or None.
    `faults`: whether clients of the example models may inject faults. `transport`: transport of the
    callout workers; None: the default. `ready_timeout`: seconds for all processes to become ready.
    """

    config: Path | None
    demo: bool = False
    faults: bool = False
    envoy: Path | None = None
    transport: str | None = None
    ready_timeout: float = READY_TIMEOUT
    store: str | None = None

    @property
    def directory(self) -> Path:
        """The folder that file names in the config are relative to."""
        return Path() if self.config is None else self.config.parent


@dataclass(frozen=True, slots=True)
class _Processes:
    """The processes of a gateway. `servers` are the processes that Envoy connects to."""

    models: ChildProcess | None
    video: ChildProcess | None
    callout: ChildProcess
    control_plane: ChildProcess
    envoy: ChildProcess

    @property
    def servers(self) -> list[ChildProcess]:
        optional = [each for each in (self.models, self.video) if each is not None]
        return [*optional, self.control_plane, self.callout]

    def __iter__(self) -> Iterator[ChildProcess]:
        yield from self.servers
        yield self.envoy

    def in_stop_order(self) -> list[ChildProcess]:
        """The control plane comes first and ends its streams, so that no client loses a stream.

        A process comes before those that handle its requests. The video service sends the frames of
        its streams to Envoy, so it comes before Envoy.
        """
        video = [self.video] if self.video else []
        last = [self.models] if self.models else []
        return [self.control_plane, *video, self.envoy, self.callout, *last]


async def up(options: UpOptions) -> None:
    """Run until SIGINT or SIGTERM, then stop all processes. Raises ConfigError or StartError.

    At SIGTERM, open requests may end first.
    """
    stop = StopSignals()
    stop.handle()
    if options.demo and options.config is not None:
        _ensure_keys(load(options.config), options.directory)
    config = await _read_config(options)
    with temporary_folder() as directory:
        token = plan.new_token(directory)
        processes = _processes(options, config, directory, token)
        check_addresses([process.spec for process in processes])
        try:
            admin = AdminServer.of(config, options.directory, token)
            if await _start(processes, config, admin, stop, options.ready_timeout):
                _print_addresses(options, config)
                await stop.wait()
                await _drain(processes, config, directory, stop)
        finally:
            for process in processes.in_stop_order():
                await process.stop()


async def _drain(
    processes: _Processes, config: GatewayConfig, directory: Path, stop: StopSignals
) -> None:
    """Let open requests end, unless a signal says to stop at once.

    Without the control plane, which stops first (`_Processes.in_stop_order`).
    """
    if stop.end.is_set():
        return
    await processes.control_plane.stop()
    drained = drain_if_busy(config.envoy.admin, directory, config.envoy.drain)
    await ends_first(drained, stop.end.wait())


async def _read_config(options: UpOptions) -> GatewayConfig:
    """The config that the control plane will start with. It logs the warnings.

    Raises ConfigError or StartError.
    """
    if options.store is None:
        assert options.config is not None
        return load_checked(options.config, RUNS_HERE).config
    # Only here: the control plane's modules take long to import.
    from xds.candidate.start import StartOptions, first_config
    from xds.sources.store.open import open_store
    from xds.sources.store.store import StoreError

    try:
        store = open_store(options.store)
        try:
            first = await first_config(StartOptions(options.config, options.store), store)
        finally:
            await store.close()
    except StoreError as error:
        raise StartError(str(error)) from error
    loaded = first.reading.loaded
    check_files(loaded.config, loaded.directory, RUNS_HERE, loaded.place)
    return loaded.config


def _ensure_keys(config: GatewayConfig, directory: Path) -> None:
    """Create the development key if the config trusts it. In a checkout, also its key set file."""
    if all(issuer.issuer != ISSUER for issuer in config.auth.issuers):
        return
    try:
        keys = DevKeys.default()
        keys.ensure()
        shared = checkout_key_set()
        if shared is not None and shared in (p.resolve() for p in jwks_files(config, directory)):
            replace_file(shared, keys.key_set())
    except DevKeyError as error:
        raise StartError(str(error)) from error
    except ValueError as error:
        raise StartError(f"{keys.private_key}: {error}") from error
    except OSError as error:
        raise StartError(
            f"{write_error(error)}, or write a demo of your own with `sluice init FOLDER`"
        ) from error


def _processes(
    options: UpOptions, config: GatewayConfig, directory: Path, token: Path
) -> _Processes:
    models = plan.demo_models(config, faults=options.faults) if options.demo else None
    try:
        envoy = plan.envoy(config, options.directory, options.envoy, directory, NodeNames())
    except NoEnvoyError as error:
        raise StartError(str(error)) from error
    except OSError as error:
        raise StartError(write_error(error)) from error
    followed = options.config if options.store is None else None
    if config.video is not None and (missing := missing_for_video()):
        packages = " and ".join(missing)
        raise StartError(f"video: {packages} is not installed: {VIDEO_HINT}")
    video = plan.video_service(config, options.directory, directory, followed)
    return _Processes(
        ChildProcess(models) if models else None,
        ChildProcess(video) if video else None,
        ChildProcess(
            plan.callout(config, options.directory, options.transport, directory, followed)
        ),
        ChildProcess(plan.control_plane(config, options.config, options.store, token)),
        ChildProcess(envoy),
    )


async def _start(
    processes: _Processes,
    config: GatewayConfig,
    admin: AdminServer,
    stop: StopSignals,
    seconds: float,
) -> bool:
    """Start all processes. Returns False if a signal comes before all processes are ready.

    Raises StartError if they are not ready after `seconds`, or cannot become ready.
    """
    try:
        async with asyncio.timeout(seconds):
            return await ends_first(
                _start_in_order(processes, config, admin),
                stop.wait(),
                wait_for_rejection(admin),
                _report(processes, config, admin),
            )
    # TimeoutError is a subclass of OSError, so this clause must be the first.
    except TimeoutError:
        parts = "".join(f"\n  {part}" for part in await waits_for(processes, config, admin))
        raise StartError(
            f"the gateway was not ready within {seconds:g} s; it waits for:{parts}"
        ) from None
    except ConfigRejectedError as error:
        raise StartError(f"the gateway cannot start with this config: {error}") from None
    except (ChildExitedError, OSError) as error:
        raise StartError(str(error)) from error


async def _report(processes: _Processes, config: GatewayConfig, admin: AdminServer) -> NoReturn:
    """Log from time to time what the start waits for."""
    while True:
        await asyncio.sleep(REPORT_INTERVAL)
        for part in await waits_for(processes, config, admin):
            log.info("not ready yet: %s", part)


async def _start_in_order(processes: _Processes, config: GatewayConfig, admin: AdminServer) -> None:
    """Start Envoy when its servers listen. Until then, Envoy would log each failed connection."""
    for group in (processes.servers, [processes.envoy]):
        for process in group:
            await process.start()
        await asyncio.gather(*(process.wait_until_ready() for process in group))
    await wait_for_callout(config.envoy.admin, config.callout.workers)
    await wait_for_acceptance(admin)
    for process in processes:
        process.keep_running()


def _print_addresses(options: UpOptions, config: GatewayConfig) -> None:
    print("Sluice is ready.", file=sys.stderr)
    for name, address in _addresses(options, config):
        print(f"  {name:<14} {address}", file=sys.stderr)
    print("Press Ctrl-C to stop.", file=sys.stderr, flush=True)


def _addresses(options: UpOptions, config: GatewayConfig) -> Iterator[tuple[str, str]]:
    """What listens where: URLs that a client on this machine can use."""
    scheme = "https" if config.listener.tls else "http"
    yield "gateway", _url(config.listener.address, scheme)
    yield "control plane", _url(config.control_plane.http, _scheme(control_plane_files, config))
    yield "xDS", config.control_plane.xds
    yield "callout", ", ".join(config.callout.addresses())
    metrics = config.telemetry.metrics.address
    yield "metrics", _url(metrics, _scheme(callout_files, config), path="/metrics")
    if config.video is not None:
        yield "video", _url(config.video.metrics, _scheme(video_files, config), path="/v1/videos")
    yield "Envoy admin", _url(config.envoy.admin)
    yield (
        "config",
        f"{options.store or options.config} (most changes take effect without a restart)",
    )


def _scheme(
    files: Callable[[Identity | None, Path], TlsFiles | None], config: GatewayConfig
) -> str:
    return "http" if files(config.identity, Path()) is None else "https"


def _url(address: str, scheme: str = "http", path: str = "") -> str:
    found = reachable(address)
    more = "" if found == address else f" (listens on {address})"
    return f"{scheme}://{found}{path}{more}"
