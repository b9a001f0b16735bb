"""The ports of a gateway that a benchmark starts, and its addresses."""

from dataclasses import dataclass, field
from pathlib import Path

from bench.processes import free_port, local_address

Config = dict[str, object]


@dataclass(frozen=True, slots=True)
class GatewayPorts:
    """Free ports for the parts of a gateway."""

    listener: int = field(default_factory=free_port)
    http: int = field(default_factory=free_port)
    xds: int = field(default_factory=free_port)
    admin: int = field(default_factory=free_port)
    metrics: int = field(default_factory=free_port)

    def sections(
        self, directory: Path, *, workers: int = 1, threads: int = 1, log: str = "none",
        reports: bool = True,
    ) -> Config:  # fmt: skip
        """The sections of the config with addresses. `threads` are those of Envoy.

        `directory` gets the socket of the callout.
        """
        return {
            "listener": {"address": local_address(self.listener)},
            "control_plane": {
                "http": local_address(self.http),
                "xds": local_address(self.xds),
            },
            "callout": {"address": f"unix:{directory}/callout", "workers": workers},
            "envoy": {"admin": local_address(self.admin), "concurrency": threads},
            "telemetry": {
                "metrics": {"address": local_address(self.metrics)},
                "access_log": {"output": log},
                "reports": {"enabled": reports},
            },
        }
