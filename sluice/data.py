"""Finds shipped data files: the Envoy bootstrap template and the examples."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def data_path(name: str) -> Path:
    """The path of the folder `envoy` or `examples`, in the wheel or at the root of a checkout."""
    installed = _PACKAGE / "_data" / name
    return installed if installed.exists() else _PACKAGE.parent / name


def demo_config() -> Path:
    """The default config of `sluice up --demo`."""
    return data_path("examples") / "gateway.yaml"
