"""Finds the files that ship beside the code: Envoy's bootstrap template and the examples."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def data_path(name: str) -> Path:
    """A shipped folder, such as `envoy` or `examples`: in the wheel, or at a checkout's root."""
    installed = _PACKAGE / "_data" / name
    return installed if installed.exists() else _PACKAGE.parent / name


def demo_config() -> Path:
    """The config that `sluice up --demo` runs when it is given none."""
    return data_path("examples") / "gateway.yaml"
