"""The key sets that the control plane fetches."""

import asyncio
from collections.abc import Mapping

import pytest

from sluice.config import JwtIssuer
from sluice.keys import remote_key_sets
from sluice.keys.fetch import FetchError
from tests.extproc.auth.tokens import issuer, key_set, rsa_jwk
from xds.sources.key_sets import FetchedKeySets

pytestmark = pytest.mark.anyio

URI = "https://issuer.test/keys"
ONE, TWO = key_set(rsa_jwk(kid="one")), key_set(rsa_jwk(kid="two"))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Issuers:
    """Key sets by URI, and a clock. A missing one makes the fetch fail."""

    def __init__(self, documents: Mapping[str, str]) -> None:
        self.documents = dict(documents)
        self.now = 0.0
        self.requests: list[str] = []

    async def fetch(self, uri: str) -> bytes:
        self.requests.append(uri)
        if uri not in self.documents:
            raise FetchError("no", "unreachable")
        return self.documents[uri].encode()

    def key_sets(self) -> FetchedKeySets:
        return FetchedKeySets(self.fetch, lambda: self.now)


def remote(uri: str = URI, **settings: object) -> JwtIssuer:
    return issuer(jwks_uri=uri, **settings)


def key_ids(key_sets: FetchedKeySets, one: JwtIssuer) -> list[str | None] | None:
    found = key_sets.usable([one]).get(one.issuer)
    return None if found is None else [key.id for key in found.keys]


async def test_a_key_set_is_fetched_and_the_change_is_told() -> None:
    issuers = Issuers({URI: ONE})
    key_sets = issuers.key_sets()
    key_sets.follow([remote()])
    assert key_ids(key_sets, remote()) is None
    await key_sets.first_answers()
    assert key_sets.changed.is_set()
    assert key_ids(key_sets, remote()) == ["one"]
    key_sets.follow([remote()])
    assert issuers.requests == [URI]
    key_sets.close()


async def test_a_failed_fetch_is_an_answer_too() -> None:
    key_sets = Issuers({}).key_sets()
    key_sets.follow([remote()])
    await key_sets.first_answers()
    assert not key_sets.changed.is_set()
    key_sets.close()


async def test_a_key_set_is_not_used_for_another_uri() -> None:
    issuers = Issuers({URI: ONE})
    key_sets, other = issuers.key_sets(), remote("https://issuer.test/other")
    key_sets.follow([remote()])
    await key_sets.first_answers()
    key_sets.changed.clear()
    assert key_ids(key_sets, other) is None
    key_sets.follow([other])
    assert key_sets.changed.is_set()
    assert key_ids(key_sets, remote()) is None
    key_sets.close()


async def test_an_issuer_with_other_settings_keeps_its_key_set() -> None:
    issuers = Issuers({URI: ONE})
    key_sets = issuers.key_sets()
    key_sets.follow([remote()])
    await key_sets.first_answers()
    issuers.documents.clear()
    key_sets.follow([remote(leeway=7)])
    await key_sets.first_answers()
    assert key_ids(key_sets, remote(leeway=7)) == ["one"]
    key_sets.close()


async def test_a_key_set_expires_without_a_successful_fetch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote_key_sets, "RETRY_INTERVAL", 0.01)
    issuers = Issuers({URI: ONE})
    key_sets, one = issuers.key_sets(), remote(jwks_refresh=1, jwks_max_stale=60)
    key_sets.follow([one])
    await key_sets.first_answers()
    key_sets.changed.clear()
    issuers.documents.clear()
    issuers.now = 61.0
    async with asyncio.timeout(60):
        await key_sets.changed.wait()
    assert key_ids(key_sets, one) is None
    key_sets.close()


async def test_a_revoked_key_set_is_empty_and_told() -> None:
    issuers = Issuers({URI: ONE})
    key_sets, one = issuers.key_sets(), remote(jwks_refresh=1)
    key_sets.follow([one])
    await key_sets.first_answers()
    for document, expected in ((TWO, ["two"]), ('{"keys": []}', [])):
        key_sets.changed.clear()
        issuers.documents[URI] = document
        async with asyncio.timeout(60):
            await key_sets.changed.wait()
        assert key_ids(key_sets, one) == expected
    key_sets.close()
