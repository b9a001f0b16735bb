"""A complete static config of Envoy, from the resources that the control plane would push."""

from xds.static.bootstrap import static_bootstrap

__all__ = ["static_bootstrap"]
