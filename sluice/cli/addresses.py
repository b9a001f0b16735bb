"""The type of arguments that are addresses."""

import argparse

from sluice.config.addresses import is_host_port


def address(text: str) -> str:
    """The type of an address: host:port."""
    if not is_host_port(text):
        raise argparse.ArgumentTypeError(f"write an address as host:port, not {text[:100]!r}")
    return text
