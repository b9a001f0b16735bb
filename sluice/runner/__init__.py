"""The local runner of `sluice up`: starts and stops all processes of a gateway."""

from sluice.runner.up import Options, StartError, up

__all__ = ["Options", "StartError", "up"]
