"""The section for istiod as a client of the control plane (`xds.istio.mcp`)."""

from pydantic import Field

from sluice.config.values import Duration, HostPort, Strict


class Mcp(Strict):
    """The control plane as a config source of istiod (`configSources` of its mesh config).

    A canary step then reaches the mesh without `kubectl`. Changes take effect at the next start.
    """

    address: HostPort = Field(
        description="Address at which the control plane serves the resources to istiod (gRPC). "
        "istiod connects without credentials. Clients of this address can only read.",
        examples=["127.0.0.1:18003"],
    )
    tls: bool = Field(
        False,
        description="Whether istiod connects with TLS (`tlsSettings` of the config source). The "
        "certificate is `identity.control_plane.certificate`.",
    )
    allow_insecure: bool = Field(
        False,
        description="Whether `address` may be one that other machines can reach. All who can "
        "reach it can then read the resources: hosts, endpoints, routes and percentages, but no "
        "secret. A network policy should let only istiod in.",
    )
    propagation: Duration = Field(
        3.0,
        le=60,
        description="Time that istiod and its Envoys take to apply new resources. A rollout waits "
        "so long after it has added hosts or routes, before the callout decides for them, and "
        "before it removes hosts or routes that nobody uses any more.",
    )
