"""The local runner of `sluice up`: starts and stops all processes of a gateway."""

from sluice.runner.up import StartError, UpOptions, up

__all__ = ["StartError", "UpOptions", "up"]
