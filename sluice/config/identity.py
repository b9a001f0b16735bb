"""How the parts of a gateway identify themselves to each other: certificates or tokens."""

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import Field, model_validator

from sluice.config.errors import KeyPath
from sluice.config.invalid import check_distinct, invalid
from sluice.config.pattern import Pattern
from sluice.config.values import Confidential, FilePath, Outside, Shown, Strict

PeerName = Annotated[
    str,
    Pattern(
        r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,252}",
        "write a name as in the certificate: a DNS name, or a URI such as spiffe://example.com/a",
    ),
]
"""A name in a certificate: a DNS name or a URI of its alternative names, else its common name."""

CONTROL_PLANE, CALLOUT, ENVOY = "sluice-control-plane", "sluice-callout", "sluice-envoy"
VIDEO = "sluice-video"
"""The names in certificates of `sluice certs`."""


class ControlPlaneIdentity(Confidential):
    """The certificate of the control plane, for the xDS server and the admin HTTP server."""

    certificate: Annotated[FilePath, Shown()] = Field(
        description="File with the certificate chain, in PEM."
    )
    private_key: FilePath = Field(description="File with the private key, in PEM.")
    name: Annotated[PeerName, Shown()] = Field(
        CONTROL_PLANE, description="Name in the certificate, which clients of xDS expect."
    )


class _Client(Confidential):
    """A client of xDS: it has a certificate, or a token."""

    certificate: Annotated[FilePath | None, Shown()] = Field(
        None, description="File with the certificate chain, in PEM."
    )
    private_key: FilePath | None = Field(None, description="File with the private key, in PEM.")
    token_file: FilePath | None = Field(
        None,
        description="File with a token for xDS, instead of a certificate: one line of 16 to 1024 "
        "bytes. The control plane reads the same file.",
    )

    @model_validator(mode="after")
    def _one_credential(self) -> Self:
        if (self.certificate is None) != (self.private_key is None):
            missing = "private_key" if self.private_key is None else "certificate"
            raise invalid("a certificate needs its private key: set both", (missing,))
        if (self.certificate is None) == (self.token_file is None):
            raise ValueError("set either certificate and private_key, or token_file")
        return self


class CalloutIdentity(_Client):
    """The certificate of the callout: as a client of xDS, and as a server of Envoy and metrics."""

    name: Annotated[PeerName, Shown()] = Field(CALLOUT, description="Name in the certificate.")


class EnvoyIdentity(_Client):
    """The certificate of Envoy, as a client of xDS and of the callout. Envoy reads the files."""

    name: Annotated[PeerName, Shown()] = Field(ENVOY, description="Name in the certificate.")
    sds_folder: Annotated[FilePath, Shown(), Outside.OUTPUT] = Field(
        "envoy-sds",
        description="Folder into which `sluice envoy` and others write the files by which Envoy "
        "finds and watches its certificate or token (SDS).",
    )


class VideoIdentity(_Client):
    """The certificate of the video service: as a client of xDS, and as a server of Envoy."""

    name: Annotated[PeerName, Shown()] = Field(VIDEO, description="Name in the certificate.")


class Identity(Strict):
    """Identity of the parts of the gateway: with it, they accept only each other.

    Either with certificates (mutual TLS; `sluice certs` makes them), or with tokens for xDS. New
    content of the files counts for new connections; other changes take effect at the next start.
    """

    ca: FilePath | None = Field(
        None,
        description="File with the certificates of the authority that has signed those of all "
        "parts, in PEM.",
    )
    control_plane: ControlPlaneIdentity | None = Field(
        None, description="With it, xDS and the admin HTTP server speak only TLS."
    )
    callout: CalloutIdentity
    envoy: EnvoyIdentity
    video: VideoIdentity | None = Field(None, description="Needed with `video`.")

    @property
    def clients(self) -> Mapping[str, CalloutIdentity | EnvoyIdentity | VideoIdentity]:
        """The clients of xDS, by their keys."""
        video = {} if self.video is None else {"video": self.video}
        return {"callout": self.callout, "envoy": self.envoy, **video}

    @property
    def mutual(self) -> bool:
        """Whether the parts have certificates. Else the clients of xDS have tokens."""
        return self.envoy.certificate is not None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for key, client in self.clients.items():
            if (client.certificate is None) is self.mutual:
                missing = "a certificate" if self.mutual else "a token"
                message = "all clients must have certificates, or all must have tokens"
                raise invalid(f"{message}: {key} needs {missing}", (key,))
        if self.mutual and self.control_plane is None:
            raise invalid("certificates of clients need one of the server", ("control_plane",))
        if (self.ca is None) != (self.control_plane is None):
            raise invalid("a certificate of control_plane needs a ca, and a ca needs it", ("ca",))
        return self

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        clients = self.clients.items()
        names: list[tuple[KeyPath, str]] = [((key, "name"), each.name) for key, each in clients]
        if self.control_plane is not None:
            names.append((("control_plane", "name"), self.control_plane.name))
        check_distinct(names, "two parts have the same name in their certificates")
        files = [
            ((key, "token_file"), each.token_file)
            for key, each in clients
            if each.token_file is not None
        ]
        message = "each part needs a token of its own: no other part may read what it gets"
        check_distinct(files, message)
        return self
