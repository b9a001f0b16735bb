"""Tests of key sets that are fetched from an HTTP server."""

import asyncio
from contextlib import suppress

import pytest

from extproc.auth import (
    Authenticator,
    KeySetUnavailableError,
    UnknownKeyError,
)
from extproc.policy.current import CurrentPolicy
from sluice.config import Auth
from sluice.keys import fetch, remote_key_sets
from sluice.keys.remote_key_sets import RemoteKeySets
from sluice.version import USER_AGENT
from tests.extproc.auth.key_server import FIRST, ROTATED, keys_served, until_accepted
from tests.extproc.auth.tokens import (
    ISSUER,
    OTHER_RSA,
    identify,
    issuer,
    key_set,
    make_authenticator,
    rsa_jwk,
    token,
)
from tests.extproc.decision.requests import document

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_key_sets_are_fetched_at_the_start_and_at_each_interval() -> None:
    with keys_served() as server:
        authenticator = make_authenticator(issuer(jwks_uri=server.uri, jwks_refresh=1))
        keys = RemoteKeySets(authenticator)
        keys.start()
        await until_accepted(authenticator, token())
        server.document = ROTATED
        await until_accepted(authenticator, token(key=OTHER_RSA, kid="two"))
        with pytest.raises(UnknownKeyError):
            identify(authenticator, token())
        keys.stop()


async def test_the_fetch_names_the_product_and_the_media_type_of_key_sets() -> None:
    """Firewalls refuse `Python-urllib`."""
    with keys_served() as server:
        await fetch.fetch_document(server.uri)
    assert server.headers["user-agent"] == USER_AGENT
    assert "application/jwk-set+json" in server.headers["accept"]


@pytest.mark.parametrize(
    ("status", "document", "cause"),
    [(403, "", "status_403"), (302, "", "status_302"), (599, "", "status_other"),
     (200, "<html>", "invalid_key_set"), (200, "x" * (1 << 20 | 1), "too_large")],
)  # fmt: skip
async def test_the_cause_of_a_failed_fetch_is_known(status: int, document: str, cause: str) -> None:
    with keys_served() as server:
        authenticator = make_authenticator(issuer(jwks_uri=server.uri))
        keys = RemoteKeySets(authenticator)
        server.status, server.document = status, document
        await keys.refresh(ISSUER)
        (failed,) = authenticator.fetched_key_sets(0)
        assert (failed.usable, failed.failure) == (False, cause)
        server.status, server.document = 200, FIRST
        await keys.refresh(ISSUER)
        (fetched,) = authenticator.fetched_key_sets(0)
        assert (fetched.usable, fetched.failure) == (True, None)


async def test_an_unreachable_server_and_an_unknown_host_are_different_causes() -> None:
    causes = []
    for uri in ("http://127.0.0.1:1/keys", "http://no-such-host.invalid/keys"):
        with pytest.raises(fetch.FetchError) as failed:
            await fetch.fetch_document(uri)
        causes.append(failed.value.cause)
    assert causes == ["unreachable", "name_not_resolved"]


async def test_without_a_key_set_no_token_is_called_invalid() -> None:
    authenticator = make_authenticator(issuer(jwks_uri="https://issuer.test/keys"))
    with pytest.raises(KeySetUnavailableError) as refused:
        identify(authenticator, token())
    assert refused.value.cause == "key_set_unavailable"


async def test_an_unknown_key_after_a_failed_fetch_has_its_own_cause() -> None:
    """The issuer may have the key: the client is not at fault."""
    served, clock = Issuer(), Clock()
    authenticator, keys = remote(served, clock)
    await keys.refresh(ISSUER)
    with pytest.raises(UnknownKeyError) as unknown:
        identify(authenticator, token(kid="new"))
    served.failure = fetch.FetchError("the server responded with status 403", "status_403")
    await keys.refresh(ISSUER)
    with pytest.raises(UnknownKeyError) as outdated:
        identify(authenticator, token(kid="new"))
    assert [unknown.value.cause, outdated.value.cause] == ["unknown_key", "key_set_outdated"]
    edited = authenticator.auth.model_copy(update={"api_key_header": "x-key"})
    (kept,) = Authenticator(edited, authenticator).fetched_key_sets(clock.now)
    assert kept.failure == "status_403"


async def test_concurrent_requests_share_one_fetch() -> None:
    with keys_served() as server:
        authenticator = make_authenticator(issuer(jwks_uri=server.uri))
        keys = RemoteKeySets(authenticator)
        assert keys.may_refresh(ISSUER)
        await asyncio.gather(*(keys.refresh(ISSUER) for _ in range(50)))
        assert server.requests == 1
        assert identify(authenticator, token()).subject == "alice"


async def test_fetches_for_unknown_keys_have_a_minimum_interval() -> None:
    with keys_served() as server:
        keys = RemoteKeySets(make_authenticator(issuer(jwks_uri=server.uri)))
        await keys.refresh(ISSUER)
        assert not keys.may_refresh(ISSUER)


def test_inline_key_sets_and_unknown_issuers_are_not_fetched() -> None:
    keys = RemoteKeySets(make_authenticator())
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
        (200, '{"keys": 7}'),
        (200, "[" * 100_000),
        (200, " " * (fetch.MAX_DOCUMENT + 1)),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_the_last_key_set_stays_after_a_failed_fetch(status: int, document: str) -> None:
    with keys_served() as server:
        authenticator = make_authenticator(issuer(jwks_uri=server.uri))
        await RemoteKeySets(authenticator).refresh(ISSUER)
        server.status, server.document = status, document
        await RemoteKeySets(authenticator).refresh(ISSUER)
        assert server.requests == 2
        assert identify(authenticator, token()).subject == "alice"


async def test_a_failed_fetch_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote_key_sets, "RETRY_INTERVAL", 0.01)
    with keys_served("[" * 100_000) as server:
        authenticator = make_authenticator(issuer(jwks_uri=server.uri))
        keys = RemoteKeySets(authenticator)
        keys.start()
        for _ in range(3):
            assert await asyncio.to_thread(server.arrivals.acquire, timeout=30)
        server.document = FIRST
        await until_accepted(authenticator, token())
        keys.stop()


BAD_KEYS = ('{"keys": [{"kty": "RSA", "alg": {}}]}', '{"keys": [{"kty": "oct", "k": ""}]}')


@pytest.mark.parametrize("document", BAD_KEYS)
async def test_a_fetch_of_an_invalid_key_set_is_tried_again(
    document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_key_sets, "RETRY_INTERVAL", 0.01)
    with keys_served(document) as server:
        authenticator = make_authenticator(issuer(jwks_uri=server.uri))
        keys = RemoteKeySets(authenticator)
        keys.start()
        for _ in range(2):
            assert await asyncio.to_thread(server.arrivals.acquire, timeout=30)
        server.document = FIRST
        await until_accepted(authenticator, token())
        keys.stop()


async def test_the_last_key_set_stays_if_the_server_is_unreachable() -> None:
    with keys_served() as server:
        authenticator = make_authenticator(issuer(jwks_uri=server.uri))
        await RemoteKeySets(authenticator).refresh(ISSUER)
    await RemoteKeySets(authenticator).refresh(ISSUER)
    assert identify(authenticator, token()).subject == "alice"


async def test_a_new_policy_keeps_fetched_key_sets_of_the_same_uri() -> None:
    with keys_served() as server:
        settings = issuer(jwks_uri=server.uri)
        authenticator = make_authenticator(settings)
        await RemoteKeySets(authenticator).refresh(ISSUER)
        edited = Auth(issuers=(settings,), api_key_header="x-key")
        assert identify(Authenticator(edited, authenticator), token()).subject == "alice"
        moved = Auth(issuers=(issuer(jwks_uri=f"{server.uri}/moved"),))
        with pytest.raises(UnknownKeyError):
            identify(Authenticator(moved, authenticator), token())
        inline = Auth(issuers=(issuer(jwks=ROTATED),))
        with pytest.raises(UnknownKeyError):
            identify(Authenticator(inline, authenticator), token())


async def test_a_new_policy_keeps_fetched_key_sets_while_the_server_is_unreachable() -> None:
    current_policy = CurrentPolicy()
    with keys_served() as server:
        auth = {"issuers": [issuer(jwks_uri=server.uri)]}
        current_policy.apply(document(auth=auth))
        assert current_policy.current is not None
        await until_accepted(current_policy.current.authenticator, token())
    current_policy.apply(document(auth={**auth, "api_key_header": "x-key"}))
    assert identify(current_policy.current.authenticator, token()).subject == "alice"
    current_policy.close()


async def test_a_fetch_whose_headers_arrive_too_slowly_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The socket timeout alone would not end it: bytes keep arriving."""
    monkeypatch.setattr(fetch, "FETCH_TIMEOUT", 0.1)

    closed = asyncio.Event()

    async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nx: ")
        with suppress(ConnectionError):
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)
        closed.set()

    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    fetching = asyncio.create_task(fetch.fetch_document(f"http://127.0.0.1:{port}/keys"))
    done, _ = await asyncio.wait({fetching}, timeout=30)
    assert done == {fetching}
    with pytest.raises(fetch.FetchError, match="in time"):
        fetching.result()
    # The thread has ended too: it has closed its connection.
    async with asyncio.timeout(60):
        await closed.wait()
    server.close()


async def test_the_wait_for_a_slow_issuer_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote_key_sets, "REFRESH_WAIT", 0.05)
    with keys_served() as server:
        server.open.clear()
        authenticator = make_authenticator(issuer(jwks_uri=server.uri))
        keys = RemoteKeySets(authenticator)
        await asyncio.wait_for(keys.refresh(ISSUER), 30)
        with pytest.raises(UnknownKeyError):
            identify(authenticator, token())
        server.open.set()
        await until_accepted(authenticator, token())


class Clock:
    """Monotonic seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Issuer:
    """Serves a document, or fails. `fetches` counts."""

    def __init__(self) -> None:
        self.document = FIRST
        self.failure: Exception | None = None
        self.fetches = 0

    async def fetch(self, _: str) -> bytes:
        self.fetches += 1
        if self.failure is not None:
            raise self.failure
        return self.document.encode()


MAX_STALE = 3600.0


def remote(served: Issuer, clock: Clock) -> tuple[Authenticator, RemoteKeySets]:
    settings = issuer(jwks_uri="https://issuer.test/keys", jwks_max_stale=MAX_STALE)
    authenticator = make_authenticator(settings)
    return authenticator, RemoteKeySets(authenticator, served.fetch, clock)


def state(authenticator: Authenticator, clock: Clock) -> tuple[bool, float | None]:
    (key_set,) = authenticator.fetched_key_sets(clock.now)
    return key_set.usable, key_set.age


@pytest.mark.parametrize("document", ['{"keys": []}', ROTATED], ids=["empty", "other key"])
async def test_a_fetched_set_without_a_key_revokes_it_at_once(document: str) -> None:
    served, clock = Issuer(), Clock()
    authenticator, keys = remote(served, clock)
    await keys.refresh(ISSUER)
    assert identify(authenticator, token()).subject == "alice"
    # The token is in the cache of verified tokens.
    assert identify(authenticator, token()).subject == "alice"
    assert authenticator.hits == 1
    generation = authenticator.key_generation
    served.document = document
    await keys.refresh(ISSUER)
    with pytest.raises(UnknownKeyError, match="has no RS256 key with the token's kid 'one'"):
        identify(authenticator, token())
    assert authenticator.key_generation > generation
    assert state(authenticator, clock) == (True, 0.0)


async def test_a_set_that_shrinks_keeps_only_the_keys_that_it_still_has() -> None:
    served, clock = Issuer(), Clock()
    authenticator, keys = remote(served, clock)
    both = (rsa_jwk(kid="one"), rsa_jwk(OTHER_RSA, kid="two"))
    served.document = key_set(*both)
    await keys.refresh(ISSUER)
    kept, removed = token(key=OTHER_RSA, kid="two"), token()
    assert {identify(authenticator, each).subject for each in (kept, removed)} == {"alice"}
    served.document = key_set(both[1])
    await keys.refresh(ISSUER)
    assert identify(authenticator, kept).subject == "alice"
    with pytest.raises(UnknownKeyError):
        identify(authenticator, removed)


@pytest.mark.parametrize(
    "failure",
    [
        fetch.FetchError("the server responded with status 500", "status_500"),
        RuntimeError("fault"),
        OSError(),
    ],
    ids=["fetch", "fault", "system"],
)
async def test_a_key_set_that_cannot_be_fetched_expires(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    served, clock = Issuer(), Clock()
    authenticator, keys = remote(served, clock)
    await keys.refresh(ISSUER)
    assert identify(authenticator, token()).subject == "alice"
    served.failure = failure
    clock.now += MAX_STALE
    await keys.refresh(ISSUER)
    assert identify(authenticator, token()).subject == "alice"
    assert state(authenticator, clock) == (True, MAX_STALE)
    clock.now += 1
    await keys.refresh(ISSUER)
    with pytest.raises(
        UnknownKeyError, match=f"the key set of the token's issuer {ISSUER} has expired"
    ):
        identify(authenticator, token())
    assert state(authenticator, clock) == (False, MAX_STALE + 1)
    assert "has expired: its tokens are refused" in caplog.text
    # The next fetch that succeeds ends this, also with the same document.
    served.failure = None
    await keys.refresh(ISSUER)
    assert identify(authenticator, token()).subject == "alice"
    assert state(authenticator, clock) == (True, 0.0)


async def test_an_unchanged_key_set_does_not_expire() -> None:
    served, clock = Issuer(), Clock()
    authenticator, keys = remote(served, clock)
    for _ in range(3):
        await keys.refresh(ISSUER)
        clock.now += MAX_STALE
    served.failure = fetch.FetchError("the server did not respond in time", "timeout")
    await keys.refresh(ISSUER)
    assert identify(authenticator, token()).subject == "alice"


async def test_a_document_that_is_not_a_key_set_does_not_renew_the_keys() -> None:
    served, clock = Issuer(), Clock()
    authenticator, keys = remote(served, clock)
    await keys.refresh(ISSUER)
    served.document = "<html>"
    clock.now += MAX_STALE + 1
    await keys.refresh(ISSUER)
    with pytest.raises(UnknownKeyError, match="expired"):
        identify(authenticator, token())


async def test_a_new_policy_does_not_renew_the_keys() -> None:
    served, clock = Issuer(), Clock()
    authenticator, keys = remote(served, clock)
    await keys.refresh(ISSUER)
    served.failure = fetch.FetchError("the server did not respond in time", "timeout")
    clock.now += MAX_STALE - 10
    edited = authenticator.auth.model_copy(update={"api_key_header": "x-key"})
    authenticator = Authenticator(edited, authenticator)
    keys = RemoteKeySets(authenticator, served.fetch, clock)
    await keys.refresh(ISSUER)
    assert identify(authenticator, token()).subject == "alice"
    clock.now += 20
    await keys.refresh(ISSUER)
    with pytest.raises(UnknownKeyError, match="expired"):
        identify(authenticator, token())
    authenticator = Authenticator(authenticator.auth, authenticator)
    with pytest.raises(UnknownKeyError, match="expired"):
        identify(authenticator, token())


async def test_a_slow_fetch_does_not_restore_keys_that_a_later_fetch_has_revoked() -> None:
    clock = Clock()
    started: asyncio.Queue[asyncio.Future[bytes]] = asyncio.Queue()

    async def slow(_: str) -> bytes:
        document: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        started.put_nowait(document)
        return await document

    authenticator = make_authenticator(issuer(jwks_uri="https://issuer.test/keys"))
    keys = RemoteKeySets(authenticator, slow, clock)
    keys.start()
    first = await started.get()
    clock.now += 1
    refreshing = asyncio.create_task(keys.refresh(ISSUER))
    second = await started.get()
    second.set_result(b'{"keys": []}')
    await refreshing
    assert state(authenticator, clock) == (True, 0.0)
    first.set_result(FIRST.encode())
    for _ in range(10):
        await asyncio.sleep(0)
    with pytest.raises(UnknownKeyError):
        identify(authenticator, token())
    assert state(authenticator, clock) == (True, 0.0)
    keys.stop()


async def test_the_same_failure_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    served, clock = Issuer(), Clock()
    _, keys = remote(served, clock)
    served.failure = fetch.FetchError("the server responded with status 500", "status_500")
    for _ in range(5):
        await keys.refresh(ISSUER)
    assert served.fetches == 5
    assert caplog.text.count("status 500") == 1


async def test_an_empty_key_set_of_the_policy_revokes_all_keys() -> None:
    current_policy = CurrentPolicy()
    current_policy.apply(document(auth={"issuers": [issuer(jwks=FIRST)]}))
    assert current_policy.current is not None
    assert identify(current_policy.current.authenticator, token()).subject == "alice"
    current_policy.apply(document(auth={"issuers": [issuer(jwks='{"keys": []}')]}))
    with pytest.raises(UnknownKeyError):
        identify(current_policy.current.authenticator, token())
    current_policy.close()
