"""Runs the containers of an overlay as processes of this machine, with the arguments, files and
probes of the manifests.

All share one `/etc/sluice`, so that both control planes watch a file with the same path, as in
their pods. Ports are free ones, and the names of services are addresses of this machine.
"""

import http.client
import signal
import ssl
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import httpx

from tests.deploy.cluster_files import config_maps
from tests.deploy.manifests import (
    CONTROL_PLANE,
    GATEWAY,
    PARTS,
    REDIS,
    ROOT,
    VIDEO,
    Manifests,
    arguments,
    probes,
)
from tests.deploy.mounts import Contents, mounted_files, swap
from tests.integration.gateway import PATIENCE, eventually, free_ports
from tests.mesh.processes import Process


class LocalPods:
    """The pods of an overlay. `replaced`: further replacements in the config."""

    def __init__(
        self,
        manifests: Manifests,
        folder: Path,
        cluster: Contents,
        replaced: Mapping[str, str],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.manifests = manifests
        self._folder = folder
        self._environment = environment or {}
        self._processes: dict[str, Process] = {}
        self._has_video = any(each["metadata"]["name"] == VIDEO for each in manifests.workloads)
        listening = (8080, 8081, 9901, 9902, 9903, 18000, 18200, 18240)
        inside = (*listening, 6379, 28000, 28081)
        self.ports = dict(zip(inside, free_ports(len(inside)), strict=True))
        """The port of this machine for each port of the manifests; 28000 and 28081 are those of the
        second control plane."""
        replicas = ", ".join(f"127.0.0.1:{self.ports[each]}" for each in (18000, 28000))
        self._replaced = {
            **replaced,
            "[sluice-control-plane:18000]": f"[{replicas}]",
            "sluice-redis:6379": f"127.0.0.1:{self.ports[6379]}",
            "sluice-video:18200": f"127.0.0.1:{self.ports[18200]}",
            "sluice-video:18240": f"127.0.0.1:{self.ports[18240]}",
            "sluice-gateway:80": f"127.0.0.1:{self.ports[8080]}",
            "$(POD_INDEX)": "0",
            "/etc/sluice": f"{folder}/etc/sluice",
            "/etc/redis": f"{folder}/etc/redis",
            "/run/sluice": f"{folder}/run",
            "/tmp/envoy-sds": f"{folder}/envoy-sds",
            "/tmp/redis.conf": f"{folder}/redis.conf",
            "dir /data": f"dir {folder}/data\nport {self.ports[6379]}\nbind 127.0.0.1",
            **{f"0.0.0.0:{port}": f"0.0.0.0:{self.ports[port]}" for port in listening},
        }
        for name in ("run", "data"):
            (folder / name).mkdir(parents=True)
        self._contents = {**cluster, **config_maps(manifests)}
        self._write_files()

    def _write_files(self) -> None:
        """Write what all containers mount. Parts of the same folder come together."""
        folders: dict[str, dict[str, bytes]] = {}
        video = ((VIDEO, "video"),) if self._has_video else ()
        for workload, name in (*PARTS, *video, (REDIS, "redis")):
            pod = self.manifests.pod(workload)
            container = self.manifests.container(workload, name)
            for path, data in mounted_files(pod, container, self._contents).items():
                parent, _, file = path.rpartition("/")
                folders.setdefault(parent, {})[file] = self._local(data)
        for path, files in folders.items():
            folder = self._folder / path.lstrip("/")
            folder.mkdir(parents=True, exist_ok=True)
            swap(folder, files)

    def edit_config(self, old: str, new: str) -> None:
        """Change the ConfigMap, as `kubectl apply` and then the kubelet do."""
        text = self.config_file.read_text()
        assert old in text
        swap(self.config_file.parent, {"gateway.yaml": text.replace(old, new).encode()})

    @property
    def config_file(self) -> Path:
        """The config as it is mounted."""
        return self._folder / "etc/sluice/config/gateway.yaml"

    def secret(self, name: str, key: str) -> str:
        """A value of a Secret."""
        return self._contents["secret", name][key].decode()

    def start(self) -> None:
        """Start all containers in the order of their pods, each when the one before has started."""
        redis = self.manifests.container(REDIS, "redis")
        self._run("redis", [*redis["command"], *arguments(redis)])
        second = [f"--xds=0.0.0.0:{self.ports[28000]}", f"--http=0.0.0.0:{self.ports[28081]}"]
        self._run_sluice("control-plane", CONTROL_PLANE)
        self._run_sluice("control-plane", CONTROL_PLANE, "-second", second)
        self._run_sluice("callout", GATEWAY)
        self.await_probe(GATEWAY, "callout", "startupProbe")
        self._run_sluice("envoy", GATEWAY)
        for workload, name in PARTS:
            self.await_probe(workload, name, "readinessProbe")
        if self._has_video:
            self._run_sluice("video", VIDEO)
            self.await_probe(VIDEO, "video", "readinessProbe")

    def _run_sluice(
        self, name: str, workload: str, suffix: str = "", more: Sequence[str] = ()
    ) -> None:
        container = self.manifests.container(workload, name)
        argv = [sys.executable, "-P", "-m", "sluice.cli", *arguments(container), *more]
        environment = {
            each["name"]: self._text(each["value"])
            for each in container.get("env", ())
            if "value" in each
        }
        self._run(f"{name}{suffix}", argv, {**environment, **self._environment})

    def _run(
        self, name: str, argv: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        argv = [self._text(each) for each in argv]
        self._processes[name] = Process(name, argv, self._folder, environment)

    def await_probe(self, workload: str, name: str, kind: str) -> None:
        """Wait until a probe of the manifests succeeds."""

        def succeeds() -> bool:
            self._processes[name].require_running()
            return self.probe(workload, name, kind) == 200

        eventually(succeeds)

    def probe(self, workload: str, name: str, kind: str) -> int | None:
        """The status that a probe gets, as the kubelet sends it; None without an answer."""
        container = self.manifests.container(workload, name)
        get = dict(probes(container))[kind]["httpGet"]
        (port,) = (
            each["containerPort"] for each in container["ports"] if each["name"] == get["port"]
        )
        with suppress(OSError, http.client.HTTPException):
            return self.get(port, get["path"], tls=get.get("scheme") == "HTTPS")[0]
        return None

    def get(
        self,
        port: int,
        path: str,
        *,
        tls: bool,
        verified: tuple[bytes, str] | None = None,
        token: str | None = None,
    ) -> tuple[int, bytes]:
        """Status and body. `port` is that of the manifests.

        `verified`: the authority and the name of the server; None: not verified. Raises OSError and
        HTTPException.
        """
        address = "127.0.0.1", self.ports[port]
        connection = http.client.HTTPConnection(*address, timeout=5)
        if tls:
            connection = _Https(*address, verified)
        try:
            headers = {} if token is None else {"authorization": f"Bearer {token}"}
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def terminate(self, name: str) -> None:
        """Send SIGTERM to a container."""
        self._processes[name].signal(signal.SIGTERM)

    def wait(self, name: str) -> int:
        """The exit status of a container that ends."""
        return self._processes[name].wait()

    def log(self, name: str) -> str:
        """What a container has written."""
        return self._processes[name].log.read_text(errors="replace")

    def stop(self) -> None:
        """End everything that still runs, in the order of a shutdown."""
        for process in reversed(self._processes.values()):
            process.stop()

    def _local(self, data: bytes) -> bytes:
        return self._text(data.decode()).encode()

    def _text(self, text: str) -> str:
        for old, new in self._replaced.items():
            text = text.replace(old, new)
        return text


class _Https(http.client.HTTPSConnection):
    """A connection that knows the server by another name than its address."""

    def __init__(self, host: str, port: int, verified: tuple[bytes, str] | None) -> None:
        if verified is None:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        else:
            context = ssl.create_default_context(cadata=verified[0].decode())
        super().__init__(host, port, timeout=5, context=context)
        self._tls, self._name = context, host if verified is None else verified[1]

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._name)


def example_models(manifests: Manifests, host: str, folder: Path) -> tuple[Process, dict[str, int]]:
    """Start the example models with the arguments of their container. Returns their ports by name.

    They listen on `host`.
    """
    container = manifests.container("example-models", "models")
    declared = {each["name"]: each["containerPort"] for each in container["ports"]}
    ports = dict(zip(declared, free_ports(len(declared)), strict=True))
    text = "\n".join(arguments(container))
    for name, port in declared.items():
        text = text.replace(f"0.0.0.0:{port}", f"{host}:{ports[name]}")
    argv = [sys.executable, "-P", "-m", "examples.model_server", *text.split("\n")]
    return Process("models", argv, folder, {"PYTHONPATH": str(ROOT)}), ports


def infer(pods: LocalPods, token: str) -> httpx.Response:
    """Send the request of docs/kubernetes.md."""
    url = f"http://127.0.0.1:{pods.ports[8080]}/v2/models/sentiment/infer"
    body = (ROOT / "examples/sentiment.json").read_bytes()
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    return httpx.post(url, content=body, headers=headers, timeout=PATIENCE)
