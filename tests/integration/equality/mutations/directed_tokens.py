"""Requests whose token differs in one thing from that of an admitted request."""

import base64
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Final

from tests.integration.equality import token_edits
from tests.integration.equality.mutations.turns import in_turn
from tests.integration.equality.policies import World
from tests.integration.equality.population import LIFETIME
from tests.integration.equality.request import Request
from tests.integration.equality.tokens import Credential, signing_key

_FIRST: Final = ("", "x", "xx", "xxx")
"""Text before a value, so that the value has each of its places in base64."""

_SPELLINGS: Final = (
    b'"crit"', b'"\\u0063rit"', b'"c\\u0072it"', b'"cr\\u0069t"', b'"cri\\u0074"',
)  # fmt: skip
_B64: Final = (b'"b64"', b'"\\u00624"', b'"b\\u00364"', b'"b6\\u0034"')


def claim_edits(request: Request, claim: str, world: World) -> Iterator[Request]:
    """Another value of a claim."""
    credential = request.credential
    if credential is None:
        return
    yield replace(request.with_header(b"authorization", None), credential=None)
    yield request.with_credential(credential.with_claims(**{claim: None}))
    for value in _claim_values(credential, claim, world):
        claims = {**credential.claims, claim: value}
        yield request.with_credential(replace(credential, claims=claims))
    yield from map(request.with_credential, _like_lists(credential, claim, world))


def _like_lists(credential: Credential, claim: str, world: World) -> Iterator[Credential]:
    """Text that is the base64 of a list, at each place in the base64 of the token."""
    for first, text in product(_FIRST, _texts(claim, world)):
        claims = {"jti": first, **credential.claims, claim: token_edits.like_a_list([text])}
        yield replace(credential, claims=claims)


def _claim_values(credential: Credential, claim: str, world: World) -> Iterator[object]:
    known = _texts(claim, world)
    yield from ("other", *known)
    yield from _registered(credential, claim, world)
    yield from in_turn([_with_text(text) for text in (*known, "other")])


def _with_text(text: str) -> Iterator[object]:
    """Values of a claim in which there is a text, or almost."""
    yield base64.b64encode(f'"{text}"'.encode()).decode()
    yield from (f"{text} x", f"x {text}", f"x {text} y", text + "x", text[:-1])
    yield from token_edits.hidden_values(text)
    for first in _FIRST:
        yield from ([first, text], [first, text + "x"], [first, "\\", text])
        yield from ([first, [text]], [first, {"a": text}], [first, f'x","{text}'])
    yield from (f" {text}", [text, [text]])
    yield from token_edits.values_with(text)


def _registered(credential: Credential, claim: str, world: World) -> list[object]:
    """Values of a claim that every token has. None of them becomes or ceases to be valid soon."""
    now = int(str(credential.claims["exp"]).partition(".")[0]) - LIFETIME
    names = [each.name for each in world.issuers]
    found = token_edits.registered_values(claim, now, names)
    return [each for each in found if each not in (now + 100, now - 100)]


def _texts(claim: str, world: World) -> list[str]:
    """The values that the config compares with a claim."""
    found: list[str] = []
    groups = [str(issuer.config["group_claim"]) for issuer in world.issuers]
    for model in world.models.values():
        for rule in model.get("access", {}).get("allow", ()):
            found += [rule["claims"][claim]] if claim in rule.get("claims", {}) else []
            found += rule.get("groups", ()) if claim in groups else ()
            found += rule.get("subjects", ()) if claim == "sub" else ()
        for rule in model.get("claim_rules", ()):
            if rule["claim"] == claim or (rule["claim"] == "group" and claim in groups):
                found.append(rule["value"])
    for issuer in world.issuers:
        found += issuer.config["audiences"] if claim == "aud" else ()
    return list(dict.fromkeys(found))


def token_edits_of(request: Request, world: World) -> Iterator[Request]:
    """Another token, or the same in another place."""
    credential = request.credential
    if credential is None:
        issuer = world.issuers[0]
        claims = {"iss": issuer.name, "aud": issuer.config["audiences"][0], "exp": 2**33}
        other = Credential(issuer.key, {**claims, "sub": "bob"})
        yield request.with_credential(other)
        yield request.with_credential(replace(other, key=token_edits.other_key(other)))
        for value in (b"", b"Bearer", b"Basic YTpi"):
            yield request.adding((b"authorization", value))
        return
    yield replace(request.with_header(b"authorization", None), credential=None)
    yield from map(request.with_credential, _invalid(credential, world))
    yield from _elsewhere(request, credential)
    value = request.values(b"authorization")[0]
    for changed in token_edits.spellings(value):
        yield request.with_header(b"authorization", changed)
    yield request.adding((b"authorization", value))
    yield from map(request.with_credential, _others(credential, world))


def _elsewhere(request: Request, credential: Credential) -> Iterator[Request]:
    """The token, or one of another caller, also or only in another place."""
    path = request.path.partition(b"?")[0]
    without = request.with_header(b"authorization", None)
    for each in (credential, credential.with_claims(sub="alice"), credential.with_claims(sub="z")):
        found = replace(request, path=path + b"?access_token=" + each.token())
        yield found
        yield found.with_header(b"authorization", b"Basic YTpi")
        yield replace(without, path=found.path)
        yield without.with_header(b"cookie", b"access_token=" + each.token())


def _invalid(credential: Credential, world: World) -> Iterator[Credential]:
    """A token that lacks one of the things by which it is valid and can be compared."""
    yield credential.with_claims(exp=int(time.time()) - 10)
    yield credential.with_claims(exp=None)
    # The token filter looks for the issuer anywhere in the token.
    yield credential.with_claims(iss=None, azp=credential.claims["iss"])
    yield credential.with_claims(iss="other", azp=credential.claims["iss"])
    yield credential.with_header(alg="HS256")
    other = token_edits.other_key(credential)
    yield replace(credential, key=other)
    yield replace(credential, key=replace(other, jwk=credential.key.jwk))
    if credential.key.algorithm == "RS256":
        number = int(credential.key.id.rpartition("-")[2])
        for algorithm in ("RS384", "PS256"):
            key = replace(signing_key(algorithm, number), jwk=credential.key.jwk)
            yield replace(credential, key=key)
    yield from _critical(credential)
    for claim in dict.fromkeys(str(issuer.config["group_claim"]) for issuer in world.issuers):
        yield from _like_lists(credential, claim, world)


def _others(credential: Credential, world: World) -> Iterator[Credential]:
    """Tokens of which some are valid."""
    keys = [issuer.key for issuer in world.issuers]
    yield from (replace(credential, key=key) for key in keys)
    for claim in ("iss", "exp", "nbf", "iat"):
        for value in _registered(credential, claim, world):
            yield replace(credential, claims={**credential.claims, claim: value})
    for members in token_edits.header_members(credential, keys):
        yield credential.with_header(**members)
    for audience in (a for issuer in world.issuers for a in issuer.config["audiences"]):
        yield credential.with_claims(aud=audience)


def _critical(credential: Credential) -> Iterator[Credential]:
    """Tokens with members that a verifier must not ignore, at each place in base64."""
    for padding in range(1, 7):
        marked = credential.with_header(typ="J" * padding, crit=["x"], b64=False)
        header = json.dumps(marked.members()).encode()
        for spelled in _SPELLINGS:
            without = json.dumps(marked.with_header(b64=None).members()).encode()
            yield replace(marked, raw_header=without.replace(b'"crit"', spelled))
        for spelled in _B64:
            without = json.dumps(marked.with_header(crit=None).members()).encode()
            yield replace(marked, raw_header=without.replace(b'"b64"', spelled))
        yield replace(marked, raw_header=header)
