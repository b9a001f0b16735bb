"""TLS of a listener for clients."""

from typing import Annotated

from pydantic import Field

from sluice.config.values import Confidential, FilePath, Shown


class ListenerTls(Confidential):
    """TLS for clients. Envoy reads the files; paths are relative to the config file."""

    certificate: Annotated[FilePath, Shown()] = Field(
        description="File with the certificate chain, in PEM."
    )
    private_key: FilePath = Field(description="File with the private key, in PEM.")
    client_ca: Annotated[FilePath | None, Shown()] = Field(
        None,
        description="File with CA certificates. Clients must present a certificate that one of "
        "these CAs has signed.",
    )
