"""Who may call: JWT issuers and API keys."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from sluice.config.values import Duration, HeaderName, Name, PositiveDuration, Strict

Algorithm = Literal[
    "RS256", "RS384", "RS512",
    "PS256", "PS384", "PS512",
    "ES256", "ES384", "ES512",
    "EdDSA",
    "HS256", "HS384", "HS512",
]  # fmt: skip

Claim = Annotated[str, StringConstraints(min_length=1, max_length=256)]
ClaimValue = Annotated[str, StringConstraints(max_length=1024)]


class JwtIssuer(Strict):
    """Tokens of one issuer, verified with keys from exactly one of three places."""

    issuer: str = Field(min_length=1, description="What the token's `iss` claim must equal.")
    audiences: tuple[str, ...] = Field(
        min_length=1, description="The token's `aud` claim must name one of these."
    )
    algorithms: tuple[Algorithm, ...] = Field(
        min_length=1,
        description="Signature algorithms accepted. Symmetric (HS*) and asymmetric ones never mix.",
    )
    jwks: str | None = Field(None, description="The JSON Web Key Set itself, as JSON text.")
    jwks_file: str | None = Field(
        None, description="A file with the key set, relative to the config; watched for changes."
    )
    jwks_uri: str | None = Field(
        None, pattern=r"^https?://", description="Where the workers fetch the key set."
    )
    jwks_refresh: PositiveDuration = Field(300.0, description="How often `jwks_uri` is fetched.")
    leeway: Duration = Field(30.0, le=600, description="Clock difference tolerated in exp and nbf.")
    subject_claim: Claim = "sub"
    group_claim: Claim = Field(
        "group", description="Claim with the caller's group: a string or a list of strings."
    )

    @model_validator(mode="after")
    def _one_key_source(self) -> Self:
        if sum(source is not None for source in (self.jwks, self.jwks_file, self.jwks_uri)) != 1:
            raise ValueError("name exactly one of jwks, jwks_file and jwks_uri")
        return self

    @model_validator(mode="after")
    def _no_algorithm_confusion(self) -> Self:
        symmetric = {algorithm.startswith("HS") for algorithm in self.algorithms}
        if len(symmetric) > 1:
            raise ValueError(
                "algorithms mixes symmetric (HS*) with asymmetric ones: a public key could then "
                "pass as a shared secret; configure two issuers"
            )
        return self


class ApiKey(Strict):
    """One API key, stored as its hash: `sluice key` mints a key and prints this entry."""

    name: Name = Field(description="The subject that a request with this key has.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the key, in hex.")
    groups: tuple[ClaimValue, ...] = ()
    claims: dict[Claim, ClaimValue] = Field(default_factory=dict)


class Auth(Strict):
    """How requests are authenticated. With neither issuers nor keys, only public models answer."""

    issuers: tuple[JwtIssuer, ...] = ()
    api_keys: tuple[ApiKey, ...] = ()
    api_key_header: HeaderName = "x-api-key"
    token_cache_entries: int = Field(
        10_000, ge=0, le=1_000_000, description="Verified tokens each worker remembers until exp."
    )
    forward_credentials: bool = Field(
        False, description="Whether the model server sees the client's token or API key."
    )

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        issuers = [issuer.issuer for issuer in self.issuers]
        if len(set(issuers)) < len(issuers):
            raise ValueError("two issuers have the same `issuer`")
        for field in ("name", "sha256"):
            values = [getattr(key, field) for key in self.api_keys]
            if len(set(values)) < len(values):
                raise ValueError(f"two api_keys have the same {field}")
        if self.api_key_header == "authorization":
            raise ValueError("api_key_header cannot be authorization, which carries JWTs")
        return self
