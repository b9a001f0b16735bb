"""Where the exported objects belong: the Gateway, the namespaces, and the callout's Service."""

from dataclasses import dataclass

from sluice.config.addresses import is_ip, split_host_port
from xds.gateway_api.objects import GATEWAY, PREFIX, Object, kubernetes_object

CALLOUT = f"{PREFIX}-callout"
"""The name of the objects that belong to the callout."""

_CLUSTER_DOMAIN = ".svc.cluster.local"


@dataclass(frozen=True, slots=True)
class Target:
    """The Gateway for which objects are exported, and the address at which it reaches the callout.

    `listeners`: the names of the Gateway's listeners that get the routes; all if there are none.
    `callout`: HOST:PORT. HOST is the name of a Service (`NAME` or `NAME.NAMESPACE`, also with
    `.svc.cluster.local`), a DNS name with more labels, or an IP address. `converts`: whether the
    patches for conversion are exported, which name listeners.
    """

    namespace: str
    gateway: str
    gateway_namespace: str
    callout: str
    listeners: tuple[str, ...] = ()
    hostnames: tuple[str, ...] = ()
    converts: bool = False

    @property
    def service(self) -> tuple[str, str] | None:
        """The name and the namespace of the Service of the callout; None if it is no Service."""
        host, _ = split_host_port(self.callout)
        if is_ip(host):
            return None
        name, *namespace = host.removesuffix(_CLUSTER_DOMAIN).removesuffix(".svc").split(".")
        if len(namespace) > 1:
            return None
        return name, namespace[0] if namespace else self.namespace

    def callout_ports(self, workers: int) -> range:
        """The ports of the workers: worker N listens on the first port + N."""
        first = int(split_host_port(self.callout)[1])
        return range(first, first + workers)


def on_gateway(target: Target) -> list[Object]:
    """References to the Gateway for policies: to its listeners if the target names some."""
    return _each_listener(target, {"group": GATEWAY, "kind": "Gateway", "name": target.gateway})


def parents(target: Target) -> list[Object]:
    """The parentRefs of a route."""
    gateway: Object = {"name": target.gateway, "namespace": target.gateway_namespace}
    return _each_listener(target, gateway)


def _each_listener(target: Target, gateway: Object) -> list[Object]:
    if not target.listeners:
        return [gateway]
    return [{**gateway, "sectionName": listener} for listener in target.listeners]


def service(name: str) -> Object:
    """A Service to which a grant allows references."""
    return {"group": "", "kind": "Service", "name": name}


def grant(namespace: str, name: str, to: Object, sources: list[tuple[str, str, str]]) -> Object:
    """Allows objects of other namespaces to name an object. `sources`: group, kind, namespace."""
    allowed = [{"group": group, "kind": kind, "namespace": each} for group, kind, each in sources]
    return kubernetes_object("ReferenceGrant", namespace, name, {"from": allowed, "to": [to]})
