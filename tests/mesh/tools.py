"""The programs and CRDs that the tests of this folder need, and where they are.

`make mesh-tools` makes them. `build_tools.py` imports this module before the packages of the
project are installed, so it uses the standard library only.
"""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "SLUICE_MESH_TOOLS"
"""Environment variable with a folder that has programs already."""

PROGRAMS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kubectl",
    "pilot-discovery",
    "istioctl",
    "egctl",
)

FROM_PATH = "etcd"
"""The program whose version does not matter: the one of this machine is used, if there is one."""

CRDS = ("istio", "gateway-api", "envoy-gateway", "prometheus-operator", "cert-manager")
"""Projects with CRDs."""


class MissingToolsError(Exception):
    """A program or a CRD is missing. The text says how to get it."""


@dataclass(frozen=True)
class MeshTools:
    """The tools in the folder of `make mesh-tools`, and the programs in one of the user."""

    folder: Path
    users: Path | None

    @property
    def built(self) -> Path:
        """The folder into which programs are built."""
        return self.folder / "bin"

    def found(self, name: str) -> str | None:
        """The path of a program, or None."""
        folders = [self.built] if self.users is None else [self.users, self.built]
        found = shutil.which(name, path=os.pathsep.join(map(str, folders)))
        return found or (shutil.which(name) if name == FROM_PATH else None)

    def program(self, name: str) -> str:
        """The path of a program. Raises MissingToolsError."""
        found = self.found(name)
        if found is None:
            raise MissingToolsError(f"there is no {name}: run `make mesh-tools` first")
        return found

    def crds(self, project: str) -> Path:
        """The folder with the CRDs of a project."""
        return self.folder / "crds" / project

    def missing(self) -> list[str]:
        """The programs and the CRDs that are not there."""
        programs = [name for name in PROGRAMS if self.found(name) is None]
        return [*programs, *(f"CRDs of {name}" for name in CRDS if not self.crds(name).is_dir())]


def located(folder: Path) -> MeshTools:
    """The tools in this folder, with the programs of SLUICE_MESH_TOOLS if that is set."""
    users = os.environ.get(VARIABLE)
    return MeshTools(folder, Path(users).absolute() if users else None)


def installed() -> MeshTools:
    """The tools of this virtual environment. Raises MissingToolsError."""
    tools = located(Path(sys.prefix, "mesh-tools"))
    if missing := tools.missing():
        raise MissingToolsError(f"run `make mesh-tools` first: there is no {', '.join(missing)}")
    return tools
