"""The control plane's process: puts the parts together and runs them until it is told to stop."""

import asyncio
import logging
import signal
import sys
import time
from pathlib import Path

from sluice.config import ConfigError
from sluice.http.server import create_http_server
from xds.admin.app import application
from xds.admin.metrics import StateCollector
from xds.admin.status import ControlPlaneState
from xds.protocol.nodes import Nodes
from xds.protocol.server import AdsServer
from xds.rollout.rollout import Rollout
from xds.sources.file import ConfigFile

log = logging.getLogger(__name__)

INVALID_CONFIG = 2

MAX_HTTP_REQUESTS = 100


def main(config_path: Path) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status, 2 for a config that is not valid."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for chatty in ("watchfiles", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        asyncio.run(run(config_path))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return INVALID_CONFIG
    except OSError as error:
        print(f"control plane: {error}", file=sys.stderr)
        return 1
    return 0


async def run(config_path: Path) -> None:
    """Serve ADS and the admin HTTP. Raises ConfigError for a first config that is not valid."""
    file = ConfigFile(config_path)
    loaded = file.read()
    settings = loaded.config.control_plane
    nodes = Nodes(time.time)
    rollout = Rollout(nodes, settings.ack_timeout)
    state = ControlPlaneState(str(config_path), loaded, nodes, rollout)
    rollout.submit(loaded.snapshot)
    server = AdsServer(nodes, settings.xds)
    app = application(state, StateCollector(state, nodes))
    admin = create_http_server(app, settings.http, max_requests=MAX_HTTP_REQUESTS)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await server.start()
    log.info("xDS on %s, HTTP on %s", settings.xds, settings.http)
    log.info("config %s: version %s", config_path, loaded.snapshot.version)
    tasks = [
        asyncio.create_task(rollout.run()),
        asyncio.create_task(_follow(file, state, rollout)),
        asyncio.create_task(admin.serve()),
    ]
    await _until(stop, tasks)
    await server.stop()
    log.info("stopped")


async def _until(stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    """Wait for the signal, or for a part that ends by itself: it has failed, and so raises."""
    stopped = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (stopped, *tasks):
            task.cancel()
        await asyncio.gather(stopped, *tasks, return_exceptions=True)


async def _follow(file: ConfigFile, state: ControlPlaneState, rollout: Rollout) -> None:
    async for change in file.changes():
        if isinstance(change, ConfigError):
            log.error("the config is not valid; nothing changes:\n%s", change)
            state.refused(str(change))
            continue
        log.info("config %s: version %s", file.path, change.snapshot.version)
        state.accepted(change)
        for key in change.restart_required:
            log.warning("%s has changed: that takes effect at the next start", key)
        rollout.submit(change.snapshot)
