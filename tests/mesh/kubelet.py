"""Does for the pods of a namespace what scheduler and kubelet do, without running them.

A pod that appears gets a node and becomes ready; a pod that ends is gone at once. Controllers see
pods as in a cluster.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event, Thread
from types import TracebackType
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from tests.mesh.kube_api import KubeApi
from tests.mesh.pods import NODE, running_status

INTERVAL = 0.1
"""Seconds between two looks at the pods."""

_GONE, _CHANGED = 404, 409
"""Statuses of the API server for a pod that somebody else has deleted or changed meanwhile."""


@dataclass
class Kubelet:
    """Runs in a with block. `app`: the value of the label `app.kubernetes.io/name` that counts."""

    kube_api: KubeApi
    namespace: str
    app: str
    address: str
    seen: list[Counter[str]] = field(default_factory=list)
    """The number of pods of the app at each look: those that are `ready`, and those that `remain`,
    which is all but those that end."""
    starts_pods: bool = True
    """Whether new pods become ready."""
    _stop: Event = field(default_factory=Event)

    def __enter__(self) -> "Kubelet":
        settings = client.Configuration()
        config.load_kube_config(str(self.kube_api.kubeconfig), client_configuration=settings)
        self._core = client.CoreV1Api(client.ApiClient(settings))
        self._thread = Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def ready(self) -> int:
        """The number of pods of the app that were ready at the last look."""
        return self.seen[-1]["ready"] if self.seen else 0

    def evict(self, name: str) -> int:
        """Ask for the eviction of a pod, as `kubectl drain` does. Returns the HTTP status.

        429: a PodDisruptionBudget does not allow it now.
        """
        body = client.V1Eviction(metadata=client.V1ObjectMeta(name=name))
        try:
            self._core.create_namespaced_pod_eviction(name, self.namespace, body)
        except ApiException as error:
            status: int = error.status
            return status
        return 201

    def names(self) -> list[str]:
        """The names of the pods of the app that do not end."""
        return [pod.metadata.name for pod in self._pods() if _of(pod, self.app) and not _ends(pod)]

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL):
            pods = self._pods()
            remaining = [pod for pod in pods if _of(pod, self.app) and not _ends(pod)]
            ready = sum(map(_is_ready, remaining))
            self.seen.append(Counter(ready=ready, remain=len(remaining)))
            for pod in pods:
                step = self._next_step(pod)
                if step is not None:
                    self._try(step, pod.metadata.name)

    def _pods(self) -> list[Any]:
        found: list[Any] = self._core.list_namespaced_pod(self.namespace).items
        return found

    def _next_step(self, pod: Any) -> Callable[[str], None] | None:
        if _ends(pod):
            return self._remove
        if not self.starts_pods or _is_ready(pod):
            return None
        return self._make_ready if pod.spec.node_name else self._bind

    def _try(self, step: Callable[[str], None], name: str) -> None:
        try:
            step(name)
        except ApiException as error:
            if error.status not in {_GONE, _CHANGED}:
                raise

    def _bind(self, name: str) -> None:
        target = client.V1ObjectReference(kind="Node", name=NODE)
        body = client.V1Binding(metadata=client.V1ObjectMeta(name=name), target=target)
        # The client does not understand the answer: https://github.com/kubernetes-client/python/issues/547
        self._core.create_namespaced_pod_binding(name, self.namespace, body, _preload_content=False)

    def _make_ready(self, name: str) -> None:
        status = {"status": running_status(self.address)}
        self._core.patch_namespaced_pod_status(name, self.namespace, status)

    def _remove(self, name: str) -> None:
        self._core.delete_namespaced_pod(name, self.namespace, grace_period_seconds=0)


def _of(pod: Any, app: str) -> bool:
    return bool((pod.metadata.labels or {}).get("app.kubernetes.io/name") == app)


def _ends(pod: Any) -> bool:
    return pod.metadata.deletion_timestamp is not None


def _is_ready(pod: Any) -> bool:
    conditions = pod.status.conditions or []
    return any(each.type == "Ready" and each.status == "True" for each in conditions)
