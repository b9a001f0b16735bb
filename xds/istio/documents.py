"""Resources of Istio as Kubernetes objects."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.json_format import MessageToDict

from sluice.config.istio import Istio, Workload
from xds.istio.resources import IstioResource

# Any: JSON, in the mapping of protobuf.
Json = dict[str, Any]

LABELS: Final = {"app.kubernetes.io/managed-by": "sluice"}
"""Labels of exported objects: `kubectl apply --prune` and `kubectl delete` select them by these."""


def metadata(name: str, namespace: str) -> Json:
    """The metadata of an exported object."""
    return {"name": name, "namespace": namespace, "labels": dict(LABELS)}


def named_workloads(istio: Istio, name: str) -> Iterator[tuple[str, Workload]]:
    """The workloads, each with the name of its objects: `name`, with a number if it is taken."""
    counts: Counter[str] = Counter()
    for each in istio.workloads:
        counts[each.namespace] += 1
        count = counts[each.namespace]
        yield (name if count == 1 else f"{name}-{count}"), each


def document(resource: IstioResource) -> Json:
    """The Kubernetes object of a resource."""
    return {
        "apiVersion": resource.kind.api_version,
        "kind": resource.kind.value,
        "metadata": metadata(resource.name, resource.namespace),
        # A map of a message has another order in each process.
        "spec": json.loads(json.dumps(MessageToDict(resource.spec), sort_keys=True)),
    }
