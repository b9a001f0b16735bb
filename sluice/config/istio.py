"""The section for a service mesh: how Istio routes the requests of models (`xds.istio`)."""

from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from sluice.config.addresses import is_ip, split_host_port
from sluice.config.invalid import check_distinct, invalid
from sluice.config.mcp import Mcp
from sluice.config.pattern import Pattern
from sluice.config.rate_limit_service import DomainName
from sluice.config.values import HostName, HostPort, Strict

_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
"""A DNS label (RFC 1123 section 2.1)."""

KubernetesName = Annotated[
    str, Pattern(_LABEL, "write a name of 1 to 63 small letters, digits and hyphens")
]
"""The name of a Kubernetes namespace or service."""

GatewayName = Annotated[
    str,
    Pattern(
        rf"(?:{_LABEL}/)?{_LABEL}(?:\.{_LABEL})*",
        "write the name of a Gateway, or its namespace, a slash and its name, such as "
        "istio-ingress/public",
    ),
]
"""A `Gateway` of Istio: NAME, or NAMESPACE/NAME."""

ServiceName = Annotated[
    str,
    Pattern(
        rf"{_LABEL}/{_LABEL}",
        "write the namespace and the name of a service, such as models/resnet",
    ),
]
"""A Kubernetes service: NAMESPACE/NAME."""

MeshHost = Annotated[
    str,
    Pattern(
        rf"\*|(?:\*\.)?{_LABEL}(?:\.{_LABEL})*",
        "write a host name such as models.example.com, *.example.com for all names below it, or * "
        "for every host",
    ),
    Field(max_length=253),
]
"""A host name of a VirtualService."""

_LABEL_VALUE: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"

LabelKey = Annotated[
    str,
    Pattern(
        rf"(?:{_LABEL}(?:\.{_LABEL})*/)?{_LABEL_VALUE}",
        "write the key of a label, such as istio or app.kubernetes.io/name",
    ),
]
LabelValue = Annotated[
    str,
    Pattern(_LABEL_VALUE, "write the value of a label: at most 63 letters, digits and . _ -"),
]

MeshCallers = Literal["none", "callout", "weights"]
"""What callers inside the mesh get that call a host of the models through their own sidecar."""


def _check_service_host(value: str) -> str:
    if is_ip(split_host_port(value)[0]):
        raise ValueError(
            "write the host of the Kubernetes service of the callout, not an IP address, such as "
            "sluice-callout.sluice.svc.cluster.local:18100"
        )
    return value


class Workload(Strict):
    """Pods whose Envoys ask the callout."""

    kind: Literal["gateway", "sidecar"] = Field(
        "gateway",
        description="`gateway`: an ingress gateway. `sidecar`: clients inside the mesh. Needs "
        "`mesh: callout`.",
    )
    namespace: KubernetesName = Field("istio-system", description="Namespace of the pods.")
    labels: dict[LabelKey, LabelValue] = Field(
        default_factory=lambda: {"istio": "ingressgateway"},
        min_length=1,
        max_length=16,
        description="Labels that the pods have.",
    )


class Istio(Strict):
    """How an Istio mesh routes the requests of the models.

    See `sluice docs istio`. `sluice export istio` prints the resources. With `mcp`, the control
    plane serves them to istiod.
    """

    hosts: tuple[MeshHost, ...] = Field(
        min_length=1,
        max_length=64,
        description="Host names by which clients reach the models: the hosts of the "
        "VirtualService. None may be wider than a host of the Gateway: the filters would not apply "
        "to it, and all requests would be refused.",
        examples=[["models.example.com"]],
    )
    gateways: tuple[GatewayName, ...] = Field(
        (),
        max_length=16,
        description="Gateways that have these hosts: NAME in `namespace`, or NAMESPACE/NAME.",
        examples=[["istio-ingress/public"]],
    )
    mesh: MeshCallers = Field(
        "none",
        description="What callers inside the mesh get that call `hosts` through their sidecar. "
        "`none`: nothing, they call the gateway. `callout`: the sidecar asks the callout, as a "
        "gateway does. `weights`: no callout, so no authentication, no limits and no conversion; "
        "headers and the percentages of canaries choose the version.",
    )
    namespace: KubernetesName = Field("sluice", description="Namespace of the exported resources.")
    domain: HostName = Field(
        "sluice.internal",
        description="Domain of the hosts of the versions, `VERSION.MODEL.DOMAIN`. No name server "
        "needs to know it. Two gateways of a mesh need two domains.",
    )
    export_to: tuple[KubernetesName | Literal[".", "*"], ...] = Field(
        (),
        max_length=64,
        description="Namespaces that see the exported resources (`exportTo`). `.`: that of the "
        "resources. Default: all.",
    )
    callout: Annotated[HostPort, AfterValidator(_check_service_host)] = Field(
        "sluice-callout.sluice.svc.cluster.local:18100",
        description="Host and port of the Kubernetes service of the callout.",
    )
    workloads: tuple[Workload, ...] = Field(
        (Workload(),),
        min_length=1,
        max_length=64,
        description="The pods whose Envoys ask the callout. Default: the ingress gateway of Istio.",
    )
    rate_limit_domain: DomainName | None = Field(
        None,
        description="Domain of `limits.domains` about which the Envoys also ask the rate limit "
        "service of the callout, with the descriptors `subject`, `model`, both, and "
        "`remote_address`. Default: none.",
    )
    cluster_domain: HostName = Field(
        "cluster.local",
        description="Domain of the Kubernetes services of `endpoints_from.kubernetes`.",
    )
    service_ports: dict[ServiceName, Annotated[int, Field(ge=1, le=65535)]] = Field(
        default_factory=dict,
        max_length=10_000,
        description="Ports of Kubernetes services by `NAMESPACE/SERVICE`, where the number differs "
        "from `endpoints_from.kubernetes.port`. Without it, a `port` that is a name means the only "
        "port of the service.",
    )

    mcp: Mcp | None = Field(
        None,
        description="The control plane as a config source of istiod. Default: istiod gets the "
        "resources by `kubectl apply`.",
    )

    @model_validator(mode="after")
    def _someone_calls(self) -> Self:
        if not self.gateways and self.mesh == "none":
            message = "no caller reaches the models: write gateways, or set mesh to callout or "
            raise invalid(f"{message}weights", ("gateways",))
        return self

    @model_validator(mode="after")
    def _hosts_are_distinct(self) -> Self:
        for key in ("hosts", "gateways"):
            entries = (((key, n), each) for n, each in enumerate(getattr(self, key)))
            check_distinct(entries, "{value} is listed twice")
        return self

    @model_validator(mode="after")
    def _workloads_are_distinct(self) -> Self:
        # Two filters in one Envoy ask the callout twice, which refuses the second time.
        entries = (
            (("workloads", n), (each.kind, each.namespace, *sorted(each.labels.items())))
            for n, each in enumerate(self.workloads)
        )
        check_distinct(entries, "the same pods are listed twice")
        return self

    @model_validator(mode="after")
    def _sidecars_are_callers(self) -> Self:
        for n, workload in enumerate(self.workloads):
            if workload.kind == "sidecar" and self.mesh != "callout":
                message = "sidecars ask the callout only with mesh: callout: write it, or remove "
                raise invalid(f"{message}the workload", ("workloads", n, "kind"))
        return self

    @model_validator(mode="after")
    def _mesh_has_hosts(self) -> Self:
        if self.mesh != "none":
            for n, host in enumerate(self.hosts):
                if host == "*":
                    message = "callers inside the mesh need a name: * would take the requests for "
                    raise invalid(f"{message}every service of the mesh", ("hosts", n))
        return self
