"""Compiles a config into Envoy's resources and the callout's policy: pure functions, by noun."""

from xds.resources.build import build

__all__ = ["build"]
