"""The local runner of `sluice up`: starts and stops all processes of a gateway."""

from sluice.runner.up import READY_TIMEOUT, StartError, UpOptions, up

__all__ = ["READY_TIMEOUT", "StartError", "UpOptions", "up"]
