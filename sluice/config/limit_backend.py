"""The backend that stores the budgets of limits, and the leases that workers take from it."""

import re
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from sluice.config.addresses import split_url
from sluice.config.files import UnusableFileError, read_named_file
from sluice.config.invalid import invalid
from sluice.config.pattern import Pattern
from sluice.config.values import (
    AbsolutePath,
    Confidential,
    Outside,
    PositiveDuration,
    Shown,
    Text,
)

MAX_PASSWORD: Final = 1024
"""Bytes of a password in a file."""


def check_redis_url(value: str) -> str:
    """Returns the URL of a Redis server. Raises ValueError with a remedy."""
    url = split_url(value)
    if url is None or url.scheme not in ("redis", "rediss") or url.query or url.fragment:
        raise ValueError("write redis://HOST:PORT/DB, or rediss://HOST:PORT/DB for TLS")
    if url.username is not None or url.password is not None:
        raise ValueError("remove the credentials from the URL; set username and password_env")
    if not _DATABASE.fullmatch(url.path):
        raise ValueError("write the number of the database after the port, such as /0")
    return value


_DATABASE = re.compile(r"(?:/[0-9]{0,5})?")

RedisUrl = Annotated[
    Text, AfterValidator(check_redis_url), Field(examples=["redis://127.0.0.1:6379/0"])
]

VariableName = Annotated[
    str,
    Outside.VARIABLE,
    Pattern(
        r"[A-Za-z_][A-Za-z0-9_]*",
        "write the name of an environment variable, such as REDIS_PASSWORD, not its value",
    ),
]


class Leases(Confidential):
    """Tokens that a worker takes from the backend in advance, so that requests need not wait."""

    ahead: PositiveDuration = Field(
        0.1,
        le=10,
        description="Time for which the tokens of a lease last, at the current rate of requests.",
    )
    interval: PositiveDuration = Field(
        0.01,
        le=1,
        description="Minimum time between two requests to the backend for an exhausted limit.",
    )
    lifetime: PositiveDuration = Field(
        2.0, le=60, description="Time after which unused tokens of a lease are lost."
    )


class BackendTls(Confidential):
    """TLS of the connections to Redis. The callout reads the files, also when they change."""

    ca: Annotated[AbsolutePath | None, Shown()] = Field(
        None,
        description="File with the CA certificates that verify the servers, in PEM; default: those "
        "of the system.",
    )
    certificate: Annotated[AbsolutePath | None, Shown()] = Field(
        None, description="File with the certificate chain of the callout, in PEM."
    )
    private_key: AbsolutePath | None = Field(None, description="File with the private key, in PEM.")

    @model_validator(mode="after")
    def _key_of_certificate(self) -> Self:
        if (self.certificate is None) != (self.private_key is None):
            missing = "private_key" if self.private_key is None else "certificate"
            raise invalid("a certificate needs its private key: set both", (missing,))
        return self


class LimitBackend(Confidential):
    """The store of budgets.

    `memory`: each callout service has its own budgets. `redis`: all callout services share budgets.
    """

    kind: Literal["memory", "redis"] = "memory"
    mode: Literal["single", "sentinel", "cluster"] = Field(
        "single", description="How the Redis servers are deployed."
    )
    urls: tuple[RedisUrl, ...] = Field(
        (),
        max_length=32,
        description="URL of the server, or URLs of sentinels or of cluster nodes.",
    )
    sentinel_service: Text | None = Field(
        None, min_length=1, description="Name of the master that the sentinels monitor."
    )
    username: Text | None = Field(None, description="Redis user.")
    password_env: VariableName | None = Field(
        None,
        description="Environment variable of the callout that holds the password.",
    )
    password_file: AbsolutePath | None = Field(
        None,
        description="File of the callout with the password, in place of `password_env`. New "
        "content takes effect at once.",
    )
    tls: BackendTls | None = Field(None, description="Certificates for `rediss` URLs.")
    prefix: Annotated[
        str,
        Pattern(r"[A-Za-z0-9._-]{1,64}", "write 1 to 64 letters, digits and . _ -"),
    ] = Field("sluice", description="Prefix of Redis keys.")
    timeout: PositiveDuration = Field(
        0.05,
        le=5,
        description="Maximum time of an exchange with the backend, for which a request may wait.",
    )
    fail: Literal["open", "closed"] = Field(
        "open",
        description="While the backend does not respond: `open` enforces `fail_open_share` of "
        "each limit in each worker; `closed` refuses requests.",
    )
    fail_open_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of each limit that one worker admits while the backend does not "
        "respond. With 1 / number of workers, the workers together admit the whole limit.",
    )
    max_keys: int = Field(
        100_000,
        ge=2000,
        le=10_000_000,
        description="Maximum number of budgets in the memory of one process.",
    )
    leases: Leases = Leases()

    @property
    def uses_tls(self) -> bool:
        """Whether the connections have TLS."""
        return bool(self.urls) and self.urls[0].startswith("rediss:")

    @model_validator(mode="after")
    def _redis_is_complete(self) -> Self:
        if self.kind == "redis" and not self.urls:
            raise invalid("set urls to the Redis servers", ("urls",))
        if self.tls is not None and not self.uses_tls:
            raise invalid("write URLs that begin with rediss, or remove tls", ("tls",))
        if self.password_env is not None and self.password_file is not None:
            raise invalid("set password_env or password_file, not both", ("password_file",))
        if self.kind == "memory" and self.urls:
            raise invalid("remove the URLs, or set kind: redis", ("urls",))
        if self.mode == "single" and len(self.urls) > 1:
            raise invalid("write one URL with mode: single", ("urls",))
        if (self.mode == "sentinel") != (self.sentinel_service is not None):
            message = "set sentinel_service with mode: sentinel, and only then"
            raise invalid(message, ("sentinel_service",))
        if self.mode == "cluster" and any(urlsplit(u).path.strip("/0") for u in self.urls):
            message = "a Redis cluster has only database 0: remove the database from the URLs"
            raise invalid(message, ("urls",))
        if self.leases.interval >= self.leases.lifetime:
            raise invalid("write a duration below leases.lifetime", ("leases", "interval"))
        return self


def read_password(file: Path) -> str:
    """The password in a file. Raises UnusableFileError, which does not show it."""
    password = read_named_file(file, MAX_PASSWORD).decode(errors="replace").strip()
    if not password or not password.isprintable():
        raise UnusableFileError(
            f"the password must be one line of 1 to {MAX_PASSWORD} bytes of printable text"
        )
    return password
