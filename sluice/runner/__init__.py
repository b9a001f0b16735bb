"""The local runner: `sluice up` starts every process of a gateway and leaves none behind."""

from sluice.runner.up import Options, StartError, up

__all__ = ["Options", "StartError", "up"]
