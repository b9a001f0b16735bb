"""Compiles a config into the resources of Envoy and the policy of the callout. Pure functions."""

from xds.resources.build import build

__all__ = ["build"]
