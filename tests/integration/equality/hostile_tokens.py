"""Hostile tokens: their place, header, claims, times and subjects."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.integration.equality.hostile_config import NAME, Case, call, credential, post
from tests.integration.equality.request import Request
from tests.integration.equality.tokens import Credential, signing_key


def tokens_cases() -> Iterator[Case]:
    valid = credential()
    text = valid.token()
    request = post("m")

    def bearer(value: bytes) -> Request:
        return request.with_header(b"authorization", value)

    for name, value in {
        "lower-case bearer": b"bearer " + text,
        "upper-case bearer": b"BEARER " + text,
        "two blanks": b"Bearer  " + text,
        "a tab": b"Bearer\t" + text,
        "a word before the token": b"Bearer x " + text,
        "a quote before the token": b'Bearer "' + text,
        "a slash before the token": b"Bearer /" + text,
        "a word after the token": b"Bearer " + text + b" x",
        "two tokens in one header": b"Bearer " + text + b", Bearer " + text,
        "a comma after the token": b"Bearer " + text + b",",
        "no token after Bearer": b"Bearer ",
        "no scheme": text,
        "another scheme": b"Basic " + text,
        "a padded signature": b"Bearer " + text + b"==",
        "four parts": b"Bearer " + text + b".x",
        "two parts": b"Bearer " + text.rpartition(b".")[0],
        "an empty signature": b"Bearer " + text.rpartition(b".")[0] + b".",
        "a changed signature": b"Bearer " + text[:-4] + b"AAAA",
        "base64 instead of base64url": b"Bearer " + text + b"+/",
        "a byte after ASCII": b"Bearer " + text + b"\xff",
        "a quoted token": b'Bearer "' + text + b'"',
    }.items():
        yield Case(name, bearer(value))
        if name in ("lower-case bearer", "two tokens in one header", "a changed signature"):
            yield Case(
                f"{name}, public model", replace(post("public"), headers=bearer(value).headers)
            )
    header = (b"authorization", b"Bearer " + text)
    yield Case("the token twice", request.adding(header, header))
    yield Case("the token and an empty header", request.adding(header, (b"authorization", b"")))
    yield Case("an empty header and the token", request.adding((b"authorization", b""), header))
    yield Case("an empty header for a public model", post("public", (b"authorization", b"")))
    basic = (b"authorization", b"Basic YTpi")
    yield Case("another scheme before the token", request.adding(basic, header))
    yield Case("the token over HTTP/2, twice", replace(request.adding(header, header), http2=True))
    query = b"/v2/models/m/infer?access_token=" + text
    yield Case("the token in the query", replace(request, path=query))
    both = replace(bearer(b"Bearer " + text), path=query)
    yield Case("the token in the query and in the header", both, native=True)
    yield Case("the token in a cookie", request.adding((b"cookie", b"access_token=" + text)))
    other = (b"proxy-authorization", b"Bearer " + text)
    yield Case("the token in proxy-authorization", request.adding(other))
    members: dict[str, dict[str, Any]] = {
        "crit": {"crit": ["exp"]},
        "crit, empty": {"crit": []},
        "crit after one byte more": {"kid": "EdDSA-0", "typ": "JWT1", "crit": ["x"]},
        "crit after two bytes more": {"typ": "JWT12", "crit": ["x"]},
        "alg none": {"alg": "none"},
        "alg HS256": {"alg": "HS256"},
        "alg RS256 for a key of EdDSA": {"alg": "RS256"},
        "no alg": {"alg": None},
        "an unknown kid": {"kid": "other"},
        "a numeric kid": {"kid": 7},
        "the kid of another issuer": {"kid": "EdDSA-1"},
        "a header over 8 KiB": {"x": "y" * 9000},
        "unencoded payload": {"b64": False, "crit": ["b64"]},
    }
    for name, member in members.items():
        yield Case(name, request.with_credential(valid.with_header(**member)))
    yield Case("no kid", request.with_credential(valid.with_header(kid=None)))
    yield Case("no typ", request.with_credential(valid.with_header(typ=None)), native=True)
    escaped = b'{"alg":"EdDSA","kid":"EdDSA-0","\\u0063rit":["x"]}'
    yield Case("crit with an escape", request.with_credential(replace(valid, raw_header=escaped)))
    foreign = replace(signing_key("EdDSA", 9), jwk=valid.key.jwk)
    yield Case("a foreign key", request.with_credential(replace(valid, key=foreign)))
    borrowed = replace(valid, key=signing_key("EdDSA", 1))
    yield Case("the key of another issuer", request.with_credential(borrowed))
    large = valid.with_claims(pad="x" * 5800)
    yield Case("a token just below 8 KiB", request.with_credential(large))
    yield Case("a token over 8 KiB", request.with_credential(valid.with_claims(pad="x" * 7000)))
    for name, claims in {
        "a payload that is a list": b"[]",
        "a payload that is no JSON": b"x",
        "a payload with NaN": _json(valid, b',"x":NaN}'),
        "a payload with a lone surrogate": _json(valid, b',"x":"\\ud800"}'),
        "a payload with a comment": _json(valid, b"/**/}"),
        "a payload with invalid UTF-8": _json(valid, b',"x":"\xff"}'),
        "sub twice": _json(valid, b',"sub":"bob"}'),
        "exp twice": _json(valid, b',"exp":1}'),
        "iss twice": _json(valid, b',"iss":"https://half.test"}'),
        "group twice": _json(valid, b',"group":"nobody","group":"staff"}'),
        "a number that is too large": _json(valid, b',"x":1e999}'),
        "very deep nesting": _json(valid, b',"x":' + b"[" * 500 + b"]" * 500 + b"}"),
    }.items():
        yield Case(name, post("staff").with_credential(replace(valid, raw_claims=claims)))
        yield Case(
            f"{name}, any caller", request.with_credential(replace(valid, raw_claims=claims))
        )


def _json(valid: Credential, end: bytes) -> bytes:
    return json.dumps(valid.claims).encode()[:-1] + end


def issuers_cases() -> Iterator[Case]:
    """The token filter chooses the issuer by its text in the token."""
    rsa_name = "https://rsa.test"
    rsa = replace(credential(iss=rsa_name), key=signing_key("RS256", 0))
    escaped = json.dumps(rsa.claims).replace("/", r"\/").encode()
    texts = replace(rsa, raw_claims=escaped)
    yield Case("the issuer with escapes", post("m").with_credential(texts), native=True)
    yield Case("a later issuer in a claim", call("m", idp=rsa_name), native=True)
    yield Case("an earlier issuer in a claim", post("m").with_credential(rsa.with_claims(idp=NAME)))
    for name, claims in {
        "another issuer's name": {"iss": NAME},
        "another issuer's name in a list": {"iss": [rsa_name]},
        "a name in a name": {"iss": f"{rsa_name}/"},
        "a name below another name": {"iss": {"iss": rsa_name}},
    }.items():
        yield Case(name, post("m").with_credential(rsa.with_claims(**claims)))


def times_cases() -> Iterator[Case]:
    now = int(time.time())
    for name, claims, native in (
        ("exp in the leeway", {"exp": now - 10}, True),
        ("exp before the leeway", {"exp": now - 100}, False),
        ("exp 0", {"exp": 0}, False),
        ("a negative exp", {"exp": -1}, False),
        ("exp as text", {"exp": str(now + 3600)}, False),
        ("exp as a boolean", {"exp": True}, False),
        ("no exp", {"exp": None}, False),
        ("exp with a fraction", {"exp": now + 3600.5}, True),
        ("exp in the far future", {"exp": 2**40}, False),
        ("exp over 64 bits", {"exp": 2**70}, False),
        ("exp infinite", {"exp": float("inf")}, False),
        ("nbf in the past, with a fraction", {"nbf": now - 10.5}, True),
        ("nbf in the leeway, with a fraction", {"nbf": now + 10.5}, False),
        ("nbf in the future", {"nbf": now + 100}, False),
        ("nbf in the future, with a fraction", {"nbf": now + 100.5}, False),
        ("nbf as text", {"nbf": "x"}, False),
        ("nbf null", {"nbf": False}, False),
        ("iat in the future", {"iat": now + 500}, False),
        ("iat as text", {"iat": "x"}, False),
        ("no iat", {"iat": None}, True),
        ("jti as a number", {"jti": 3}, False),
    ):
        yield Case(name, call("m", **claims), native=native)
    for issuer, number in (("https://strict.test", 1), ("https://half.test", 2)):
        key = signing_key("EdDSA", number)
        for name, claims in (("valid", {}), ("expired a moment ago", {"exp": now - 2}),
                             ("nbf soon", {"nbf": now + 30})):  # fmt: skip
            token = replace(credential(iss=issuer, **claims), key=key)
            yield Case(f"{issuer}, {name}", post("m").with_credential(token))


def audiences_cases() -> Iterator[Case]:
    for audience, native in (
        (["x", "api"], True), ("https://api.test/v1", True), ("http://api.test/v1", False),
        ("api.test/v1", False), ("https://api.test/v1/", False), ("api/", False), ("API", False),
        ("https://api", False), (["api/"], False), ([], False), (3, False), (["api", 3], False),
        (None, False), ("", False), ({"api": 1}, False), ("api ", False), ([["api"]], False),
        ("api,x", False), (["other", "https://api.test/v1/"], False), ("https://api.test/v1?",
        False),
    ):  # fmt: skip
        yield Case(f"aud {audience!r}", call("m", aud=audience), native=native)
    for issuer in ("https://one.test/", "HTTPS://one.test", "", 3, ["https://one.test"], None):
        yield Case(f"iss {issuer!r}", call("m", iss=issuer))


def claims_cases() -> Iterator[Case]:
    for group, native in (
        ("staff", True), (["staff"], True), (["x", "staff"], True), (["staff", "x"], True),
        ("staff ", False), ("STAFF", False), ("staffs", False), (["xstaff"], False), ("", False),
        (["staff,x"], False), ('x","staff', False), (['x","staff'], False), ([["staff"]], False),
        ({"staff": 1}, False), (["x\\", "staff"], False), ("x,staff", False), ([], False),
        ([None, "staff"], False), ("WyJzdGFmZiJd", False), ("[\"staff\"]", False),
    ):  # fmt: skip
        yield Case(
            f"group {group!r}", call("staff", group=group), native=native and group != ["x\\"]
        )
    for model in ("three", "true", "gold"):
        for tier in (3, 3.0, "3", 3.5, "3.0", True, "true", False, [3], ["3"], [True], ["true"],
                     "gold", ["gold"], "goldfish", 1e21, None):  # fmt: skip
            native = model == "gold" and tier in ("gold", ["gold"])
            yield Case(f"tier {tier!r} for {model}", call(model, tier=tier), native=native)
    nested: dict[str, Any] = {"org": {"unit": "x"}}
    dotted: dict[str, Any] = {"org.unit": "x"}
    yield Case("a nested claim", call("nested", **nested))
    yield Case("a claim whose name has a dot", call("nested", **dotted))
    shadowed: dict[str, Any] = {"org.unit": "y", "org": {"unit": "x"}}
    yield Case("a claim that shadows a nested one", call("nested", **shadowed))
    for name, claims, native in (
        ("vip", {"group": "vip"}, True), ("a list with vip", {"group": ["a", "vip"]}, True),
        ("gold", {"tier": "gold"}, True), ("vip and gold", {"group": "vip", "tier": "gold"}, True),
        ("vip-eu", {"group": "vip-eu"}, True), ("an empty group", {"group": ""}, False),
        ("a list with go", {"tier": ["x", "gopher"]}, False), ("text with go", {"tier": "ago"},
        True),
        ("no claim", {}, True), ("a numeric tier", {"tier": 3}, False), ("go alone",
        {"tier": "go"}, True),
    ):  # fmt: skip
        request = call("rules", **claims)
        yield Case(f"claim rules: {name}", request, native=native)
        yield Case(
            f"claim rules: {name}, version v1",
            request.adding((b"x-model-version", b"v1")),
            native=native,
        )


def subjects_cases() -> Iterator[Case]:
    for subject, native in (
        ("alice@example.com", True), ("a b", True), ("a%b", False), ("%41lice", False), ("é",
        False),
        ("a\rb", False), ("a\nx-sluice-canary: true", False), ("a\0b", False), ("\ud800", False),
        (" alice", False), ("alice ", False), ("", False), (3, False), (["alice"], False),
        (None, False), (True, False), ("a,b", True), ("😀", False), ("\x7f", False), ("x" * 3000,
        True),
        ({"a": 1}, False), ("a\tb", False), ('a"b', True), ("\u0085", False),
    ):  # fmt: skip
        short = ascii(subject)[:30]
        yield Case(f"sub {short}", call("m", sub=subject), native=native)
        yield Case(f"sub {short}, canary", call("subjects", sub=subject), native=native)
        yield Case(f"sub {short} for alice", call("alice", sub=subject))
    yield Case("sub alice for alice", call("alice"), native=True)
    yield Case("sub Alice for alice", call("alice", sub="Alice"))
