"""Edits of the token: its place, its header, its claims and its signature."""

import base64
import json
import random
from collections.abc import Sequence
from dataclasses import replace

from tests.integration.equality import policies
from tests.integration.equality.population import Population, random_value, set_claim
from tests.integration.equality.request import Request
from tests.integration.equality.tokens import Credential, SigningKey, base64url, signing_key


def authorization(rng: random.Random, request: Request, population: Population) -> Request | None:
    """Another spelling of the header, or the token in another place."""
    if not request.values(b"authorization"):
        token = population.credential().token()
        return request.adding((b"authorization", rng.choice((b"", b"Bearer", b"Bearer " + token))))
    value = request.values(b"authorization")[0]
    token = value.partition(b" ")[2]
    match rng.randrange(8):
        case 0:
            query = rng.choice((b"?access_token=", b"?token=", b"?a=b&access_token="))
            moved = request.with_header(b"authorization", None)
            return replace(moved, path=request.path.partition(b"?")[0] + query + token)
        case 1:
            moved = request.with_header(b"authorization", None)
            name = rng.choice((b"cookie", b"x-authorization", b"proxy-authorization", b"x-jwt"))
            text = b"access_token=" + token if name == b"cookie" else value
            return moved.with_header(name, text)
        case _:
            return request.with_header(b"authorization", rng.choice(spellings(value)))


def spellings(value: bytes) -> tuple[bytes, ...]:
    """Values of `authorization` that are almost a token in its only spelling."""
    token = value.partition(b" ")[2]
    return (
        b"bearer " + token, b"BEARER " + token, b"Bearer  " + token, b"Bearer\t" + token, token,
        b"Bearer " + token + b" ", b"Bearer " + token + b"x", b"Bearer " + token[:-1], b"Bearer",
        b"Bearer " + token + b"," + value, value + b", Basic YTpi", b"Basic YTpi, " + value, b"",
        b"Bearer " + token + b"=", b"Bearer " + token.replace(b".", b"..", 1), b"Bearer ." + token,
        b"Bearer " + token.rpartition(b".")[0] + b".", b"Bearer " + token.rpartition(b".")[0],
        b"Bearer " + token + b".x", b"Bearer:" + token, b"Bearer " + token.replace(b"_", b"/"),
        b"Bearer " + token + b"\xc3\xa9", b"Bearer,Bearer " + token, b"Bearer Bearer " + token,
        b'Bearer "' + token + b'"', b"Token " + token, b"Bearer%20" + token,
        _other_signature(token),
    )  # fmt: skip


def _other_signature(token: bytes) -> bytes:
    signed, _, signature = token.rpartition(b".")
    changed = b"B" if signature[:1] != b"B" else b"C"
    return b"Bearer " + signed + b"." + changed + signature[1:]


def claim(rng: random.Random, request: Request, population: Population) -> Request | None:
    """One claim of the token is missing, has another value or another type."""
    credential = request.credential
    if credential is None:
        return None
    name = rng.choice(
        (*credential.claims, *policies.CLAIMS, "group", "groups", "nbf", "iat", "uid")
    )
    return request.with_credential(_with_claim(rng, credential, name, population))


def _with_claim(
    rng: random.Random, credential: Credential, name: str, population: Population
) -> Credential:
    if rng.random() < 0.15:
        return credential.with_claims(**{name: None})
    issuers = [issuer.name for issuer in population.world.issuers]
    values = registered_values(name, population.now, issuers) or _other_values(rng)
    value = rng.choice(values)
    if name in policies.CLAIMS and "." in name and not name.startswith("https:"):
        outer = name.partition(".")[0]
        claims = {key: each for key, each in credential.claims.items() if key != outer}
        set_claim(claims, name, value)
        if rng.random() < 0.2:
            claims[name] = random_value(rng)
        return replace(credential, claims=claims)
    return replace(credential, claims={**credential.claims, name: value})


def registered_values(name: str, now: int, issuers: Sequence[str]) -> tuple[object, ...]:
    """Values of a claim that every token has (RFC 7519 section 4.1); none for another claim."""
    match name:
        case "iss":
            return (*issuers, "https://one.test//", "https://two.test", 3, [issuers[0]], "", {})
        case "aud":
            return (
                "api", "https://api.test", "https://api.test/", "http://api.test", "api.test",
                "api/",
                ["api"], [], "other", ["other"], "API", 3, [3], {"api": 1}, "", "api ", ["x",
                "api"],
                "https://api.test?x", "https://api/", True, ["https://api.test/", 3], "https://api",
            )  # fmt: skip
        case "exp" | "nbf" | "iat":
            return (
                now - 7200, now + 7200, now - 7200.5, now + 7200.5, str(now + 7200), 0, -1, True,
                [],
                2**31, 2**53, 2**63, 2**64, 2**70, 1e308, float("inf"), float("nan"), {}, "", 1e11,
                now + 100, now - 100, -(2**63), 9_223_372_036, 1e19,
            )  # fmt: skip
        case "sub" | "uid":
            return (
                "", " ", 3, ["alice"], "a\rb", "a\nb", "a\0b", "é", "%", "%41", "x" * 2000, {},
                True,
                "\ud800", "\u2028", "alice ", " alice", "a,b", "\x7f", "😀", "bob", 1.5, "a\\b",
                'a"b',
            )  # fmt: skip
    return ()


def _other_values(rng: random.Random) -> tuple[object, ...]:
    text = rng.choice((*policies.TIERS, *policies.GROUPS))
    return (random_value(rng), random_value(rng), *values_with(text))


def values_with(text: str) -> tuple[object, ...]:
    """Values of a claim in which there is a text, or almost."""
    return (
        text, [text], [[text]], text + " ", text.upper(),
        {"a": text}, ["x", text], [text, 3], f"{text} other", False, 0, 3.5, "3", [None],
        "",
        "\ud800", [text, "\ud800"], "a\0b", [""], 1e400, "x" * 1000, {"unit": text},
        like_a_list([text]), like_a_list(["x", text]), [["x"], text], ["\\", text],
    )  # fmt: skip


def like_a_list(items: list[str]) -> str:
    """Text in which Envoy's header of a claim is the same as for a list."""
    return base64.b64encode(json.dumps(items, separators=(",", ":")).encode()).decode()


def hidden_value(rng: random.Random, request: Request, _: Population) -> Request | None:
    """A claim in which a value that may be admitted stands deeper, or as a part of other text."""
    credential = request.credential
    names = ("group", "groups", "roles", "tier", "team", "scope")
    found = [name for name in names if credential is not None and credential.claims.get(name)]
    if credential is None or not found:
        return None
    name = rng.choice(found)
    value = credential.claims[name]
    return request.with_credential(
        replace(credential, claims={**credential.claims, name: rng.choice(hidden_values(value))})
    )


def hidden_values(value: object) -> tuple[object, ...]:
    """Values of a claim in which a value stands deeper, or as a part of other text."""
    text = value[-1] if isinstance(value, list) else value
    return (
        [value], [[text]], ["x", [text]], {"x": text}, [{"x": text}], f'x","{text}',
        [f'x","{text}'],
        [f'{text}","x'], f'["{text}"]', ["\\", text], f"x {text} y", [f"x {text} y"],
    )  # fmt: skip


def token_header(rng: random.Random, request: Request, population: Population) -> Request | None:
    """Another header of the token, another key, or a payload that is no object."""
    credential = request.credential
    if credential is None:
        return None
    other = other_key(credential)
    issuers = [issuer.key for issuer in population.world.issuers]
    match rng.randrange(10):
        case 8 | 9:
            return request.with_credential(_critical(rng, credential))
        case 0:
            return request.with_credential(replace(credential, key=other))
        case 1:
            key = replace(other, jwk=credential.key.jwk)
            return request.with_credential(replace(credential, key=key))
        case 2:
            return request.with_credential(replace(credential, key=rng.choice(issuers)))
        case 3:
            return _raw_claims(rng, request, credential)
        case _:
            members = rng.choice(header_members(credential, issuers))
            return request.with_credential(credential.with_header(**members))


def other_key(credential: Credential) -> SigningKey:
    """A key of the same kind that no issuer has."""
    return signing_key(credential.key.algorithm, 9)


def header_members(
    credential: Credential, issuers: Sequence[SigningKey]
) -> tuple[dict[str, object], ...]:
    """Members of a token's header that are missing, of no use or not allowed."""
    # PyJWT refuses b64, and Envoy ignores it. Only the issuer could sign it.
    return (
        {"kid": None}, {"kid": "other"}, {"kid": 3}, {"kid": ""}, {"crit": ["b64"], "b64": False},
        {"crit": []}, {"alg": "none"}, {"alg": None}, {"alg": "HS256"}, {"alg": "RS384"},
        {"alg": "PS256"}, {"alg": "ES384"}, {"typ": None}, {"typ": "at+jwt"}, {"typ": 3},
        {"alg": "rs256"}, {"jku": "https://evil.test"}, {"jwk": dict(other_key(credential).jwk)},
        {"zip": "DEF"},
        {"cty": "JWT"}, {"crit": None}, {"kid": issuers[-1].id}, {"x": "y" * 7000}, {"alg": 3},
    )  # fmt: skip


def _critical(rng: random.Random, credential: Credential) -> Credential:
    """A token with `crit`, at any place of a group of three bytes, and perhaps with escapes."""
    typ = "J" * rng.randrange(1, 9)
    marked = credential.with_header(typ=typ, crit=["x"])
    if rng.random() < 0.5:
        return marked
    escaped = rng.choice((b'"\\u0063rit"', b'"c\\u0072it"', b'"cr\\u0069t"', b'"cri\\u0074"'))
    header = json.dumps(marked.members()).encode().replace(b'"crit"', escaped)
    return replace(marked, raw_header=header)


def _raw_claims(rng: random.Random, request: Request, credential: Credential) -> Request:
    # Envoy's JSON also has single quotes, a comma too many and control characters. Only the
    # issuer could sign these.
    text = json.dumps(credential.claims, separators=(",", ":")).encode()
    raw = rng.choice(
        (
            b"[" + text + b"]", b"3", b"null", b"", text + b" ", b"\xef\xbb\xbf" + text,
            text + b"x",
            text[:-1] + b',"sub":"other"}', b'{"sub":"other",' + text[1:],
            text[:-1] + b',"x":NaN}', text[:-1] + b',"x":1e999}', text[:-1] + b',"exp":1}',
            text[:-1] + b',"x":"\xff"}', text[:-1] + b',"x":"\\ud800"}',

            b'{"exp":99999999999,' + text[1:], text[:-1] + b',"x":' + b"[" * 90 + b"]" * 90 + b"}",
            text[:-1] + b',"group":"staff"}', text[:-1] + b',"x":01}', text.replace(b":", b" : "),
            text[:-1] + b',"pad":"' + b"x" * 5700 + b'"}',
            text[:-1] + b',"pad":"' + b"x" * 7000 + b'"}',
            text[:-1] + b',"x":-0}', text[:-1] + b',"x":"\\u0000"}', text[:-1] + b',"x\\u0000y":1}',
            text[:-1] + b',"x":123456789012345678901234567890}', text[:-1] + b"/**/}", b"{}",
            text[:-1] + b',"x":Infinity}',
        )
    )  # fmt: skip
    return request.with_credential(replace(credential, raw_claims=raw))


def padded_payload(rng: random.Random, request: Request, _: Population) -> Request | None:
    """A token whose base64 is not canonical."""
    if not request.values(b"authorization"):
        return None
    scheme, blank, token = request.values(b"authorization")[0].partition(b" ")
    parts = token.split(b".")
    at = rng.randrange(len(parts))
    parts[at] = rng.choice((parts[at] + b"=", parts[at] + b"A", b"A" + parts[at], parts[at][:-1]))
    if rng.random() < 0.1:
        parts[0] = base64url(b"{}")
    return request.with_header(b"authorization", scheme + blank + b".".join(parts))
