"""Compiles a config into Envoy's resources and the callout's policy. Pure functions."""

from xds.resources.build import build

__all__ = ["build"]
