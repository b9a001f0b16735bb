"""A gateway with the video service, whose streams and uploads a benchmark measures."""

import json
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.ports import GatewayPorts
from bench.processes import (
    callout_processes,
    cpu_seconds,
    envoy_processes,
    free_port,
    local_address,
    process_tree,
    resident_bytes,
    sluice_up,
)

START_TIMEOUT = 60.0
PATIENCE = 60.0
"""Seconds after which a condition will not hold any more."""


@dataclass(slots=True)
class VideoGateway:
    """A running gateway. `config` is its config file, which may change."""

    config: Path
    listener: int
    metrics: str
    processes: Mapping[str, Sequence[int]]

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the config. The gateway takes the change soon."""
        content = json.loads(self.config.read_text())
        change(content)
        draft = self.config.with_suffix(".new")
        draft.write_text(json.dumps(content))
        draft.replace(self.config)

    def streams(self) -> dict[str, dict[str, Any]]:
        """The status of each stream."""
        with urllib.request.urlopen(f"http://{self.metrics}/v1/videos", timeout=10) as response:
            return {each["name"]: each for each in json.load(response)["streams"]}

    def cpu(self) -> dict[str, float]:
        """CPU seconds by kind of process. A worker that has ended is not in them."""
        return {kind: sum(map(_cpu, pids)) for kind, pids in self.processes.items()}

    def resident(self, kind: str) -> int:
        """Resident bytes of the processes of a kind."""
        return sum(map(resident_bytes, self.processes[kind]))


def _cpu(pid: int) -> float:
    return cpu_seconds(pid)


@dataclass(frozen=True, slots=True)
class VideoModel:
    """A model in the config: its input, and where it listens. `video`: keys of its `video`."""

    declared: Mapping[str, Any]
    address: str
    video: Mapping[str, Any] = field(default_factory=dict)

    def section(self) -> dict[str, Any]:
        """The model in the config. Anyone may use it."""
        version = {"protocol": "grpc", "endpoints": [{"address": self.address}]}
        return {
            "access": {"public": True},
            "inputs": [self.declared],
            "versions": {"v1": version},
            "breaker": {"enabled": False},
            "video": dict(self.video),
        }


@contextmanager
def video_gateway(
    directory: Path, models: Mapping[str, VideoModel], videos: Mapping[str, Any] | None = None
) -> Iterator[VideoGateway]:
    """Run a gateway. Its files are in `directory`."""
    directory.mkdir(exist_ok=True)
    ports = GatewayPorts()
    metrics = local_address(free_port())
    config: dict[str, object] = {
        **ports.sections(directory),
        "limits": {"listener": None},
        "models": {name: model.section() for name, model in models.items()},
        "video": {
            "http": local_address(free_port()),
            "grpc": local_address(free_port()),
            "metrics": metrics,
        },
        "videos": dict(videos or {}),
    }
    with sluice_up(config, directory, timeout=START_TIMEOUT) as pid:
        processes = {
            "video": video_processes(pid),
            "envoy": envoy_processes(pid),
            "callout": callout_processes(pid),
        }
        yield VideoGateway(directory / "gateway.json", ports.listener, metrics, processes)


def video_processes(sluice_up_pid: int) -> list[int]:
    """The supervisor and the workers of the video service. Raises RuntimeError without one."""
    for pid in process_tree(sluice_up_pid):
        if b"video-service" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            return list(process_tree(pid))
    raise RuntimeError("no video service is running")


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait until the condition holds. Raises RuntimeError if it does not in time."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {PATIENCE:g} s: {what}")
        time.sleep(0.1)


def total(counts: Mapping[str, Any], name: str) -> int:
    """A count of a stream; the sum of those by reason."""
    found = counts.get(name) or 0
    return sum(found.values()) if isinstance(found, dict) else int(found)


def balance(counts: Mapping[str, Any]) -> int:
    """Frames in flight: those without a result, a drop or an error."""
    return int(counts["frames"]) - sum(
        total(counts, each) for each in ("results", "drops", "errors")
    )
