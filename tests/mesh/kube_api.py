"""A Kubernetes API server with etcd and the controller manager, without nodes.

Objects are validated, authorized (RBAC) and stored as in a cluster, and controllers act on them: a
ServiceAccount gets its tokens, a Deployment its Pods. No Pod runs.
"""

import contextlib
import json
import secrets
import signal
import ssl
import subprocess
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.integration.gateway import START_TIMEOUT, eventually, free_ports
from tests.mesh.processes import Process
from tests.mesh.tools import MeshTools

Object = Mapping[str, Any]
"""A Kubernetes object, as YAML or JSON has it."""

KUBECTL_TIMEOUT = 120


class KubectlError(Exception):
    """kubectl has failed. The text is its command and its errors, such as why the server refused
    an object."""


class KubeApi:
    """The API server of a test session. `kubeconfig`: the file of an administrator.

    `accepted` gets the names of all objects that the server has accepted.
    """

    def __init__(self, tools: MeshTools, folder: Path, accepted: set[str]) -> None:
        self.folder = folder
        self.accepted = accepted
        self.kubeconfig = folder / "admin.kubeconfig"
        etcd, peer, port, controllers = free_ports(4)
        self.url = f"https://127.0.0.1:{port}"
        self._tools = tools
        self._ports = {"etcd": etcd, "peer": peer, "api": port, "controllers": controllers}
        self._token = secrets.token_hex(16)
        self._processes: list[Process] = []

    @property
    def ca(self) -> Path:
        """The file with the certificate authority of the server."""
        return self.folder / "certificates" / "apiserver.crt"

    def start(self) -> None:
        """Start everything, and wait until namespaces have their default ServiceAccount."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_credentials()
        self._run("etcd", self._etcd_options())
        self._run("kube-apiserver", self._api_options())
        self._await(self._is_ready)
        self.write_kubeconfig(self.kubeconfig, self._token)
        self._run("kube-controller-manager", self._controller_options())
        self._await(lambda: self.exists("serviceaccount/default", "--namespace", "default"))

    def stop(self) -> None:
        """End all processes, the last one first."""
        for process in reversed(self._processes):
            process.stop()

    def kubectl(self, *arguments: str, content: str | None = None) -> str:
        """Run kubectl as the administrator. Returns its output. Raises KubectlError.

        `content` is its standard input.
        """
        argv = [self._tools.program("kubectl"), "--kubeconfig", str(self.kubeconfig), *arguments]
        ran = subprocess.run(
            argv,
            input=content,
            capture_output=True,
            text=True,
            timeout=KUBECTL_TIMEOUT,
            check=False,
        )
        if ran.returncode:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {ran.stderr.strip()}")
        return ran.stdout

    def get(self, *arguments: str) -> Any:
        """The object, or the list of objects, of `kubectl get`. Raises KubectlError."""
        return json.loads(self.kubectl("get", *arguments, "--output=json"))

    def exists(self, *arguments: str) -> bool:
        """Whether `kubectl get` finds this object."""
        try:
            self.kubectl("get", *arguments)
        except KubectlError:
            return False
        return True

    def apply(self, *objects: Object, dry_run: bool = False) -> list[str]:
        """Create or change objects, with strict validation. Returns their names: `KIND/NAME`.

        `dry_run`: the server validates and admits the objects, and stores nothing. Raises
        KubectlError, which says why an object was refused.
        """
        return self.apply_yaml(yaml.safe_dump_all(objects), dry_run=dry_run)

    def apply_yaml(self, text: str, *, dry_run: bool = False) -> list[str]:
        """As `apply`, for the text of a YAML file."""
        options = ["--server-side", "--force-conflicts", "--validate=strict", "--output=name"]
        if dry_run:
            options.append("--dry-run=server")
        names = self.kubectl("apply", *options, "-f", "-", content=text).split()
        self.accepted.update(names)
        return names

    def apply_kustomization(self, folder: Path, *, dry_run: bool = False) -> list[str]:
        """As `apply`, for what `kubectl kustomize` makes of this folder."""
        return self.apply_yaml(self.kubectl("kustomize", str(folder)), dry_run=dry_run)

    def install_crds(self, folders: Iterable[Path]) -> None:
        """Create the CRDs of these folders, and wait until the server serves their kinds."""
        files = [option for folder in folders for option in ("-f", str(folder))]
        names = self.kubectl("apply", "--server-side", "--output=name", *files).split()
        crds = [name for name in names if name.startswith("customresourcedefinition")]
        self.kubectl("wait", "--for=condition=Established", f"--timeout={KUBECTL_TIMEOUT}s", *crds)

    def version(self) -> str:
        """The version of Kubernetes, such as `1.37.2`."""
        versions = json.loads(self.kubectl("version", "--output=json"))
        found: str = versions["serverVersion"]["gitVersion"]
        return found.removeprefix("v")

    def delete(self, *objects: Object) -> None:
        """Delete objects, and wait until they are gone."""
        text = yaml.safe_dump_all(objects)
        self.kubectl("delete", "--ignore-not-found", "-f", "-", content=text)

    def create_namespace(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """Create a namespace, and wait until Pods may be created in it."""
        metadata = {"name": name, "labels": dict(labels or {})}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        eventually(lambda: self.exists("serviceaccount/default", "--namespace", name))

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """A kubeconfig with a token of this ServiceAccount, which must exist."""
        token = self.kubectl("create", "token", name, "--namespace", namespace).strip()
        return self.write_kubeconfig(self.folder / f"{namespace}.{name}.kubeconfig", token)

    def may(self, namespace: str, account: str, verb: str, resource: str) -> bool:
        """Whether a ServiceAccount of the namespace may do this there (`kubectl auth can-i`)."""
        user = f"system:serviceaccount:{namespace}:{account}"
        options = ["--as", user, "--namespace", namespace]
        try:
            self.kubectl("auth", "can-i", verb, resource, *options)
        except KubectlError:
            return False
        return True

    def write_kubeconfig(self, file: Path, token: str) -> Path:
        """Write a kubeconfig for the user of this token. Returns the file."""
        cluster = {"server": self.url, "certificate-authority": str(self.ca)}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "mesh", "cluster": cluster}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "mesh", "context": {"cluster": "mesh", "user": "user"}}],
            "current-context": "mesh",
        }
        file.write_text(yaml.safe_dump(content))
        file.chmod(0o600)
        return file

    def _run(self, program: str, options: Sequence[str]) -> None:
        argv = [self._tools.program(program), *options]
        self._processes.append(Process(program, argv, self.folder, end_signal=signal.SIGKILL))

    def _await(self, condition: Callable[[], bool]) -> None:
        def holds() -> bool:
            for process in self._processes:
                process.require_running()
            return condition()

        eventually(holds, START_TIMEOUT)

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError):
            context = ssl.create_default_context(cafile=str(self.ca))
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5, context=context):
                return True
        return False

    def _write_credentials(self) -> None:
        """Write the key of the tokens of ServiceAccounts, and the token of the administrator."""
        key = rsa.generate_private_key(65537, 2048)
        formats = serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        private = key.private_bytes(serialization.Encoding.PEM, *formats)
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (self.folder / "accounts.key").write_bytes(private)
        (self.folder / "accounts.pub").write_bytes(public)
        (self.folder / "tokens.csv").write_text(f"{self._token},admin,admin,system:masters\n")

    def _etcd_options(self) -> list[str]:
        own, peer = (f"http://127.0.0.1:{self._ports[name]}" for name in ("etcd", "peer"))
        return [
            "--data-dir", "etcd",
            "--listen-client-urls", own, "--advertise-client-urls", own,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"default={peer}",
            # The data does not outlive the session, so nothing is lost without fsync.
            "--unsafe-no-fsync",
        ]  # fmt: skip

    def _api_options(self) -> list[str]:
        return [
            "--etcd-servers", f"http://127.0.0.1:{self._ports['etcd']}",
            "--bind-address", "127.0.0.1", "--secure-port", str(self._ports["api"]),
            "--cert-dir", str(self.ca.parent),
            "--authorization-mode", "RBAC",
            "--token-auth-file", "tokens.csv",
            "--service-account-issuer", "https://kubernetes.default.svc",
            "--service-account-key-file", "accounts.pub",
            "--service-account-signing-key-file", "accounts.key",
            "--service-cluster-ip-range", "10.96.0.0/16",
            # The service `kubernetes` would need an address that is not a loopback address.
            "--endpoint-reconciler-type", "none",
        ]  # fmt: skip

    def _controller_options(self) -> list[str]:
        return [
            "--kubeconfig", str(self.kubeconfig),
            "--bind-address", "127.0.0.1", "--secure-port", str(self._ports["controllers"]),
            "--cert-dir", "controller-certificates",
            "--leader-elect=false",
            "--root-ca-file", str(self.ca),
            "--service-account-private-key-file", "accounts.key",
            # No kubelet says that nodes are alive.
            "--node-monitor-grace-period", "24h",
        ]  # fmt: skip
