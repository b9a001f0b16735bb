"""An installed package for a test: the files of the wheel, in a folder of their own."""

import os
import shutil
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Installed:
    """The package in `site`, with a home folder and a working folder for its user."""

    site: Path
    home: Path
    work: Path

    @property
    def environment(self) -> dict[str, str]:
        own = {"PYTHONPATH": str(self.site), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(self.home)}
        others = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
        return {**others, **own}

    def command(self, *arguments: str) -> list[str]:
        # -P: the working folder of the tests has packages of the same names.
        return [sys.executable, "-P", "-m", "sluice.cli", *arguments]

    def files(self) -> set[Path]:
        """All files of the package."""
        return {path for path in self.site.rglob("*") if path.is_file()}


def install(directory: Path) -> Installed:
    """Lay out the files as `pyproject.toml` says for the wheel."""
    target = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    wheel = target["targets"]["wheel"]
    placed = {name: name for name in wheel["packages"]} | wheel["force-include"]
    site = directory / "site"
    for source, destination in placed.items():
        _copy(ROOT / source, site / destination)
    installed = Installed(site, directory / "home", directory / "work")
    installed.home.mkdir()
    installed.work.mkdir()
    return installed


def _copy(source: Path, destination: Path) -> None:
    destination.parent.mkdir(parents=True, exist_ok=True)
    if source.is_file():
        shutil.copy(source, destination)
    else:
        shutil.copytree(source, destination, ignore=shutil.ignore_patterns("__pycache__"))
