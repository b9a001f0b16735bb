"""Finds shipped files: the Envoy bootstrap template, the examples and the documentation."""

from pathlib import Path

_PACKAGE = Path(__file__).parent
_INSTALLED = _PACKAGE / "_data"


def data_root() -> Path:
    """The folder that holds all shipped files: in the wheel, or the root of a checkout."""
    return _INSTALLED if _INSTALLED.exists() else _PACKAGE.parent


def is_checkout() -> bool:
    """Whether the files are those of a checkout, which their users may edit."""
    return data_root() != _INSTALLED


def data_path(name: str) -> Path:
    """The path of the folder or page `name`, such as `envoy`, `examples` or `docs`."""
    return data_root() / name
