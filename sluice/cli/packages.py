"""Checks that an import would find Sluice's own packages, without importing them.

`extproc`, `xds` and `protos` are top-level names: another distribution, or a folder on the import
path, can have a package of the same name.
"""

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import sluice
from sluice.cli.commands import CommandError

DISTRIBUTION = "sluice-gateway"

_ROOT = Path(sluice.__file__).resolve().parent.parent
"""The folder that holds all packages of Sluice: in a wheel, an editable install and a checkout."""


class PackageError(CommandError):
    """A package is missing, or is not Sluice's own."""


def check_packages(names: Iterable[str]) -> None:
    """Raises PackageError for a package that is missing or is not Sluice's own."""
    for name in names:
        expected = _ROOT / name
        found = _location(name)
        if found is None:
            raise PackageError(
                f"the package {name} of {DISTRIBUTION} is missing\n"
                f"  expected:  {expected}\n"
                f"  remedy:    install {DISTRIBUTION} again"
            )
        foreign = _replaced_file(name) if expected in (found, found.parent) else found
        if foreign is not None:
            owner, remedy = _owner_and_remedy(foreign, name)
            raise PackageError(
                f"the package {name} is not part of {DISTRIBUTION}\n"
                f"  found:     {foreign}\n"
                f"  owner:     {owner}\n"
                f"  expected:  {expected}\n"
                f"  remedy:    {remedy}"
            )


def _location(name: str) -> Path | None:
    """The file that an import would execute; the folder of a package without `__init__.py`."""
    spec = find_spec(name)
    if spec is None:
        return None
    return Path(spec.origin or next(iter(spec.submodule_search_locations or ()))).resolve()


def _replaced_file(name: str) -> Path | None:
    """A file of Sluice's package that a distribution installed later has overwritten.

    Empty files are ignored. xds-protos has an empty `xds/__init__.py`, which replaces only a
    docstring.
    """
    try:
        files = metadata.distribution(DISTRIBUTION).files or []
    except metadata.PackageNotFoundError:
        return None
    for file in files:
        path = Path(file.locate()).resolve()
        if file.hash is None or not path.is_relative_to(_ROOT / name) or not path.is_file():
            continue
        content = path.read_bytes()
        digest = urlsafe_b64encode(hashlib.new(file.hash.mode, content).digest()).decode()
        if content and digest.rstrip("=") != file.hash.value and _distribution(path) is not None:
            return path
    return None


def _owner_and_remedy(path: Path, name: str) -> tuple[str, str]:
    owner = _distribution(path)
    if owner is not None:
        return (
            f"the distribution {owner}",
            f"install {DISTRIBUTION} in a separate virtual environment",
        )
    folder = next(parent.parent for parent in (path, *path.parents) if parent.stem == name)
    if folder == Path.cwd():
        return f"the working directory {folder}", "start the command in another directory"
    return f"the folder {folder}", f"remove {folder} from PYTHONPATH"


def _distribution(path: Path) -> str | None:
    """Name and version of another installed distribution that has this file."""
    for distribution in metadata.distributions():
        files = (Path(file.locate()).resolve() for file in distribution.files or ())
        if distribution.name != DISTRIBUTION and any(path in (f, *f.parents) for f in files):
            return f"{distribution.name} {distribution.version}"
    return None
