"""Where the config comes from: a file, watched together with the key sets that it names.

Every change is read, validated and compiled before anything is sent; what is wrong changes nothing.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from watchfiles import Change, awatch

from sluice.config import ConfigError, GatewayConfig, policy_document
from sluice.config.load import load
from sluice.config.policy import jwks_files
from xds.protocol.snapshot import Snapshot
from xds.resources import build

log = logging.getLogger(__name__)

SETTLE_MS = 20
"""An editor's several writes in a row count as one when they are no further apart."""

GROUP_MS = 200
"""And however many there are, they wait no longer."""

POLL_MS = 1000
"""Files are looked at this often even where the system reports no change (NFS, overflow)."""


@dataclass(frozen=True, slots=True)
class CompiledConfig:
    """A valid config, what it compiles to, and sections whose change waits for the next start."""

    config: GatewayConfig
    snapshot: Snapshot
    restart_required: tuple[str, ...] = ()


class ConfigFile:
    """Reads the config file. `start` is the config that the processes were started with."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._directory = path.parent
        self._start: GatewayConfig | None = None
        self._files: tuple[Path, ...] = (path,)
        self._digest = b""

    def read(self) -> CompiledConfig:
        """Read and compile. Raises ConfigError with everything that is wrong."""
        self._files, self._digest = (self.path,), _digest((self.path,))
        config = load(self.path)
        self._files = (self.path, *jwks_files(config, self._directory))
        # Taken before the files are read: a change in between is then noticed as one.
        self._digest = _digest(self._files)
        policy = policy_document(config, self._directory)
        start = self._start = self._start or config
        effective = _as_started(config, start)
        snapshot = build(effective, policy, self._directory)
        return CompiledConfig(effective, snapshot, tuple(_differences(config, start)))

    async def changes(self) -> AsyncIterator[CompiledConfig | ConfigError]:
        """What the file becomes, whenever it or a key set changes."""
        while True:
            watched = self._directories()
            async for _ in awatch(
                *watched,
                watch_filter=self._concerns_us,
                debounce=GROUP_MS,
                step=SETTLE_MS,
                rust_timeout=POLL_MS,
                yield_on_timeout=True,
                recursive=False,
            ):
                if await asyncio.to_thread(_digest, self._files) == self._digest:
                    continue
                yield await asyncio.to_thread(self._attempt)
                if self._directories() != watched:
                    break

    def _concerns_us(self, _: Change, path: str) -> bool:
        # Kubernetes swaps the link `..data`, through which every mounted file is read.
        name = Path(path).name
        return name.startswith("..") or any(file.name == name for file in self._files)

    def _attempt(self) -> CompiledConfig | ConfigError:
        try:
            return self.read()
        except ConfigError as error:
            return error

    def _directories(self) -> tuple[Path, ...]:
        # Not the files themselves: editors and Kubernetes put a new file in an old one's place.
        parents = {file.parent.resolve() for file in self._files}
        return tuple(sorted(parent for parent in parents if parent.is_dir()))


def _as_started(config: GatewayConfig, start: GatewayConfig) -> GatewayConfig:
    """The config with what only a restart can change as it was: the processes are still there."""
    fixed = {"address": start.callout.address, "workers": start.callout.workers}
    return config.model_copy(
        update={
            "control_plane": start.control_plane,
            "envoy": start.envoy,
            "callout": config.callout.model_copy(update=fixed),
            "telemetry": config.telemetry.model_copy(
                update={"metrics": start.telemetry.metrics, "profile": start.telemetry.profile}
            ),
        }
    )


def _differences(config: GatewayConfig, start: GatewayConfig) -> list[str]:
    pairs = {
        "control_plane": (config.control_plane, start.control_plane),
        "envoy": (config.envoy, start.envoy),
        "callout.address": (config.callout.address, start.callout.address),
        "callout.workers": (config.callout.workers, start.callout.workers),
        "telemetry.metrics": (config.telemetry.metrics, start.telemetry.metrics),
        "telemetry.profile": (config.telemetry.profile, start.telemetry.profile),
        "callout.drain_timeout": (config.callout.drain_timeout, start.callout.drain_timeout),
    }
    return [key for key, (now, then) in pairs.items() if now != then]


def _digest(files: tuple[Path, ...]) -> bytes:
    digest = hashlib.sha256()
    for file in files:
        try:
            content = file.read_bytes()
        except OSError as error:
            content = str(error.errno).encode()
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.digest()
