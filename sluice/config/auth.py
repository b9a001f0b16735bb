"""Authentication: JWT issuers and API keys."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from sluice.config.addresses import split_url
from sluice.config.invalid import check_distinct, invalid
from sluice.config.pattern import Pattern
from sluice.config.values import (
    Confidential,
    Duration,
    FilePath,
    HeaderName,
    Name,
    PositiveDuration,
    Shown,
    Text,
)

Algorithm = Literal[
    "RS256", "RS384", "RS512",
    "PS256", "PS384", "PS512",
    "ES256", "ES384", "ES512",
    "EdDSA",
    "HS256", "HS384", "HS512",
]  # fmt: skip

Claim = Annotated[str, StringConstraints(min_length=1, max_length=256)]
"""Name of a claim, see `sluice.config.claims`."""
ClaimValue = Annotated[str, StringConstraints(max_length=1024)]


def _check_key_set_url(value: str) -> str:
    url = split_url(value)
    if url is None or url.scheme not in ("http", "https") or not value.isascii():
        raise ValueError("write a URL such as https://login.example.com/jwks.json")
    if url.username is not None or url.password is not None:
        raise ValueError("remove the credentials from the URL; a key set is public")
    return value


KeySetUrl = Annotated[
    Text,
    AfterValidator(_check_key_set_url),
    Field(examples=["https://login.example.com/jwks.json"]),
]


class JwtIssuer(Confidential):
    """An issuer of JSON Web Tokens.

    Set exactly one of `jwks`, `jwks_file` and `jwks_uri`: the keys that verify the tokens.
    """

    issuer: Annotated[Text, Shown()] = Field(
        min_length=1,
        max_length=512,
        description="Required value of the token's `iss` claim.",
    )
    audiences: Annotated[tuple[str, ...], Shown()] = Field(
        min_length=1, description="The token's `aud` claim must contain one of these."
    )
    algorithms: tuple[Algorithm, ...] = Field(
        min_length=1,
        description="Accepted signature algorithms: either symmetric (HS*) or asymmetric ones.",
    )
    jwks: str | None = Field(None, description="JSON Web Key Set, as JSON text.")
    jwks_file: Annotated[FilePath | None, Shown()] = Field(
        None,
        description="File with the key set, relative to the config file. The control plane watches "
        "the file.",
    )
    jwks_uri: KeySetUrl | None = Field(
        None,
        description="URL from which each worker fetches the key set, and the control plane for "
        "native routes.",
    )
    jwks_refresh: PositiveDuration = Field(
        300.0, ge=1, description="Interval between fetches of `jwks_uri`."
    )
    jwks_max_stale: PositiveDuration = Field(
        86_400.0,
        description="Time without a successful fetch of `jwks_uri` after which the key set that "
        "was fetched last is no longer used: workers refuse the issuer's tokens.",
    )
    leeway: Duration = Field(
        30.0,
        le=600,
        description="Tolerated clock difference for `exp` and `nbf`. With "
        "less than 2 s, no token of the issuer is verified by Envoy alone (`placement`).",
    )
    subject_claim: Annotated[Claim, Shown()] = Field(
        "sub", description="Claim with the caller's subject; must be text."
    )
    group_claim: Annotated[Claim, Shown()] = Field(
        "group",
        description="Claim with the caller's groups: one value or a list, such as `groups` or "
        "`realm_access.roles`.",
    )

    @model_validator(mode="after")
    def _one_key_source(self) -> Self:
        if sum(source is not None for source in (self.jwks, self.jwks_file, self.jwks_uri)) != 1:
            raise ValueError("set exactly one of jwks, jwks_file and jwks_uri")
        return self

    @model_validator(mode="after")
    def _fetches_before_keys_expire(self) -> Self:
        if self.jwks_max_stale < self.jwks_refresh:
            raise invalid("write a duration of at least jwks_refresh", ("jwks_max_stale",))
        return self

    @model_validator(mode="after")
    def _no_algorithm_confusion(self) -> Self:
        symmetric = {algorithm.startswith("HS") for algorithm in self.algorithms}
        if len(symmetric) > 1:
            raise invalid(
                "symmetric (HS*) and asymmetric algorithms are mixed, so a public key could be "
                "used as a shared secret; configure two issuers",
                ("algorithms",),
            )
        return self


class ApiKey(Confidential):
    """An API key, stored as a hash. `sluice key` creates a key and prints this entry."""

    name: Annotated[Name, Shown()] = Field(description="Subject of requests with this key.")
    sha256: Annotated[
        str, Pattern(r"[0-9a-f]{64}", "write the 64 lower-case hex digits that `sluice key` prints")
    ] = Field(description="SHA-256 hash of the key, in lower-case hex.")
    groups: Annotated[tuple[ClaimValue, ...], Shown()] = Field(
        (), description="Groups of requests with this key."
    )
    claims: dict[Claim, ClaimValue] = Field(
        default_factory=dict, description="Claims of requests with this key."
    )


class Auth(Confidential):
    """Authentication of requests. Without issuers and API keys, only public models can be used."""

    issuers: tuple[JwtIssuer, ...] = Field((), max_length=100)
    api_keys: tuple[ApiKey, ...] = Field((), max_length=100_000)
    api_key_header: Annotated[HeaderName, Shown()] = Field(
        "x-api-key", description="Request header that carries an API key."
    )
    token_cache_entries: int = Field(
        10_000,
        ge=0,
        le=1_000_000,
        description="Verified tokens that each worker caches until they expire.",
    )
    forward_credentials: bool = Field(
        False,
        description="Whether Envoy forwards the client's token or API key to the model server.",
    )

    @property
    def accepts_credentials(self) -> bool:
        """Whether a caller can have credentials: without issuers and API keys, it cannot."""
        return bool(self.issuers or self.api_keys)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        check_distinct(
            ((("issuers", n, "issuer"), each.issuer) for n, each in enumerate(self.issuers)),
            "two issuers have the same issuer",
        )
        for field in ("name", "sha256"):
            check_distinct(
                (
                    (("api_keys", n, field), getattr(key, field))
                    for n, key in enumerate(self.api_keys)
                ),
                f"two API keys have the same {field}",
            )
        if self.api_key_header == "authorization":
            raise invalid("write another header: authorization carries JWTs", ("api_key_header",))
        return self
