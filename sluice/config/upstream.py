"""What a version's endpoints demand of Envoy: TLS, and headers with credentials.

`secrets` reads the files and variables that these sections name.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from sluice.config.addresses import split_host_port
from sluice.config.invalid import invalid
from sluice.config.pattern import Pattern, wrong_format
from sluice.config.values import Confidential, FilePath, HeaderName, HostName, Outside, Shown

MAX_SECRET_HEADERS: Final = 8
"""Headers of one version. Each is a filter that every request of the version passes."""

_GATEWAYS: Final = frozenset(
    {"connection", "content-length", "content-type", "host", "keep-alive", "proxy-connection"}
    | {"te", "traceparent", "trailer", "transfer-encoding", "upgrade", "x-request-id"}
)
_GATEWAYS_PREFIXES: Final = ("grpc-", "x-envoy-", "x-forwarded-", "x-model-", "x-sluice-")
"""Headers that Envoy or the callout sets for the model server. The log has some of them."""


class UpstreamTls(Confidential):
    """TLS to the endpoints of a version. The control plane reads the files for Envoy.

    A file with new content takes effect for new connections, without a restart.
    """

    ca: Annotated[FilePath | None, Shown()] = Field(
        None,
        description="File with the CA certificates that may have signed those of the endpoints, in "
        "PEM. Default: the CAs that the control plane's system trusts (`SSL_CERT_FILE`).",
    )
    server_name: Annotated[HostName | None, Shown()] = Field(
        None,
        description="Name that an endpoint's certificate must have, and that Envoy asks for (SNI). "
        "Default: the host of the endpoints, which must then be the same for all.",
    )
    certificate: Annotated[FilePath | None, Shown()] = Field(
        None, description="File with the certificate chain of the gateway as a client, in PEM."
    )
    private_key: FilePath | None = Field(
        None, description="File with the private key of `certificate`, in PEM."
    )
    allow_any_server: bool = Field(
        False,
        description="Whether Envoy accepts every certificate. Then an attacker who intercepts "
        "the connections can read and change the requests.",
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("set both certificate and private_key, or neither")
        if self.allow_any_server and self.ca is not None:
            message = "remove ca, which is not used, or set allow_any_server: false"
            raise invalid(message, ("ca",))
        return self


class SecretValue(Confidential):
    """The value of a secret. Set exactly one of `file` and `env`."""

    file: FilePath | None = Field(
        None, description="File with the value in one line. New content takes effect at once."
    )
    env: (
        Annotated[
            str,
            Outside.VARIABLE,
            Pattern(r"[A-Za-z_][A-Za-z0-9_]{0,255}", "write the name of an environment variable"),
        ]
        | None
    ) = Field(None, description="Environment variable of the control plane with the value.")
    prefix: Annotated[str, Pattern(r"[ -~]{0,64}", "write at most 64 characters of ASCII")] = Field(
        "", description="Text before the value, such as `Bearer ` with the blank."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.file is None) == (self.env is None):
            raise ValueError("set exactly one of file and env")
        return self


def _check_spellings(value: object) -> object:
    """Two spellings of a name would be one header."""
    if isinstance(value, Mapping):
        names = [str(name).lower() for name in value]
        if len(set(names)) < len(names):
            raise wrong_format("write each header once: capital letters make no difference")
    return value


def _check_header(name: str) -> str:
    if name in _GATEWAYS or name.startswith(_GATEWAYS_PREFIXES):
        raise ValueError("the gateway sets this header itself: write another one")
    return name


SecretHeaders = Annotated[
    dict[Annotated[HeaderName, AfterValidator(_check_header)], SecretValue],
    BeforeValidator(_check_spellings),
]
"""Headers with secrets, by name."""


def common_host(addresses: Iterable[str]) -> str | None:
    """The host of all these addresses; None if there are several or none."""
    hosts = {split_host_port(address)[0].lower() for address in addresses}
    return hosts.pop() if len(hosts) == 1 else None
