"""Tells what the start of a gateway still waits for, and why it cannot succeed."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn, Self

from sluice.config import GatewayConfig
from sluice.config.addresses import reachable
from sluice.http.client import NoAnswerError, Status, fetch_status
from sluice.http.credentials import Credentials, CredentialsError
from sluice.identity import control_plane_files
from sluice.printable import printable
from sluice.runner.envoy import healthy_workers
from sluice.runner.process import ChildProcess, accepts

POLL_INTERVAL = 0.5
TIMEOUT = 2.0

MAX_ERROR = 1000
"""Characters of a rejection that are shown."""


class ConfigRejectedError(Exception):
    """A process of the gateway rejects the config, so the gateway does not become ready."""


@dataclass(frozen=True, slots=True)
class AdminServer:
    """The admin HTTP server of the gateway, as its own commands reach it."""

    url: str
    credentials: Credentials

    @classmethod
    def of(cls, config: GatewayConfig, directory: Path, token_file: Path) -> Self:
        """That of a config, whose file names are relative to `directory`.

        `token_file` has the token of a reader.
        """
        address = reachable(config.control_plane.http)
        own = control_plane_files(config.identity, directory)
        if own is None:
            return cls(f"http://{address}", Credentials(token_file, same_machine=True))
        return cls(f"https://{address}", Credentials(token_file, own.ca, same_machine=True))


async def wait_for_rejection(admin: AdminServer) -> NoReturn:
    """Ask the control plane until a node rejects its resources. Raises ConfigRejectedError then.

    Two answers in a row must have the rejection: a node may accept the next version.
    """
    before = None
    while True:
        found = _rejection(await _status(admin))
        if found is not None and found == before:
            raise ConfigRejectedError(found)
        before = found
        await asyncio.sleep(POLL_INTERVAL)


async def wait_for_acceptance(admin: AdminServer) -> None:
    """Wait until each node has accepted the resources that it has got.

    Another process may have taken the port of the listener at the last moment. It answers there, so
    only Envoy's answer to the control plane says whether Envoy listens.
    """
    while True:
        nodes = (await _status(admin)).get("nodes", ())
        types = [each for node in nodes for each in node["types"].values()]
        listening = any("listeners" in node["types"] for node in nodes)
        if listening and all(each["in_sync"] for each in types):
            return
        await asyncio.sleep(POLL_INTERVAL / 10)


async def waits_for(
    processes: Iterable[ChildProcess], config: GatewayConfig, admin: AdminServer
) -> list[str]:
    """The parts of the gateway that are not ready, one in a line, and the control plane's error."""
    names = _names(config)
    lines = []
    for process in processes:
        spec = process.spec
        if not process.is_started:
            lines.append(f"{spec.name}: is not started yet")
            continue
        silent = [each for each in spec.listens if not await accepts(each)]
        lines += [
            f"{spec.name}: {names.get(each, 'server')} does not listen on {each}" for each in silent
        ]
        if spec.name == "envoy" and not silent:
            healthy = await asyncio.to_thread(healthy_workers, config.envoy.admin)
            lines.append(f"envoy: finds {healthy} of {config.callout.workers} workers healthy")
    error = (await _status(admin)).get("error")
    return [*lines, f"last error: {printable(error, MAX_ERROR)}"] if error else lines


def _names(config: GatewayConfig) -> Mapping[str, str]:
    """What listens on each address of the gateway."""
    return {
        config.control_plane.http: "admin HTTP server",
        config.control_plane.xds: "xDS server",
        **{each: f"worker {index}" for index, each in enumerate(config.callout.addresses())},
        config.telemetry.metrics.address: "metrics endpoint",
        config.envoy.admin: "admin interface",
        config.listener.address: "listener",
        **_video_names(config),
    }


def _video_names(config: GatewayConfig) -> Mapping[str, str]:
    video = config.video
    if video is None:
        return {}
    servers = [(video.http, "HTTP"), (video.grpc, "gRPC")]
    return {
        video.metrics: "metrics endpoint",
        **{
            address: f"{kind} server of worker {index}"
            for first, kind in servers
            for index, address in enumerate(video.addresses(first))
        },
    }


def _rejection(status: Status) -> str | None:
    """The first rejection by a connected node."""
    for node in status.get("nodes", ()):
        for name, state in node["types"].items():
            if state["nacked"] is not None:
                return printable(f"{node['id']} rejects {name}: {state['reason']}", MAX_ERROR)
    return None


async def _status(admin: AdminServer) -> Status:
    """The status of the control plane; empty while it does not respond."""
    fetching = partial(
        fetch_status, admin.url, "nodes", timeout=TIMEOUT, credentials=admin.credentials
    )
    try:
        return await asyncio.to_thread(fetching)
    except (NoAnswerError, CredentialsError):
        return {}
