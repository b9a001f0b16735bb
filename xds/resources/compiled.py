"""Compiles a loaded config. Keys whose change needs a restart keep the values of the start."""

from dataclasses import dataclass

from sluice.config import GatewayConfig, Problem
from sluice.config.checked import LoadedConfig
from xds.protocol.snapshot import Snapshot
from xds.resources.build import build
from xds.resources.restart import restart_required, with_started_values


@dataclass(frozen=True, slots=True)
class CompiledConfig:
    """A config and its resources. `restart_required`: changed keys that need a restart.

    `warnings` are about the config and the files that it names.
    """

    config: GatewayConfig
    snapshot: Snapshot
    restart_required: tuple[str, ...] = ()
    warnings: tuple[Problem, ...] = ()


def compile_config(loaded: LoadedConfig, started: GatewayConfig) -> CompiledConfig:
    """Compile a config. `started` is the config that the gateway's processes were started with."""
    config = with_started_values(loaded.config, started)
    snapshot = build(config, loaded.policy, loaded.directory)
    changed = restart_required(loaded.config, started)
    return CompiledConfig(config, snapshot, changed, loaded.warnings)
