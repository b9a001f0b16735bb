"""Builds what `make test-mesh` needs: `python -m tests.mesh.build_tools FOLDER`.

Go fetches and builds a Kubernetes API server, its controller manager, kubectl, istiod
(pilot-discovery), istioctl, egctl of Envoy Gateway and etcd, in the versions below, into
FOLDER/bin. CRDs come from the Go modules of their projects, into FOLDER/crds. What is there already
is not made again: the first run takes about 40 minutes on two cores, and needs about 14 GB for Go's
caches. Programs in the folder that SLUICE_MESH_TOOLS names are used as they are, and so is an etcd
on PATH.

Uses the standard library only, so that it runs before the packages of the project are installed.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.mesh.tools import VARIABLE, MeshTools, located

KUBERNETES = "1.37.2"
ISTIO = "v0.0.0-20260827124520-eed52ebb66ad"
"""The module `istio.io/istio` has no versions with a number: this is a commit of release 1.31."""
ETCD = "v3.6.16"
ENVOY_GATEWAY = "v1.9.1"

GO = "1.26"
"""The version of the language that the modules of Kubernetes and Istio need."""
REPORT_EVERY = 20.0
"""Seconds after which a line says that a command still runs."""
SHOWN = 30
"""Lines of output that are shown of a command that failed."""


class BuildError(Exception):
    """A command has failed. The text is what the user reads."""


@dataclass(frozen=True)
class Crds:
    """Files with CRDs in a Go module, by patterns of their paths."""

    module: str
    version: str
    patterns: tuple[str, ...]


_OPERATOR = "example/prometheus-operator-crd/monitoring.coreos.com"

CRD_SOURCES = {
    "istio": Crds("istio.io/istio", ISTIO, ("manifests/charts/base/files/crd-all.gen.yaml",)),
    "gateway-api": Crds("sigs.k8s.io/gateway-api", "v1.6.0", ("config/crd/standard/*.yaml",)),
    "envoy-gateway": Crds(
        "github.com/envoyproxy/gateway",
        ENVOY_GATEWAY,
        ("charts/gateway-helm/charts/crds/crds/generated/*.yaml",),
    ),
    "prometheus-operator": Crds(
        "github.com/prometheus-operator/prometheus-operator",
        "v0.85.0",
        # The other kinds run Prometheus itself. Their large schemas take the API server seconds.
        tuple(
            f"{_OPERATOR}_{kind}.yaml"
            for kind in ("servicemonitors", "podmonitors", "prometheusrules")
        ),
    ),
    "cert-manager": Crds(
        "github.com/cert-manager/cert-manager", "v1.21.2", ("deploy/crds/*.yaml",)
    ),
}
"""For each of `tools.CRDS`."""


@dataclass(frozen=True)
class Program:
    """A program that Go builds from a package of a module."""

    name: str
    package: str
    version: str
    linked: str = ""
    """More settings of the linker."""


def _kubernetes() -> list[Program]:
    # Without these, the API server says that its version is 0.0.0, and clients refuse it.
    major, minor, _ = KUBERNETES.split(".")
    values = {"gitVersion": f"v{KUBERNETES}", "gitMajor": major, "gitMinor": minor}
    linked = " ".join(f"-X k8s.io/component-base/version.{k}={v}" for k, v in values.items())
    names = ("kube-apiserver", "kube-controller-manager", "kubectl")
    version = f"v{KUBERNETES}"
    return [Program(name, f"k8s.io/kubernetes/cmd/{name}", version, linked) for name in names]


ISTIO_PROGRAMS = [
    Program("pilot-discovery", "istio.io/istio/pilot/cmd/pilot-discovery", ISTIO),
    Program("istioctl", "istio.io/istio/istioctl/cmd/istioctl", ISTIO),
]
ENVOY_GATEWAY_PROGRAMS = [
    Program("egctl", "github.com/envoyproxy/gateway/cmd/egctl", ENVOY_GATEWAY)
]
ETCD_PROGRAMS = [Program("etcd", "go.etcd.io/etcd/server/v3", ETCD)]


def main(folder: Path) -> int:
    """Make what is missing. Returns the exit status."""
    tools = located(folder.absolute())
    missing = tools.missing()
    if not missing:
        print("The tools of the mesh tests are complete.")
        return 0
    print(f"Missing: {', '.join(missing)}. {_duration(missing)}", flush=True)
    started = time.monotonic()
    try:
        _require_go()
        tools.built.mkdir(parents=True, exist_ok=True)
        _build(tools, _kubernetes(), _kubernetes_module)
        _build(tools, ISTIO_PROGRAMS, _empty_module)
        _build(tools, ENVOY_GATEWAY_PROGRAMS, _empty_module)
        _build(tools, ETCD_PROGRAMS, _empty_module)
        _copy_crds(tools)
    except BuildError as error:
        print(f"make mesh-tools: {error}", file=sys.stderr)
        return 1
    print(f"The tools of the mesh tests were made in {time.monotonic() - started:.0f} s.")
    return 0


def _duration(missing: Sequence[str]) -> str:
    if all(name.startswith("CRDs") for name in missing):
        return "Copying CRDs takes a minute."
    return f"Builds take about 40 minutes on two cores, once. {VARIABLE}=FOLDER uses existing ones."


def _require_go() -> None:
    if shutil.which("go") is None:
        raise BuildError(
            f"needs Go {GO}, or Go 1.21 and newer, which fetches it: https://go.dev/dl"
        )


def _build(
    tools: MeshTools, programs: Sequence[Program], write_module: Callable[[Path], None]
) -> None:
    """Build the missing ones of these programs, in one new module."""
    missing = [each for each in programs if tools.found(each.name) is None]
    if not missing:
        return
    with TemporaryDirectory(prefix="sluice-mesh-tools-") as name:
        module = Path(name)
        write_module(module)
        for each in missing:
            _go(module, f"fetch {each.name}", "get", "-tool", f"{each.package}@{each.version}")
        for each in missing:
            # A program that is not complete must not be taken for one that is.
            draft = module / each.name
            flags = ["-trimpath", "-buildvcs=false", "-ldflags", f"-s -w {each.linked}"]
            _go(module, f"build {each.name}", "build", *flags, "-o", str(draft), each.package)
            shutil.move(draft, tools.built / each.name)


def _empty_module(folder: Path) -> None:
    (folder / "go.mod").write_text(f"module meshtools\n\ngo {GO}\n")


def _kubernetes_module(folder: Path) -> None:
    """A module that takes the parts of Kubernetes in the versions that belong together.

    The module of Kubernetes replaces them with folders of its repository, which a module that
    requires it does not have.
    """
    _empty_module(folder)
    found = _download(folder, "k8s.io/kubernetes", f"v{KUBERNETES}")
    parts = re.findall(r"^\s+(k8s\.io/[a-z0-9-]+) => ", Path(found["GoMod"]).read_text(), re.M)
    version = "v0." + KUBERNETES.partition(".")[2]
    replaced = "\n".join(f"\t{part} => {part} {version}" for part in parts)
    (folder / "go.mod").write_text(
        f"module meshtools\n\ngo {GO}.0\n\ngodebug default=go{GO}\n\n"
        f"require k8s.io/kubernetes v{KUBERNETES}\n\nreplace (\n{replaced}\n)\n"
    )


def _copy_crds(tools: MeshTools) -> None:
    with TemporaryDirectory(prefix="sluice-mesh-tools-") as name:
        for project, crds in CRD_SOURCES.items():
            target = tools.crds(project)
            if not target.is_dir():
                source = Path(_download(Path(name), crds.module, crds.version)["Dir"])
                draft = target.with_suffix(".new")
                shutil.rmtree(draft, ignore_errors=True)
                draft.mkdir(parents=True)
                for file in (file for pattern in crds.patterns for file in source.glob(pattern)):
                    # `copy` would keep the module cache's permissions, which are read-only.
                    (draft / file.name).write_bytes(file.read_bytes())
                draft.rename(target)


def _download(folder: Path, module: str, version: str) -> dict[str, str]:
    """Fetch a module. Returns what `go mod download -json` says: its folder `Dir`, and `GoMod`."""
    name = f"{module}@{version}"
    output = _go(folder, f"fetch {module}", "mod", "download", "-json", name)
    found: dict[str, str] = json.loads(output)
    return found


def _go(folder: Path, what: str, *arguments: str) -> str:
    """Run `go` with low priority in this folder. Returns its output. Raises BuildError."""
    started = time.monotonic()
    done = threading.Event()

    def report() -> None:
        while not done.wait(REPORT_EVERY):
            print(f"  {what}: still running, {time.monotonic() - started:.0f} s", flush=True)

    threading.Thread(target=report, daemon=True).start()
    ran = subprocess.run(
        ["nice", "-n", "15", "go", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        # GOWORK: a workspace around the temporary folder must not count.
        env={**os.environ, "GOWORK": "off"},
    )
    done.set()
    if ran.returncode:
        shown = "\n".join((ran.stdout + ran.stderr).splitlines()[-SHOWN:])
        raise BuildError(f"could not {what}:\n{shown}")
    print(f"  {what}: {time.monotonic() - started:.0f} s", flush=True)
    return ran.stdout


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
