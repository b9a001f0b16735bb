"""Every token that a real Envoy accepts with the keys that it gets, the callout accepts too."""

import base64
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

from extproc.auth.errors import CredentialsError
from extproc.auth.tokens import TokenVerifier
from sluice.config import JwtIssuer
from sluice.config.placement import NATIVE_ALGORITHMS
from sluice.keys.key_set import MAX_CANDIDATES, KeySet
from sluice.keys.signing import PrivateKey, public_members
from tests import plain_http
from tests.integration.gateway import AUDIENCE
from tests.integration.token_envoy import TokenEnvoy, token_envoy, tokens_config
from tests.tokens import encoded, key_set, signed
from xds.resources.key_sets import TOKEN_PATTERN, envoy_key_set

LIFETIME = 24 * 3600
"""Seconds: pytest makes the tokens when it collects the tests, long before it runs them."""

LEEWAY = 30
RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
LAST = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

PLAIN = rsa.generate_private_key(65537, 2048)
EXPONENT_3 = rsa.generate_private_key(3, 2048)
LARGE = rsa.generate_private_key(65537, 4096)
SMALL = rsa.generate_private_key(65537, 1024)
OTHER = rsa.generate_private_key(65537, 2048)
EDWARDS = ed25519.Ed25519PrivateKey.generate()
P256, P384 = map(ec.generate_private_key, (ec.SECP256R1(), ec.SECP384R1()))
SECRET = b"a secret of more than thirty-two bytes"


def jwk(key: PrivateKey, **members: object) -> dict[str, object]:
    return {**public_members(key.public_key()), **members}


@dataclass(frozen=True)
class Issuer:
    """An issuer; requests with its tokens are sent to its path."""

    name: str
    algorithms: tuple[str, ...]
    jwks: tuple[dict[str, object], ...]

    @property
    def url(self) -> str:
        return f"https://{self.name}.test"

    @property
    def keys(self) -> KeySet:
        return KeySet.parse(key_set(*self.jwks))

    def token(
        self, key: PrivateKey | bytes, algorithm: str, key_id: str | None = None, **claims: object
    ) -> str:
        expires = int(time.time()) + LIFETIME
        standard = {"iss": self.url, "aud": AUDIENCE, "sub": "alice", "exp": expires}
        return signed({**standard, **claims}, key, algorithm, kid=key_id)

    def accepts(self, token: str) -> bool:
        """Whether the callout accepts the token."""
        settings = {"issuer": self.url, "audiences": [AUDIENCE], "algorithms": self.algorithms}
        issuer = JwtIssuer.model_validate({**settings, "jwks": "{}", "leeway": LEEWAY})
        try:
            TokenVerifier((issuer,), {self.url: self.keys}).verify(token, time.time())
        except CredentialsError:
            return False
        return True


MIXED = Issuer(
    "mixed",
    (*RSA_ALGORITHMS, "ES256", "EdDSA"),
    (
        jwk(PLAIN, kid="plain"),
        jwk(EXPONENT_3, kid="exponent"),
        jwk(LARGE, kid="large", alg="RS512"),
        jwk(OTHER, kid="twice", alg="RS256"),
        jwk(PLAIN, kid="twice", alg="RS256"),
        jwk(EDWARDS, kid=""),
        jwk(P256, kid="curve"),
        jwk(SMALL, kid="small"),
        jwk(OTHER, kid="encrypts", use="enc"),
        jwk(OTHER, kid="signs", key_ops=["sign"]),
        jwk(OTHER, kid="private", d="AQAB"),
        jwk(rsa.generate_private_key(65537, 2048), kid="half \ud800"),
        jwk(rsa.generate_private_key(65537, 2048), kid='\0 \r\n \u00e9 % "'),
        jwk(ed448.Ed448PrivateKey.generate(), kid="448"),
        {"kty": "oct", "k": encoded(SECRET), "kid": "secret"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
    ),
)
EDWARDS_ONLY = Issuer(
    "edwards", ("ES384", "EdDSA"), (jwk(P384, kid="curve"), jwk(EDWARDS, kid="edwards"))
)
CURVE = Issuer("curve", ("ES256",), (jwk(P256, kid="curve", alg="ES256"),))
SHARED = Issuer("shared", ("HS256",), ({"kty": "oct", "k": encoded(SECRET), "kid": "secret"},))
CROWDED = Issuer(
    "crowded",
    ("RS256", "PS256"),
    (
        *(jwk(PLAIN, kid=f"rs-{n}", alg="RS256") for n in range(MAX_CANDIDATES + 1)),
        *(jwk(PLAIN, kid=f"ps-{n}", alg="PS256") for n in range(MAX_CANDIDATES)),
    ),
)
"""With too many keys for RS256, so that the callout refuses tokens that do not name one."""
ISSUERS = (MIXED, EDWARDS_ONLY, CURVE, SHARED, CROWDED)


def with_signature(token: str, change: Callable[[bytes], bytes]) -> str:
    head, _, signature = token.rpartition(".")
    return f"{head}.{encoded(change(base64.urlsafe_b64decode(signature + '==')))}"


def padded(signature: bytes) -> bytes:
    """The same two numbers, with a zero byte before each."""
    half = len(signature) // 2
    return b"\0" + signature[:half] + b"\0" + signature[half:]


def with_unused_bits(token: str) -> str:
    return token[:-1] + LAST[LAST.index(token[-1]) ^ 1]


def salted(salt: int) -> str:
    """A token by PS256 with a salt of this length; RFC 7518 section 3.5 demands 32 bytes."""
    signed, _, _ = MIXED.token(PLAIN, "PS256", "plain").rpartition(".")
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), salt)
    return f"{signed}.{encoded(PLAIN.sign(signed.encode(), pss, hashes.SHA256()))}"


def spellings(
    issuer: Issuer, key: PrivateKey, algorithm: str, key_id: str
) -> Iterator[tuple[str, str, bool]]:
    """A token of a key and what else it can be written as: name, token, whether it is native."""
    token = issuer.token(key, algorithm, key_id)
    native = algorithm in NATIVE_ALGORITHMS
    yield "as it is", token, native
    yield "no kid", issuer.token(key, algorithm), native
    yield "empty kid", issuer.token(key, algorithm, ""), native
    yield "unknown kid", issuer.token(key, algorithm, "unknown"), False
    yield "padded", token + "==", False
    yield "zeros before the numbers", with_signature(token, padded), False
    yield "zero after the signature", with_signature(token, lambda each: each + b"\0"), False
    yield "cut signature", with_signature(token, lambda each: each[:-1]), False
    yield "no signature", token[: token.rindex(".") + 1], False
    if algorithm != "ES384":  # its signatures have no unused bits
        yield "unused bits", with_unused_bits(token), False


def named_tokens() -> Iterator[tuple[str, Issuer, str, bool]]:
    keys: list[tuple[Issuer, PrivateKey, str, str]] = [
        *((MIXED, PLAIN, algorithm, "plain") for algorithm in RSA_ALGORITHMS),
        (MIXED, P256, "ES256", "curve"),
        (CURVE, P256, "ES256", "curve"),
        (EDWARDS_ONLY, EDWARDS, "EdDSA", "edwards"),
        (EDWARDS_ONLY, P384, "ES384", "curve"),
    ]
    for issuer, key, algorithm, key_id in keys:
        for name, token, native in spellings(issuer, key, algorithm, key_id):
            yield f"{issuer.name} {algorithm} {name}", issuer, token, native
    mixed: list[tuple[str, PrivateKey | bytes, str, str, bool]] = [
        ("exponent 3", EXPONENT_3, "PS256", "exponent", True),
        ("a key for another algorithm", LARGE, "RS256", "large", False),
        ("a key of 4096 bits", LARGE, "RS512", "large", True),
        ("the first of two keys with one kid", OTHER, "RS256", "twice", True),
        ("the second of two keys with one kid", PLAIN, "RS256", "twice", True),
        ("the kid of another key", PLAIN, "RS384", "exponent", False),
        ("a key with an empty kid", EDWARDS, "EdDSA", "any", True),
        ("a weak key", SMALL, "RS256", "small", False),
        ("a key for encryption", OTHER, "RS256", "encrypts", False),
        ("a key that only signs", OTHER, "RS256", "signs", False),
        ("a key whose private half is published", OTHER, "RS256", "private", False),
        ("a public key as a secret", b"AQAB", "HS256", "plain", False),
        ("a shared secret", SECRET, "HS256", "secret", False),
    ]
    for name, key, algorithm, key_id, native in mixed:
        yield name, MIXED, MIXED.token(key, algorithm, key_id), native
    for length in (0, 20, 32, 64):
        yield f"a salt of {length} bytes", MIXED, salted(length), length == 32
    yield "another issuer's key", EDWARDS_ONLY, EDWARDS_ONLY.token(PLAIN, "RS256"), False
    yield "a secret that Envoy must not get", SHARED, SHARED.token(SECRET, "HS256", "secret"), False
    yield "one of too many keys", CROWDED, CROWDED.token(PLAIN, "RS256", "rs-1"), False
    yield "one of many keys", CROWDED, CROWDED.token(PLAIN, "PS256", "ps-1"), True


TOKENS = {name: each for name, *each in named_tokens()}


@pytest.fixture(scope="module")
def envoy() -> Iterator[TokenEnvoy]:
    with token_envoy(TOKEN_PATTERN) as running:
        key_sets = {each.url: envoy_key_set(each.keys, each.algorithms) for each in ISSUERS}
        usable = {url: keys for url, keys in key_sets.items() if keys is not None}
        assert usable.keys() == {MIXED.url, EDWARDS_ONLY.url, CROWDED.url}
        running.publish(tokens_config(usable, AUDIENCE, LEEWAY))
        yield running


@pytest.fixture(scope="module")
def client(envoy: TokenEnvoy) -> Iterator[httpx.Client]:
    with plain_http.client(base_url=envoy.url) as client:
        yield client


@pytest.mark.parametrize("name", TOKENS)
def test_the_callout_accepts_every_token_that_envoy_accepts(
    name: str, envoy: TokenEnvoy, client: httpx.Client
) -> None:
    issuer, token, native = TOKENS[name]
    answer = envoy.answer(token, client)
    assert answer == ("native alice" if native else "callout")
    if native:
        assert issuer.accepts(token)


def test_envoy_reads_every_key_set_without_a_warning(envoy: TokenEnvoy) -> None:
    log = envoy.log.read_text()
    assert "Invalid inline jwks" not in log
    # No callout runs here, which could serve the runtime layer, and no service for load reports.
    absent = ("runtime", "streamloadstats")
    warnings = [line for line in log.splitlines() if "][warning]" in line]
    assert not [line for line in warnings if not any(each in line.lower() for each in absent)]


def test_the_config_dump_shows_no_secret(envoy: TokenEnvoy) -> None:
    dump = plain_http.get(f"{envoy.admin}/config_dump").text
    assert "local_jwks" in dump
    assert encoded(SECRET) not in dump
