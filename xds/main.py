"""The process of the control plane: creates the parts, connects them, and runs until a signal."""

import asyncio
import ctypes
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from sluice.config import ConfigError, GatewayConfig
from sluice.http.server import create_http_server, listen
from sluice.identity import control_plane_files
from xds.admin.access import admin_guard
from xds.admin.app import application, operations
from xds.admin.configs import Configs
from xds.admin.explain import Explainer
from xds.admin.metrics import StateCollector
from xds.admin.status import ControlPlaneState
from xds.canary.automation import CanaryAnalysis
from xds.envoys.admin import AdminSource
from xds.envoys.configured import reporting_nodes
from xds.envoys.load_reports import LoadReportReader
from xds.envoys.observations import Observations
from xds.envoys.reports import ReportService
from xds.envoys.trials import TrafficTrials
from xds.envoys.worker_reports import WorkerReportReader
from xds.events import Events
from xds.identity import NodeIdentities, node_identities, xds_credentials
from xds.pipeline import start_pipeline
from xds.protocol.authorization import Authorization
from xds.protocol.client_status import ClientStatusService
from xds.protocol.nodes import Nodes
from xds.protocol.server import Service, XdsServer
from xds.rollout.rollout import Rollout
from xds.sources.endpoints.discovered import DiscoveredEndpoints
from xds.sources.endpoints.file import EndpointFiles
from xds.sources.endpoints.kubernetes import KubernetesServices
from xds.sources.key_sets import FetchedKeySets
from xds.sources.store.open import MEMORY, open_store
from xds.sources.store.store import Store, StoreError
from xds.start import FirstConfig, StartOptions, first_config

log = logging.getLogger(__name__)

EXIT_INVALID_CONFIG = 2

MAX_HTTP_REQUESTS = 100
"""Concurrent requests to the admin HTTP server."""


def main(options: StartOptions, explainer: Explainer | None = None) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit status: 2 if the first config is not valid.

    `explainer` explains decisions for the admin API.
    """
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for verbose in ("watchfiles", "uvicorn"):
        logging.getLogger(verbose).setLevel(logging.WARNING)
    _return_freed_memory()
    # Modules live as long as the process. Without them, collections are short, and the process ends
    # soon after its streams: Envoy warns when it finds no control plane for two seconds.
    gc.freeze()
    try:
        asyncio.run(run(options, explainer))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_INVALID_CONFIG
    except StoreError as error:
        print(f"control plane: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"control plane: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


def _return_freed_memory() -> None:
    """Let glibc's allocator keep little free memory. Other C libraries ignore the settings.

    By default, each thread has a heap of its own, and the blocks of a large config leave holes in
    all of them.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, 1 << 16)):
            mallopt(parameter, value)


_MMAP_THRESHOLD, _ARENA_MAX = -3, -8
"""Parameters of mallopt(3)."""


async def run(options: StartOptions, explainer: Explainer | None = None) -> None:
    """Serve ADS and the admin HTTP server.

    Raises ConfigError if the first config is not valid, and StoreError.
    """
    store = await asyncio.to_thread(open_store, options.store or MEMORY)
    try:
        first = await first_config(options, store)
        events = Events()
        nodes = Nodes(time.time, events)
        observations = Observations()
        observations.expect(partial(reporting_nodes, nodes))
        served = _served(first.reading.loaded.config, options)
        identities = node_identities(served, options.names_below)
        server = _xds_server(served, options.names_below, nodes, observations, identities)
        # Nodes connect while the first config compiles.
        await server.start()
        try:
            await _serve(
                options, store, first, served, nodes, server, observations, events, explainer,
                identities,
            )  # fmt: skip
        finally:
            await server.stop()
    finally:
        await store.close()
    log.info("stopped")


def _served(started: GatewayConfig, options: StartOptions) -> GatewayConfig:
    """The config of the start, with the addresses on which this process listens."""
    xds, http = options.addresses(started.control_plane)
    section = started.control_plane.model_copy(update={"xds": xds, "http": http})
    return started.model_copy(update={"control_plane": section})


def _xds_server(
    served: GatewayConfig,
    directory: Path,
    nodes: Nodes,
    observations: Observations,
    identities: NodeIdentities | None,
) -> XdsServer:
    """The xDS server, with the services for reports and for operators."""
    readers = (LoadReportReader(), WorkerReportReader())
    reports = [ReportService(observations, reader) for reader in readers]
    services: list[Service] = [*reports, ClientStatusService(nodes)]
    return XdsServer(
        nodes,
        served.control_plane.xds,
        services,
        xds_credentials(served.identity, directory),
        None if identities is None else Authorization(identities.role),
    )


async def _serve(
    options: StartOptions,
    store: Store,
    first: FirstConfig,
    served: GatewayConfig,
    nodes: Nodes,
    server: XdsServer,
    observations: Observations,
    events: Events,
    explainer: Explainer | None,
    identities: NodeIdentities | None,
) -> None:
    """Compile the first config, roll out its changes, and serve HTTP until a signal."""
    started = first.reading.loaded.config
    settings = started.control_plane
    key_sets = FetchedKeySets()
    rollout = Rollout(nodes, settings.ack_timeout, events=events)
    endpoints = DiscoveredEndpoints([EndpointFiles(options.names_below), KubernetesServices()])
    trials = TrafficTrials(observations)
    pipeline = await start_pipeline(
        options, store, first, rollout, key_sets, endpoints, events, trials.begin
    )
    compiled = pipeline.compiled
    state = ControlPlaneState(
        pipeline.source.name, compiled, nodes, rollout, observations, endpoints, events
    )
    if identities is not None:
        identities.config = lambda: state.config
    directory = options.names_below
    xds, http = served.control_plane.xds, served.control_plane.http
    plane = f"{socket.gethostname()} {xds}"
    canaries = CanaryAnalysis(
        pipeline.applier, rollout, observations, events, plane, decisions=state.canary_decisions
    )
    listener = listen(http)
    api = operations(state, Configs(pipeline.applier, events), events, explainer)
    guard = admin_guard(served, lambda: state.config, directory)
    app = application(api, guard, StateCollector(state, nodes))
    envoy = AdminSource(started.envoy.admin, state.fleet.endpoint_count)
    tls = control_plane_files(started.identity, directory)
    admin = create_http_server(app, http, max_requests=MAX_HTTP_REQUESTS, tls=tls)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await server.report_serving()
    log.info("xDS on %s, HTTP on %s", xds, http)
    pipeline.follower.log_valid(compiled)
    serving = asyncio.create_task(admin.serve([listener]))
    tasks = [
        serving,
        asyncio.create_task(rollout.run()),
        asyncio.create_task(pipeline.run(state, rollout)),
        asyncio.create_task(envoy.run(state.fleet.report)),
        asyncio.create_task(canaries.run()),
    ]

    async def end_requests() -> None:
        events.close()
        admin.should_exit = True
        await asyncio.wait([serving])

    await _run_until(stop, tasks, end_requests)
    key_sets.close()


async def _run_until(
    stop: asyncio.Event, tasks: list[asyncio.Task[None]], end: Callable[[], Awaitable[None]]
) -> None:
    """Wait for the stop signal, and call `end`. Then the tasks are cancelled.

    If a task fails before the signal, raises its exception.
    """
    stopped = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        await end()
    finally:
        for task in (stopped, *tasks):
            task.cancel()
        await asyncio.gather(stopped, *tasks, return_exceptions=True)
