"""The process of the control plane: creates the parts, connects them, and runs until a signal."""

import asyncio
import ctypes
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial

from sluice.config import ConfigError, GatewayConfig
from sluice.http.server import HttpServer, create_http_server, listen
from sluice.identity import callout_client, control_plane_files
from xds.admin.access import admin_guard
from xds.admin.app import application, operations
from xds.admin.edits import Edits
from xds.admin.explain import Explainer
from xds.admin.metrics import StateCollector
from xds.canary.automation import CanaryAnalysis
from xds.candidate.start import FirstConfig, StartOptions, first_config
from xds.envoys.admin import AdminSource
from xds.envoys.configured import reporting_nodes
from xds.envoys.load_reports import LoadReportReader
from xds.envoys.observations import Observations
from xds.envoys.reports import ReportService
from xds.envoys.trials import TrafficTrials
from xds.envoys.video_streams import VideoReportReader, VideoStreams
from xds.envoys.worker_reports import WorkerReportReader
from xds.events import Events
from xds.istio.mcp import MAX_STREAMS, istiod_server
from xds.pipeline import Pipeline, start_pipeline
from xds.protocol.authorization import Authorization
from xds.protocol.client_status import ClientStatusService
from xds.protocol.identity import (
    NodeIdentities,
    istiod_credentials,
    node_identities,
    xds_credentials,
)
from xds.protocol.nodes import Nodes
from xds.protocol.server import Service, XdsServer
from xds.rollout.rollout import Rollout
from xds.sources.endpoints.discovered import DiscoveredEndpoints
from xds.sources.endpoints.file import EndpointFiles
from xds.sources.endpoints.kubernetes import KubernetesServices
from xds.sources.key_sets import FetchedKeySets
from xds.sources.store.open import MEMORY, open_store
from xds.sources.store.store import Store, StoreError
from xds.state import ControlPlaneState
from xds.tasks import EndedError, run_until

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
    except (StoreError, EndedError) as error:
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


@dataclass(frozen=True, slots=True)
class _Xds:
    """The xDS servers, and what they record. `served`: the config of the start, and its addresses.

    `servers`: that of Envoys and workers, and that of istiod if there is one. `istiods`: its nodes.
    """

    served: GatewayConfig
    servers: tuple[XdsServer, ...]
    nodes: Nodes
    istiods: Nodes
    observations: Observations
    videos: VideoStreams
    events: Events
    identities: NodeIdentities | None

    async def start(self) -> None:
        """Start to listen."""
        for each in self.servers:
            await each.start()

    async def stop(self) -> None:
        """End every stream, and stop listening."""
        await asyncio.gather(*(each.stop() for each in self.servers))


@dataclass(frozen=True, slots=True)
class _Plane:
    """What follows the config and rolls it out."""

    pipeline: Pipeline
    rollout: Rollout
    state: ControlPlaneState
    canaries: CanaryAnalysis
    key_sets: FetchedKeySets


async def run(options: StartOptions, explainer: Explainer | None = None) -> None:
    """Serve ADS and the admin HTTP server.

    Raises ConfigError if the first config is not valid, StoreError, and EndedError.
    """
    store = await asyncio.to_thread(open_store, options.store or MEMORY)
    try:
        first = await first_config(options, store)
        xds = _create_xds(first.reading.loaded.config, options)
        # Nodes connect while the first config compiles.
        await xds.start()
        try:
            plane = await _create_plane(options, store, first, xds)
            await _serve(options, xds, plane, explainer)
        finally:
            await xds.stop()
    finally:
        await store.close()
    log.info("stopped")


def _create_xds(started: GatewayConfig, options: StartOptions) -> _Xds:
    """The xDS servers, with the services for reports and for operators."""
    served, directory, events = _served(started, options), options.names_below, Events()
    # Strangers may connect to the server of istiod, so its clients emit no events.
    istiods = Nodes(time.time, max_streams=MAX_STREAMS)
    nodes, observations = Nodes(time.time, events, (istiods,)), Observations()
    observations.expect(partial(reporting_nodes, nodes))
    identities = node_identities(served, directory)
    videos = VideoStreams()
    services: list[Service] = [
        ReportService(observations, LoadReportReader()),
        ReportService(observations, WorkerReportReader()),
        ReportService(videos, VideoReportReader()),
        ClientStatusService(nodes),
    ]
    server = XdsServer(
        nodes,
        served.control_plane.xds,
        services,
        xds_credentials(served.identity, directory),
        None if identities is None else Authorization(identities.role),
    )
    servers = [server]
    if served.mcp is not None:
        servers.append(istiod_server(istiods, served.mcp, istiod_credentials(served, directory)))
    return _Xds(served, tuple(servers), nodes, istiods, observations, videos, events, identities)


def _served(started: GatewayConfig, options: StartOptions) -> GatewayConfig:
    """The config of the start, with the addresses on which this process listens."""
    xds, http = options.addresses(started.control_plane)
    section = started.control_plane.model_copy(update={"xds": xds, "http": http})
    served = started.model_copy(update={"control_plane": section})
    address = options.mcp_address(started.mcp)
    if address is None or started.istio is None or started.mcp is None:
        return served
    mcp = started.mcp.model_copy(update={"address": address})
    return served.model_copy(update={"istio": started.istio.model_copy(update={"mcp": mcp})})


async def _create_plane(
    options: StartOptions, store: Store, first: FirstConfig, xds: _Xds
) -> _Plane:
    """Compile the first config, and create what rolls it out. Raises ConfigError and StoreError."""
    nodes, observations, events = xds.nodes, xds.observations, xds.events
    section, key_sets = xds.served.control_plane, FetchedKeySets()
    mcp = xds.served.mcp
    propagation = 0.0 if mcp is None else mcp.propagation
    rollout = Rollout(nodes, section.ack_timeout, events=events, propagation=propagation)
    endpoints = DiscoveredEndpoints([EndpointFiles(options.names_below), KubernetesServices()])
    trials = TrafficTrials(observations)
    pipeline = await start_pipeline(
        options,
        store,
        first,
        rollout,
        key_sets,
        endpoints,
        events,
        trials.begin,
        trials.begin_stage,
    )
    state = ControlPlaneState(
        pipeline.source.name,
        pipeline.compiled,
        nodes,
        rollout,
        observations,
        endpoints,
        events,
        xds.istiods,
        xds.videos,
    )
    if xds.identities is not None:
        xds.identities.config = lambda: state.config
    plane = f"{socket.gethostname()} {section.xds}"
    decisions = state.canary_decisions
    canaries = CanaryAnalysis(
        pipeline.applier, rollout, observations, events, plane, decisions=decisions
    )
    return _Plane(pipeline, rollout, state, canaries, key_sets)


def _admin_server(
    options: StartOptions, xds: _Xds, plane: _Plane, explainer: Explainer | None
) -> HttpServer:
    """The admin HTTP server. Raises OSError for files that cannot be used."""
    state, directory = plane.state, options.names_below
    edits = Edits(plane.pipeline.applier)
    tls = control_plane_files(xds.served.identity, directory)
    workers = callout_client(xds.served.identity, tls)
    api = operations(state, edits, xds.events, explainer, workers)
    guard = admin_guard(xds.served, lambda: state.config, directory, options.reader_token)
    app = application(api, guard, StateCollector(state))
    address = xds.served.control_plane.http
    return create_http_server(app, address, max_requests=MAX_HTTP_REQUESTS, tls=tls)


def _ask(envoy: str, state: ControlPlaneState) -> Coroutine[None, None, None]:
    """Asks the Envoy with this admin address which endpoints it uses."""
    return AdminSource(envoy, state.fleet.endpoint_count).run(state.fleet.report)


async def _serve(
    options: StartOptions, xds: _Xds, plane: _Plane, explainer: Explainer | None
) -> None:
    """Roll out the config and its changes, and serve HTTP until a signal."""
    section, state, pipeline = xds.served.control_plane, plane.state, plane.pipeline
    listener = listen(section.http)
    admin = _admin_server(options, xds, plane, explainer)
    asked = dict.fromkeys(xds.served.asked_envoys)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    for each in xds.servers:
        await each.report_serving()
    log.info("xDS on %s, HTTP on %s", section.xds, section.http)
    if xds.served.mcp is not None:
        log.info("config source of istiod on %s", xds.served.mcp.address)
    pipeline.follower.log_valid(pipeline.compiled)
    serving = asyncio.create_task(admin.serve([listener]), name="the admin HTTP server")
    running = {
        "the rollout": plane.rollout.run(),
        "the config": pipeline.run(state, plane.rollout),
        **{f"the state of Envoy at {each}": _ask(each, state) for each in asked},
        "the analysis of canaries": plane.canaries.run(),
    }
    tasks = [asyncio.create_task(each, name=name) for name, each in running.items()]

    async def end_requests() -> None:
        xds.events.close()
        admin.should_exit = True
        await asyncio.wait([serving])

    await run_until(stop, [serving, *tasks], end_requests)
    plane.key_sets.close()
