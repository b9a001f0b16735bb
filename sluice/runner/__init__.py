"""The local runner: `sluice up` runs all processes of a gateway, `sluice envoy` runs its Envoy."""

from sluice.runner.single_envoy import EnvoyEndedError, EnvoyOptions, run_envoy
from sluice.runner.start import StartError
from sluice.runner.up import READY_TIMEOUT, UpOptions, up

__all__ = [
    "READY_TIMEOUT",
    "EnvoyEndedError",
    "EnvoyOptions",
    "StartError",
    "UpOptions",
    "run_envoy",
    "up",
]
