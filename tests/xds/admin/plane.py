"""A control plane without Envoy, with its admin API on a free port, in a thread of the test."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from sluice.config.addresses import split_host_port
from sluice.http.server import create_http_server, listen
from tests import plain_http
from xds.admin.access import admin_guard
from xds.admin.api.operations import Operation
from xds.admin.app import application, operations
from xds.admin.edits import Edits
from xds.admin.explain import Explainer
from xds.admin.metrics import StateCollector
from xds.candidate.start import StartOptions, first_config
from xds.events import Events
from xds.pipeline import start_pipeline
from xds.protocol.nodes import Nodes
from xds.rollout.rollout import Rollout
from xds.sources.key_sets import FetchedKeySets
from xds.sources.store.store import Store
from xds.state import ControlPlaneState

START_TIMEOUT, STOP_TIMEOUT = 60.0, 30.0


class Plane:
    """A running control plane. `client` calls its API."""

    def __init__(self, client: httpx.Client, address: str) -> None:
        self.client = client
        self.address = address
        self.loop: asyncio.AbstractEventLoop
        self.events: Events
        self.nodes: Nodes
        self.store: Store
        self.operations: tuple[Operation, ...]

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.client.get(path, headers=_names(headers))

    def send(
        self, method: str, path: str, body: object = None, kind: str = "json", **headers: str
    ) -> httpx.Response:
        """Send a body: plain data as JSON, else bytes or text of the media type."""
        types = {
            "json": "application/json",
            "yaml": "application/yaml",
            "patch": "application/merge-patch+json",
        }
        content = {} if body is None else {"content-type": types.get(kind, kind)}
        as_is = isinstance(body, str | bytes)
        arguments: dict[str, Any] = {"content": body} if as_is or body is None else {"json": body}
        return self.client.request(method, path, headers=content | _names(headers), **arguments)

    def patch(self, path: str, body: object, **headers: str) -> httpx.Response:
        return self.send("PATCH", path, body, "patch", **headers)


def _names(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@contextmanager
def plane(
    options: StartOptions, store: Store, explainer: Explainer | None = None
) -> Iterator[Plane]:
    """A control plane with these options and a store."""
    with ExitStack() as stack:
        listener = stack.enter_context(listen("127.0.0.1:0"))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        client = stack.enter_context(plain_http.client(base_url=f"http://{address}", timeout=20))
        running = Plane(client, address)
        ready, stop = threading.Event(), asyncio.Event()

        async def run() -> None:
            running.loop, running.store = asyncio.get_running_loop(), store
            running.events = events = Events()
            running.nodes = nodes = Nodes(time.time, events=events)
            rollout = Rollout(nodes, 5.0, events=events)
            first = await first_config(options, store)
            parts = await start_pipeline(
                options, store, first, rollout, FetchedKeySets(), events=events
            )
            state = ControlPlaneState(
                parts.source.name, parts.compiled, nodes, rollout, events=events
            )
            running.operations = operations(state, Edits(parts.applier), events, explainer)
            guard = admin_guard(state.config, lambda: state.config, options.names_below)
            app = application(running.operations, guard, StateCollector(state))
            host, port = split_host_port(address)
            server = create_http_server(app, f"{host}:{port}", max_requests=100)
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(rollout.run()),
                    group.create_task(parts.run(state, rollout)),
                    group.create_task(server.serve([listener])),
                ]
                async for event in events.after(0):
                    if event.data.get("step") == "in_force":
                        break
                ready.set()
                await stop.wait()
                server.should_exit = True
                await tasks[-1]
                for task in tasks:
                    task.cancel()

        thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
        thread.start()
        assert ready.wait(START_TIMEOUT), "the control plane does not start"
        try:
            yield running
        finally:
            running.loop.call_soon_threadsafe(stop.set)
            thread.join(STOP_TIMEOUT)


def config_file(folder: Path, text: str) -> Path:
    """A config file in a folder."""
    file = folder / "gateway.yaml"
    file.write_text(text)
    return file
