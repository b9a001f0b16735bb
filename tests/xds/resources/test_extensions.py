"""The token filter's choice of a provider."""

import pytest
from envoy_data_plane.envoy.extensions.filters.http.jwt_authn.v3 import JwtProvider, RequirementRule

from tests.tokens import encoded
from xds.resources.extensions import NO_TOKENS, verifying

FIRST, SECOND = "https://one.test", "https://two.test/café"
PROVIDERS = {issuer: JwtProvider(issuer=issuer) for issuer in (FIRST, SECOND)}


def tried(payload: str, providers: dict[str, JwtProvider]) -> list[str]:
    """The providers for which Envoy parses a token with this payload, in order."""
    token = f"eyJ9.{encoded(payload.encode())}.c2ln"
    for rule in verifying(providers).rules:
        if all(
            each.string_match is not None and (each.string_match.contains or "") in token
            for each in rule.match.headers
            if rule.match is not None
        ):
            return names(rule)
    return []


def names(rule: RequirementRule) -> list[str]:
    assert rule.requires is not None
    assert rule.requires.requires_any is not None
    found = (each.provider_name for each in rule.requires.requires_any.requirements)
    return [name for name in found if name]


@pytest.mark.parametrize("before", ["", "x", "xy"])
@pytest.mark.parametrize("issuer", [FIRST, SECOND])
def test_a_token_has_the_provider_of_its_issuer(issuer: str, before: str) -> None:
    for text in (issuer, issuer.replace("/", r"\/")):
        assert tried(f'{{"p":"{before}","iss":"{text}"}}', PROVIDERS) == [issuer]


@pytest.mark.parametrize("payload", ["{}", f'{{"iss":"{FIRST}/"}}', f'{{"iss":"x{FIRST}"}}'])
def test_a_token_without_the_text_of_an_issuer_is_not_parsed(payload: str) -> None:
    assert tried(payload, PROVIDERS) == []


def test_a_token_is_parsed_for_one_provider_whatever_it_contains() -> None:
    assert tried(f'{{"iss":"x","y":["{SECOND}","{FIRST}"]}}', PROVIDERS) == [FIRST]
    assert all(len(names(rule)) == 1 for rule in verifying(PROVIDERS).rules)


def test_every_token_is_parsed_for_the_only_provider() -> None:
    assert tried("{}", {FIRST: PROVIDERS[FIRST]}) == [FIRST]


def test_no_token_is_parsed_without_providers() -> None:
    assert verifying({}) == NO_TOKENS
