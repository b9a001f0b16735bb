"""Control planes share a history in Redis, and notice when Redis is gone or has lost it."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis import Redis

from tests.redis_server import RedisServer
from tests.redis_tls import make_files, tls_in_front_of
from xds.sources.store.open import check_store
from xds.sources.store.redis import RedisStore
from xds.sources.store.store import Draft, StoreUnavailableError

pytestmark = pytest.mark.anyio

INFOS, TEXTS = "{sluice:config}:revisions", "{sluice:config}:texts"
SECRET = "hunter2-7f3a"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def draft(text: str = "{}") -> Draft:
    return Draft(text, "v", "ann", "", "api")


def durable(tmp_path: Path, *arguments: str) -> RedisServer:
    server = RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always", *arguments)
    server.start()
    return server


async def test_a_revision_reaches_other_control_planes_by_its_announcement(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xds.sources.store.redis.POLL_INTERVAL", 3600.0)
    one, two = (RedisStore(redis_server.url, environment={}) for _ in range(2))
    changes = two.changes(after=0)
    waiting = asyncio.ensure_future(anext(changes))
    async with asyncio.timeout(60):
        with Redis(port=redis_server.port) as client:
            while not client.pubsub_channels():  # noqa: ASYNC110 (another process)
                await asyncio.sleep(0.01)
        appended = await one.append(draft("a"), expected=0)
        assert await waiting == appended
    await changes.aclose()
    await one.close()
    await two.close()


async def test_without_redis_reads_and_writes_are_refused_with_a_remedy_and_nothing_is_missed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = durable(tmp_path)
    one, two = (RedisStore(server.url, environment={}) for _ in range(2))
    first = await one.append(draft("a"), expected=0)
    changes = two.changes(after=0)
    assert await anext(changes) == first
    waiting = asyncio.ensure_future(anext(changes))
    server.kill()
    with pytest.raises(StoreUnavailableError, match="check Redis and the network"):
        await one.append(draft("b"), expected=1)
    with pytest.raises(StoreUnavailableError):
        await one.head()
    server.start()
    async with asyncio.timeout(60):
        second = await one.append(draft("b"), expected=1)
        assert await waiting == second
    assert await one.revision(1) == first
    assert caplog.text.count("no config changes, and writes are refused") == len((one, two))
    await changes.aclose()
    await one.close()
    await two.close()
    server.kill()


async def test_a_text_in_redis_is_read_only_up_to_the_size_of_a_config(
    redis_server: RedisServer,
) -> None:
    store = RedisStore(redis_server.url, environment={})
    revision = await store.append(draft("#" * (16 << 20)), expected=0)
    assert await store.head() == revision
    with Redis(port=redis_server.port) as client:
        client.hset("{sluice:config}:texts", "1", zlib.compress(b"#" * ((16 << 20) + 1)))
    with pytest.raises(StoreUnavailableError, match=r"is damaged: .* more than 16 MiB"):
        await store.head()
    await store.close()


@asynccontextmanager
async def proxy_that_loses_a_reply(
    port: int, meanwhile: Callable[[], Awaitable[object]]
) -> AsyncIterator[str]:
    """The URL of a proxy to Redis. It loses the first reply to a script, and calls `meanwhile`."""
    lost = False

    async def reply(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(1 << 16):
            target.write(data)

    async def connected(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        nonlocal lost
        replies, requests = await asyncio.open_connection("127.0.0.1", port)
        replying = asyncio.create_task(reply(replies, target))
        while data := await source.read(1 << 16):
            if b"EVAL" in data and not lost:
                lost = True
                replying.cancel()
                await asyncio.wait([replying])
                requests.write(data)
                assert await replies.read(1 << 16)
                await meanwhile()
                break
            requests.write(data)
        replying.cancel()
        target.close()
        requests.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"


@pytest.mark.parametrize("expected", [1, None])
async def test_an_append_whose_reply_is_lost_is_made_once_also_if_another_follows(
    redis_server: RedisServer, expected: int | None
) -> None:
    other = RedisStore(redis_server.url, environment={})
    await other.append(draft("first"), expected=0)

    async def meanwhile() -> None:
        await other.append(draft("of another"), expected=2)

    async with asyncio.timeout(60), proxy_that_loses_a_reply(redis_server.port, meanwhile) as url:
        store = RedisStore(url, environment={})
        revision = await store.append(draft("mine"), expected=expected)
        assert (revision.number, await other.revision(2)) == (2, revision)
        assert [each.number for each in await other.history(None, 10)] == [3, 2, 1]
        await store.close()
    await other.close()


@pytest.mark.parametrize("lost", ["2", "3"])
async def test_an_append_to_a_history_with_a_gap_replaces_nothing(
    redis_server: RedisServer, lost: str
) -> None:
    async with stored(redis_server) as (store, client):
        client.hdel(INFOS, lost)
        before = [client.dump(key) for key in (INFOS, TEXTS)]
        for expected in (2, None):
            with pytest.raises(StoreUnavailableError, match=r"have a gap: restore the data"):
                await store.append(draft("new"), expected=expected)
        assert [client.dump(key) for key in (INFOS, TEXTS)] == before


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (TEXTS, "x" * 20, r"incorrect header check: restore the data of Redis from a copy"),
        (INFOS, "[" * 100_000, r"the entry of revision 3 is not valid: restore"),
        (INFOS, '{"author": 1}', r"the entry of revision 3 is not valid: restore"),
        (
            INFOS,
            '{"version": "v", "author": "a", "at": NaN, "reason": "", "origin": "api"}',
            r"the entry of revision 3 is not valid: restore",
        ),
    ],
    ids=["text", "deep", "types", "nan"],
)
async def test_an_entry_that_no_control_plane_has_written_is_refused(
    redis_server: RedisServer, key: str, value: str, message: str
) -> None:
    async with stored(redis_server) as (store, client):
        client.hset(key, "3", value)
        with pytest.raises(StoreUnavailableError, match=message):
            await store.head()


async def test_keys_of_another_program_are_refused(redis_server: RedisServer) -> None:
    async with stored(redis_server) as (store, client):
        client.delete(INFOS)
        client.set(INFOS, "x")
        for call in (store.head(), store.append(draft(), expected=None)):
            with pytest.raises(StoreUnavailableError, match=r"WRONGTYPE\): another program uses"):
                await call
        assert client.get(INFOS) == b"x"


@asynccontextmanager
async def stored(server: RedisServer) -> AsyncIterator[tuple[RedisStore, Redis]]:
    """A store with three revisions, and a client of its server."""
    store = RedisStore(server.url, environment={})
    for number in range(3):
        await store.append(draft(f"{{}} # {number}"), expected=number)
    with Redis(port=server.port) as client:
        yield store, client
    await store.close()


async def test_a_redis_that_has_lost_the_history_is_not_written(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.start()
    store, other = (RedisStore(server.url, environment={}) for _ in range(2))
    await store.append(draft("a"), expected=0)
    server.kill()
    server.start()
    for attempt in (store.head(), store.append(draft("b"), expected=None)):
        with pytest.raises(StoreUnavailableError, match="has lost revisions"):
            await attempt
    # A control plane that starts now begins a new history.
    await other.append(draft("c"), expected=0)
    with pytest.raises(StoreUnavailableError, match="has lost revisions"):
        await store.head()
    await store.close()
    await other.close()
    server.kill()


async def test_a_store_has_tls_with_certificates_of_both_sides(
    shared_redis: RedisServer, tmp_path: Path
) -> None:
    make_files(tmp_path)
    variables = {
        "SLUICE_STORE_CA": "ca.crt",
        "SLUICE_STORE_CERTIFICATE": "client.crt",
        "SLUICE_STORE_PRIVATE_KEY": "client.key",
    }
    files = {name: str(tmp_path / file) for name, file in variables.items()}
    with tls_in_front_of(shared_redis.port, tmp_path) as port:
        url = f"rediss://127.0.0.1:{port}/0?prefix=tls"
        store = RedisStore(url, environment=files)
        assert (await store.append(draft(), expected=0)).number == 1
        stranger = RedisStore(url, environment={"SLUICE_STORE_CA": files["SLUICE_STORE_CA"]})
        with pytest.raises(StoreUnavailableError, match="does not respond"):
            await stranger.head()
        other = RedisStore(url, environment={})
        with pytest.raises(StoreUnavailableError, match="its certificate is not trusted: self"):
            await other.head()
        for each in (store, stranger, other):
            await each.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"SLUICE_STORE_CA": "/absent"},
            r"SLUICE_STORE_CA, .* cannot be used \(/absent\): No such",
        ),
        ({"SLUICE_STORE_PASSWORD_FILE": "/absent"}, "SLUICE_STORE_PASSWORD_FILE: the file cannot"),
        ({"SLUICE_STORE_CERTIFICATE": "/absent"}, "set both SLUICE_STORE_CERTIFICATE and"),
    ],
)
async def test_a_file_that_cannot_be_used_is_named_with_its_variable(
    changes: dict[str, str], message: str
) -> None:
    with pytest.raises(StoreUnavailableError, match=message):
        RedisStore("rediss://127.0.0.1:1/0", environment=changes)


async def test_credentials_come_from_variables_and_are_never_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = durable(tmp_path, "--requirepass", SECRET)
    refused = RedisStore(server.url, environment={"SLUICE_STORE_PASSWORD": f"{SECRET}-wrong"})
    with pytest.raises(StoreUnavailableError) as error:
        await refused.head()
    assert SECRET not in str(error.value) + caplog.text
    store = RedisStore(server.url, environment={"SLUICE_STORE_PASSWORD": SECRET})
    assert (await store.append(draft(), expected=0)).number == 1
    assert SECRET not in store.name
    await refused.close()
    await store.close()
    server.kill()


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("", "write sqlite:PATH, redis://"),
        ("sqlite:", "write sqlite:PATH"),
        ("history.db", "write sqlite:PATH"),
        ("redis://user:password@host/0", "remove the credentials"),
        ("redis://host/x", "write the number of the database"),
        ("redis://host/0?db=1", "prefix=NAME"),
        ("redis://host/0?prefix=a b", "prefix=NAME"),
    ],
)
def test_a_name_that_is_no_store_has_a_remedy(name: str, remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        check_store(name)
