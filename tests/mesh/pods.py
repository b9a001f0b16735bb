"""Pods whose status a test sets, as the kubelet of a node does. Nothing runs in them.

Controllers act on them: the EndpointSlices of a Service follow their readiness and their end.
"""

import json
import socket
from dataclasses import dataclass

from tests.mesh.kube_api import KubeApi

NODE = "mesh-node"


def machine_address() -> str:
    """An address of this machine that EndpointSlices may have: no loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("203.0.113.1", 9))  # Sends nothing.
        address: str = probe.getsockname()[0]
    return address


def running_status(address: str, *, ready: bool = True) -> dict[str, object]:
    """The status of a pod that runs, and whether its readiness probe succeeds."""
    state = "True" if ready else "False"
    conditions = [{"type": kind, "status": state} for kind in ("Ready", "ContainersReady")]
    addresses = {"podIP": address, "podIPs": [{"ip": address}]}
    return {"phase": "Running", **addresses, "conditions": conditions}


@dataclass(frozen=True)
class Pods:
    """The pods of a namespace, all on one node."""

    kube_api: KubeApi
    namespace: str

    def create_node(self) -> None:
        """Create the node. The garbage collection ends pods of nodes that do not exist."""
        self.kube_api.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})

    def run(self, name: str, app: str, address: str, port: int) -> None:
        """Create a pod with this address that is ready. Its port is named `http`."""
        container = {
            "name": app,
            "image": f"{app}:1",
            "ports": [{"name": "http", "containerPort": port}],
        }
        metadata = {"name": name, "namespace": self.namespace, "labels": {"app": app}}
        spec = {"nodeName": NODE, "containers": [container]}
        self.kube_api.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        self.set_ready(name, address)

    def set_ready(self, name: str, address: str, *, ready: bool = True) -> None:
        """Say that the pod runs, and whether its readiness probe succeeds."""
        text = json.dumps({"status": running_status(address, ready=ready)})
        patch = ["--subresource=status", "--type=merge", "--patch", text]
        self.kube_api.kubectl("patch", f"pod/{name}", "--namespace", self.namespace, *patch)

    def end(self, name: str) -> None:
        """Delete the pod: it has its termination period, until `remove`."""
        self._delete(name, "--wait=false")

    def remove(self, name: str) -> None:
        """Say that nothing of the pod runs any more."""
        self._delete(name, "--force", "--grace-period=0")

    def exists(self, name: str) -> bool:
        """Whether the API server still has the pod."""
        return self.kube_api.exists(f"pod/{name}", "--namespace", self.namespace)

    def _delete(self, name: str, *options: str) -> None:
        self.kube_api.kubectl("delete", f"pod/{name}", "--namespace", self.namespace, *options)
