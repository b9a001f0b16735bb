"""Compiles a loaded config. Keys whose change needs a restart keep the values of the start."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sluice.config import GatewayConfig, JwtIssuer, Problem
from sluice.config.checked import LoadedConfig
from sluice.keys.key_set import KeySet
from xds.protocol.snapshot import Snapshot
from xds.resources.build import NO_KEY_SETS, build
from xds.resources.found_endpoints import NONE_FOUND, FoundEndpoints, with_endpoints
from xds.resources.jwt_authn import remote_issuers
from xds.resources.restart import restart_required, with_started_values


@dataclass(frozen=True, slots=True)
class CompiledConfig:
    """A config and its resources. `restart_required`: changed keys that need a restart.

    `warnings` are about the config and the files that it names. `loaded` is what was compiled, to
    compile it again with other key sets or endpoints. `found`: the endpoints of sources.
    """

    config: GatewayConfig
    snapshot: Snapshot
    restart_required: tuple[str, ...] = ()
    warnings: tuple[Problem, ...] = ()
    loaded: LoadedConfig | None = None
    found: FoundEndpoints = field(default_factory=dict)

    @property
    def served(self) -> GatewayConfig:
        """The config with the endpoints that sources have found."""
        return with_endpoints(self.config, self.found)

    @property
    def revision(self) -> int | None:
        """The number of the config in the history; None if it has none."""
        return None if self.loaded is None else self.loaded.revision

    @property
    def remote_issuers(self) -> tuple[JwtIssuer, ...]:
        """The issuers whose key sets the control plane must fetch."""
        return remote_issuers(self.config)


def compile_config(
    loaded: LoadedConfig,
    started: GatewayConfig,
    fetched: Mapping[str, KeySet] = NO_KEY_SETS,
    found: FoundEndpoints = NONE_FOUND,
    *,
    keep: bool = True,
) -> CompiledConfig:
    """Compile a config, with the fetched key sets by issuer, and the endpoints that were found.

    `started` is the config that the gateway's processes were started with. `keep`: see `build`.
    """
    config = with_started_values(loaded.config, started)
    served = with_endpoints(config, found)
    snapshot = build(served, loaded.policy, loaded.directory, fetched, loaded.secrets, keep=keep)
    changed = restart_required(loaded.config, started)
    return CompiledConfig(config, snapshot, changed, loaded.warnings, loaded, found)
