"""Key sets behind a URL, fetched from a real server."""

import asyncio
from contextlib import suppress

import pytest

from extproc.auth import Authenticator, UnknownKeyError, remote_key_sets
from extproc.auth.remote_key_sets import RemoteKeySets
from extproc.policy.current import CurrentPolicy
from sluice.config import Auth
from sluice.keys import fetch
from tests.extproc.auth.key_server import FIRST, ROTATED, keys_served, until_good
from tests.extproc.auth.tokens import (
    ISSUER,
    OTHER_RSA,
    authenticator,
    identify,
    issuer,
    token,
)
from tests.extproc.decision.requests import document

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_keys_are_there_soon_after_the_start_and_again_at_each_interval() -> None:
    with keys_served() as server:
        who = authenticator(issuer(jwks_uri=server.uri, jwks_refresh=0.05))
        keys = RemoteKeySets(who)
        keys.start()
        await until_good(who, token())
        server.document = ROTATED
        await until_good(who, token(key=OTHER_RSA, kid="two"))
        with pytest.raises(UnknownKeyError):
            identify(who, token())
        keys.stop()


async def test_callers_who_ask_at_the_same_time_share_one_fetch() -> None:
    with keys_served() as server:
        who = authenticator(issuer(jwks_uri=server.uri))
        keys = RemoteKeySets(who)
        assert keys.may_refresh(ISSUER)
        await asyncio.gather(*(keys.refresh(ISSUER) for _ in range(50)))
        assert server.requests == 1
        assert identify(who, token()).subject == "alice"


async def test_tokens_cannot_make_a_worker_hammer_the_issuer() -> None:
    with keys_served() as server:
        keys = RemoteKeySets(authenticator(issuer(jwks_uri=server.uri)))
        await keys.refresh(ISSUER)
        assert not keys.may_refresh(ISSUER)


def test_only_fetched_key_sets_can_be_fetched_again() -> None:
    keys = RemoteKeySets(authenticator())
    assert not keys.may_refresh(ISSUER)
    assert not keys.may_refresh("https://nobody.test")


@pytest.mark.parametrize(
    ("status", "document"),
    [
        (500, FIRST),
        (301, FIRST),
        (204, ""),
        (200, ""),
        (200, "{}"),
        (200, '{"keys": []}'),
        (200, '{"keys": 7}'),
        (200, "[" * 100_000),
        (200, " " * (fetch.MAX_DOCUMENT + 1)),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_the_last_good_keys_stay_when_a_fetch_fails(status: int, document: str) -> None:
    with keys_served() as server:
        who = authenticator(issuer(jwks_uri=server.uri))
        await RemoteKeySets(who).refresh(ISSUER)
        server.status, server.document = status, document
        await RemoteKeySets(who).refresh(ISSUER)
        assert server.requests == 2
        assert identify(who, token()).subject == "alice"


async def test_keys_are_fetched_again_after_failures_of_every_kind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote_key_sets, "RETRY_INTERVAL", 0.01)
    with keys_served("[" * 100_000) as server:
        who = authenticator(issuer(jwks_uri=server.uri))
        keys = RemoteKeySets(who)
        keys.start()
        for _ in range(3):
            assert await asyncio.to_thread(server.arrivals.acquire, timeout=5)
        server.document = FIRST
        await until_good(who, token())
        keys.stop()


BAD_KEYS = ('{"keys": [{"kty": "RSA", "alg": {}}]}', '{"keys": [{"kty": "oct", "k": ""}]}')


@pytest.mark.parametrize("document", BAD_KEYS)
async def test_keys_are_fetched_again_after_a_key_that_cannot_be_read(
    document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_key_sets, "RETRY_INTERVAL", 0.01)
    with keys_served(document) as server:
        who = authenticator(issuer(jwks_uri=server.uri))
        keys = RemoteKeySets(who)
        keys.start()
        for _ in range(2):
            assert await asyncio.to_thread(server.arrivals.acquire, timeout=5)
        server.document = FIRST
        await until_good(who, token())
        keys.stop()


async def test_the_last_good_keys_stay_when_the_server_is_gone() -> None:
    with keys_served() as server:
        who = authenticator(issuer(jwks_uri=server.uri))
        await RemoteKeySets(who).refresh(ISSUER)
    await RemoteKeySets(who).refresh(ISSUER)
    assert identify(who, token()).subject == "alice"


async def test_fetched_keys_stay_over_a_new_policy_of_the_same_source() -> None:
    with keys_served() as server:
        of = issuer(jwks_uri=server.uri)
        who = authenticator(of)
        await RemoteKeySets(who).refresh(ISSUER)
        edited = Auth(issuers=(of,), api_key_header="x-key")
        assert identify(Authenticator(edited, who), token()).subject == "alice"
        moved = Auth(issuers=(issuer(jwks_uri=f"{server.uri}/moved"),))
        with pytest.raises(UnknownKeyError):
            identify(Authenticator(moved, who), token())
        inline = Auth(issuers=(issuer(jwks=ROTATED),))
        with pytest.raises(UnknownKeyError):
            identify(Authenticator(inline, who), token())


async def test_a_change_of_the_policy_while_the_server_is_gone_refuses_nobody() -> None:
    current_policy = CurrentPolicy()
    with keys_served() as server:
        auth = {"issuers": [issuer(jwks_uri=server.uri)]}
        current_policy.apply(document(auth=auth))
        assert current_policy.current is not None
        await until_good(current_policy.current.authenticator, token())
    current_policy.apply(document(auth={**auth, "api_key_header": "x-key"}))
    assert identify(current_policy.current.authenticator, token()).subject == "alice"
    current_policy.close()


async def test_a_server_that_trickles_its_headers_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time; all of them never do."""
    monkeypatch.setattr(fetch, "FETCH_TIMEOUT", 0.1)

    async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nx: ")
        with suppress(ConnectionError):
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)

    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    fetching = asyncio.create_task(fetch.fetch_document(f"http://127.0.0.1:{port}/keys"))
    done, _ = await asyncio.wait({fetching}, timeout=2)
    server.close()
    assert done == {fetching}
    with pytest.raises(TimeoutError):
        fetching.result()


async def test_a_request_waits_for_a_slow_issuer_no_longer_than_it_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote_key_sets, "REFRESH_WAIT", 0.05)
    with keys_served() as server:
        server.open.clear()
        who = authenticator(issuer(jwks_uri=server.uri))
        keys = RemoteKeySets(who)
        await asyncio.wait_for(keys.refresh(ISSUER), 2)
        with pytest.raises(UnknownKeyError):
            identify(who, token())
        server.open.set()
        await until_good(who, token())
