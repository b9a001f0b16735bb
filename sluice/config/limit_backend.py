"""The backend that stores the budgets of limits: memory or Redis, and leases of tokens from it."""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from sluice.config.values import PositiveDuration, Strict


def _check_redis_url(value: str) -> str:
    url = urlsplit(value)
    if url.scheme not in ("redis", "rediss") or not url.hostname:
        raise ValueError("write redis://HOST:PORT/DB, or rediss:// for TLS")
    if url.username is not None or url.password is not None:
        raise ValueError("keep credentials out of the URL: use username and password_env")
    return value


RedisUrl = Annotated[
    str, AfterValidator(_check_redis_url), Field(examples=["redis://127.0.0.1:6379/0"])
]


class Leases(Strict):
    """How tokens are fetched ahead of need, so that a request waits on no round trip."""

    ahead: PositiveDuration = Field(
        0.1, le=10, description="Demand for this long is held by each worker."
    )
    interval: PositiveDuration = Field(
        0.01, le=1, description="How long a worker lets a limit that is used up rest."
    )
    lifetime: PositiveDuration = Field(
        2.0, le=60, description="Tokens a worker has not used by then are lost with it."
    )


class LimitBackend(Strict):
    """Where budgets are kept. `memory` is exact for one callout service, Redis for many."""

    kind: Literal["memory", "redis"] = "memory"
    mode: Literal["single", "sentinel", "cluster"] = "single"
    urls: tuple[RedisUrl, ...] = Field(
        (), max_length=32, description="One server, or the sentinels, or some of the cluster."
    )
    sentinel_service: str | None = Field(None, min_length=1, description="The master's name.")
    username: str | None = None
    password_env: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Environment variable of the workers that holds the password.",
    )
    prefix: str = Field("sluice", pattern=r"^[A-Za-z0-9._-]{1,64}$", description="Of Redis keys.")
    timeout: PositiveDuration = Field(
        0.05, le=5, description="The longest a request waits for the backend."
    )
    fail: Literal["open", "closed"] = Field(
        "open",
        description="Without the backend: enforce `fail_open_share` locally, or refuse.",
    )
    fail_open_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Part of each limit that one worker admits by itself while the backend is "
        "away; 1 / workers keeps the total.",
    )
    max_keys: int = Field(
        100_000, ge=2000, le=10_000_000, description="Budgets kept in one process's memory."
    )
    leases: Leases = Leases()

    @model_validator(mode="after")
    def _redis_is_whole(self) -> Self:
        if self.kind == "redis" and not self.urls:
            raise ValueError("name the Redis servers in urls")
        if self.kind == "memory" and self.urls:
            raise ValueError("urls are for kind: redis")
        if self.mode == "single" and len(self.urls) > 1:
            raise ValueError("mode: single has one url")
        if (self.mode == "sentinel") != (self.sentinel_service is not None):
            raise ValueError("sentinel_service goes with mode: sentinel")
        if self.mode == "cluster" and any(urlsplit(u).path.strip("/0") for u in self.urls):
            raise ValueError("a Redis cluster has only database 0")
        if self.leases.interval >= self.leases.lifetime:
            raise ValueError("leases.interval must be below leases.lifetime")
        return self
