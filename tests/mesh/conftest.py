"""Fixtures of the tests with a real Kubernetes API server and istiod (`make test-mesh`).

All processes run once in a session, on ports of 127.0.0.1. Each test module uses namespaces of its
own. Logs are in one folder, which the report of a failed test names.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.gateway import Config, base_config
from tests.mesh.callout_gateway import CalloutGateway
from tests.mesh.istio_envoy import IstioEnvoy, Kind
from tests.mesh.istiod import NAMESPACE, Istiod
from tests.mesh.kube_api import KubeApi
from tests.mesh.report import MeshReport
from tests.mesh.tools import CRDS, MeshTools, MissingToolsError, installed

_REPORT: pytest.StashKey[MeshReport] = pytest.StashKey()
_FOLDER: pytest.StashKey[Path] = pytest.StashKey()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder with `mesh`."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.mesh)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Name the folder of the logs in the report of a failed test."""
    report = yield
    folder = item.config.stash.get(_FOLDER, None)
    if report.failed and folder is not None:
        report.sections.append(("logs of all processes", str(folder)))
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print what the tests have recorded."""
    report = config.stash.get(_REPORT, None)
    if report is not None and (lines := list(report.lines())):
        terminalreporter.section("mesh")
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def mesh_tools() -> MeshTools:
    """The programs and CRDs of `make mesh-tools`."""
    try:
        return installed()
    except MissingToolsError as error:
        pytest.fail(str(error))


@pytest.fixture(scope="session")
def mesh_folder(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a folder for each process."""
    folder = tmp_path_factory.mktemp("mesh")
    pytestconfig.stash[_FOLDER] = folder
    return folder


@pytest.fixture(scope="session")
def mesh_report(pytestconfig: pytest.Config) -> MeshReport:
    """Records accepted objects and answers for the summary at the end."""
    return pytestconfig.stash.setdefault(_REPORT, MeshReport())


@pytest.fixture(scope="session")
def kube_api(
    mesh_tools: MeshTools, mesh_folder: Path, mesh_report: MeshReport
) -> Iterator[KubeApi]:
    """A Kubernetes API server with RBAC, and the controller manager."""
    server = KubeApi(mesh_tools, mesh_folder / "kubernetes", mesh_report.accepted)
    try:
        server.start()
        mesh_report.version = server.version()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def crds(kube_api: KubeApi, mesh_tools: MeshTools) -> None:
    """The CRDs of Istio, Gateway API, Envoy Gateway, Prometheus operator and cert-manager."""
    kube_api.install_crds(mesh_tools.crds(project) for project in CRDS)


@pytest.fixture(scope="session")
def _ended_last() -> Iterator[ExitStack]:
    """Ends what the factories below have started, the last one first."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="session")
def istiod(
    crds: None,
    kube_api: KubeApi,
    mesh_tools: MeshTools,
    mesh_folder: Path,
    _ended_last: ExitStack,
) -> Callable[..., Istiod]:
    """Starts an istiod with a mesh config. It runs until `stop()`, or the end of the session.

    `istiod({"extensionProviders": [...]})`; `arguments=("--configDir", ...)` and `environment=` are
    those of pilot-discovery.
    """
    kube_api.create_namespace(NAMESPACE)
    started: list[Istiod] = []

    def start(
        mesh_config: Mapping[str, object] | None = None,
        arguments: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Istiod:
        folder = mesh_folder / f"istiod-{len(started)}"
        created = Istiod(mesh_tools, kube_api, folder, mesh_config or {}, arguments, environment)
        _ended_last.callback(created.stop)
        started.append(created)
        created.await_ready()
        return created

    return start


@pytest.fixture(scope="session")
def istio_envoy(mesh_folder: Path, _ended_last: ExitStack) -> Callable[..., IstioEnvoy]:
    """Starts a stock Envoy that this istiod configures: `istio_envoy(istiod, "router", ...)`.

    It runs until `stop()`, or the end of the session. Keyword arguments are those of `IstioEnvoy`.
    """
    started: list[IstioEnvoy] = []

    def start(istiod: Istiod, kind: Kind, **arguments: object) -> IstioEnvoy:
        folder = mesh_folder / f"envoy-{len(started)}"
        created = IstioEnvoy(kind, istiod.xds, folder, **arguments)
        _ended_last.callback(created.stop)
        started.append(created)
        return created

    return start


@pytest.fixture(scope="session")
def callout_gateway(mesh_folder: Path, _ended_last: ExitStack) -> Callable[..., CalloutGateway]:
    """Starts control plane, callout workers and example models: `callout_gateway(config)`.

    More arguments are those of `sluice control-plane`. The default config is
    `base_config("callout")`. It runs until `stop()`, or the end of the session.
    """
    started: list[CalloutGateway] = []

    def start(config: Config | None = None, *arguments: str) -> CalloutGateway:
        folder = mesh_folder / f"gateway-{len(started)}"
        chosen = config or base_config("callout")
        created = CalloutGateway(chosen, directory=folder, arguments=list(arguments))
        _ended_last.callback(created.stop)
        started.append(created)
        created.start()
        return created

    return start
