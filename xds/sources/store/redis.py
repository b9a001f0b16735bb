"""A store in Redis, for several control planes of one gateway.

The history is three hashes with the number of the revision as field: what the history shows, the
compressed texts, and the tokens of the appends. Its length is the number of the head. Scripts
compare and append, so they are atomic. An append is announced (PUBLISH), and every reader also
polls, so that nothing is missed.

Redis must keep what it has acknowledged: `appendonly yes`, and `maxmemory-policy noeviction`.
"""

import asyncio
import json
import os
import ssl
import time
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import parse_qsl, urlsplit, urlunsplit
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from sluice.config.files import UnusableFileError
from sluice.config.limit_backend import check_redis_url
from sluice.redis_files import FollowedClient, RedisCredentials
from xds.sources.store.availability import Availability
from xds.sources.store.changes import Notifications, follow
from xds.sources.store.store import (
    MAX_HISTORY,
    ConflictError,
    Draft,
    Record,
    RecordConflictError,
    Revision,
    RevisionInfo,
    StoreUnavailableError,
    check_record,
)
from xds.sources.store.text import compressed, decompressed

TIMEOUT: Final = 3.0
"""Seconds of an exchange with Redis."""

POLL_INTERVAL: Final = 1.0
"""Seconds between two looks for revisions, without an announcement."""

USERNAME, PASSWORD = "SLUICE_STORE_USERNAME", "SLUICE_STORE_PASSWORD"
PASSWORD_FILE, CA = "SLUICE_STORE_PASSWORD_FILE", "SLUICE_STORE_CA"
CERTIFICATE, PRIVATE_KEY = "SLUICE_STORE_CERTIFICATE", "SLUICE_STORE_PRIVATE_KEY"
"""Environment variables with the credentials, and with files: of the password, and for `rediss:` of
the CA, of the own certificate and of its key."""

REDIS_FORM: Final = "redis://HOST:PORT/DB or rediss://HOST:PORT/DB (TLS)"
DEFAULT_PREFIX: Final = "sluice"

MAX_MISSED: Final = 1000
"""Revisions in which an append that is repeated looks for its first attempt, to bound its time."""

_APPEND: Final = """
local id = redis.call('GET', KEYS[3])
if ARGV[5] ~= '' and ARGV[5] ~= id then return {-1} end
local number = redis.call('HLEN', KEYS[1])
for each = math.max(tonumber(ARGV[7]), number - tonumber(ARGV[8])) + 1, number do
  if redis.call('HGET', KEYS[4], each) == ARGV[6] then return {1, each} end
end
if ARGV[1] ~= '' and tonumber(ARGV[1]) ~= number then return {0, number} end
if number > 0 and redis.call('HEXISTS', KEYS[1], number) == 0 then return {-2, number} end
number = number + 1
if redis.call('HEXISTS', KEYS[1], number) == 1 or redis.call('HEXISTS', KEYS[2], number) == 1 then
  return {-2, number}
end
if not id then redis.call('SET', KEYS[3], ARGV[6]) end
redis.call('HSETNX', KEYS[4], number, ARGV[6])
redis.call('HSETNX', KEYS[1], number, ARGV[2])
redis.call('HSETNX', KEYS[2], number, ARGV[3])
redis.call('PUBLISH', ARGV[4], number)
return {1, number}
"""

# A connection may end after Redis has run the script. The client then runs it again, and the script
# knows the append by its token (`KEYS[4]`), also if another writer has appended meanwhile. It looks
# at the revisions after the head that the writer knew (`ARGV[7]`). An append never replaces what is
# there: with a gap, the length of the history is no longer the number of the head.

_PUT: Final = """
local present = redis.call('HGET', KEYS[1], ARGV[1])
local number = 0
if present then number = tonumber(string.match(present, '^(%d+):')) end
if ARGV[2] ~= '' and tonumber(ARGV[2]) ~= number then return {0, present or ''} end
redis.call('HSET', KEYS[1], ARGV[1], (number + 1) .. ':' .. ARGV[3])
return {1, number + 1}
"""


_REMEDIES: Final[Mapping[str, str]] = {
    "WRONGTYPE": "another program uses its keys; name another database or ?prefix=NAME",
    "OOM": "give Redis more memory",
    "READONLY": "name the Redis that takes writes",
    "MISCONF": "check the disk of Redis",
}
"""What to do about an error of Redis, by its code."""


class _DamagedError(Exception):
    """Redis has what no control plane has written."""


class _Entry(BaseModel):
    """What the history shows of a revision."""

    model_config = ConfigDict(extra="forbid")

    version: str
    author: str
    at: FiniteFloat
    reason: str
    origin: str
    nodes: FiniteFloat | None = None


class RedisStore:
    """A store at the URL `redis://HOST:PORT/DB[?prefix=NAME]`. Raises ValueError for another."""

    def __init__(
        self,
        url: str,
        *,
        environment: Mapping[str, str] = os.environ,
        now: Callable[[], float] = time.time,
    ) -> None:
        server, prefix = check_url(url)
        self.name = url
        self._now = now
        self._client = _followed_client(server, _credentials(environment))
        self._infos, self._texts, self._records, self._id, self._tokens, self._channel = (
            f"{{{prefix}:config}}:{kind}"
            for kind in ("revisions", "texts", "records", "id", "tokens", "appended")
        )
        self._notifications = Notifications()
        self._history: bytes | None = None
        """The id of the history that this process knows; None before it has seen a revision."""
        self._listener: asyncio.Task[None] | None = None
        self._availability = Availability(url)

    async def head(self) -> Revision | None:
        async with self._exchange():
            _, length = await self._state()
            return await self._present(length) if length else None

    async def append(self, draft: Draft, *, expected: int | None) -> Revision:
        now = self._now()
        info = _known(draft) | {"at": now}
        text = await asyncio.to_thread(compressed, draft.text)
        async with self._exchange():
            keys = [self._infos, self._texts, self._id, self._tokens]
            base = (await self._state())[1] if expected is None else expected
            known = self._history or b""
            number = "" if expected is None else str(expected)
            arguments: list[str | bytes] = [
                number, json.dumps(info), text, self._channel, known, uuid4().hex,
                str(base), str(MAX_MISSED),
            ]  # fmt: skip
            outcome, *rest = map(int, await self._run(_APPEND, keys, arguments))
            if outcome == -1:
                raise self._lost()
            if outcome == -2:
                raise _DamagedError(f"its revisions up to {rest[0]} have a gap")
            if outcome == 0:
                raise ConflictError(await self._info(rest[0]) if rest[0] else None)
            await self._state()
        self._notifications.notify()
        return Revision(number=rest[0], at=now, **asdict(draft))

    async def revision(self, number: int) -> Revision | None:
        async with self._exchange():
            return await self._revision(number)

    async def history(self, before: int | None, limit: int) -> list[RevisionInfo]:
        async with self._exchange():
            _, length = await self._state()
            newest = length if before is None else min(length, before - 1)
            oldest = max(1, newest - max(0, min(limit, MAX_HISTORY)) + 1)
            numbers = range(newest, oldest - 1, -1)
            if not numbers:
                return []
            found = await self._many(self._infos, list(map(str, numbers)))
            return [_info(n, info) for n, info in zip(numbers, found, strict=True) if info]

    def changes(self, after: int | None = None) -> AsyncGenerator[Revision]:
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen())
        return follow(self._next, self.head, self._notifications, after, POLL_INTERVAL)

    async def record(self, key: str) -> Record | None:
        async with self._exchange():
            return _record(key, await self._get(self._records, key))

    async def put_record(self, key: str, value: bytes, *, expected: int | None) -> Record:
        check_record(key, value)
        async with self._exchange():
            number = "" if expected is None else str(expected)
            _, content = await self._run(_PUT, [self._records], [key, number, value])
        if isinstance(content, int):
            return Record(key, content, value)
        raise RecordConflictError(key, _record(key, content or None))

    async def records(self, prefix: str) -> list[Record]:
        async with self._exchange():
            call = self._client().hgetall(self._records)
            found = await cast("Awaitable[dict[bytes, bytes]]", call)
        records = (_record(key.decode(), value) for key, value in sorted(found.items()))
        return [each for each in records if each is not None and each.key.startswith(prefix)]

    async def close(self) -> None:
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
        await self._client.aclose()

    async def _next(self, number: int) -> Revision | None:
        """The first revision from a number on. Raises StoreUnavailableError if Redis lost some."""
        async with self._exchange():
            _, length = await self._state()
            if length < number - 1:
                raise self._lost()
            return await self._present(number) if length >= number else None

    async def _listen(self) -> None:
        """Wake the iterators of `changes` after each announcement, and after each connection."""
        while True:
            with suppress(RedisError, OSError):
                async with self._client().pubsub() as channel:
                    await channel.subscribe(self._channel)
                    while True:
                        await channel.get_message(timeout=None)
                        self._notifications.notify()
            await asyncio.sleep(POLL_INTERVAL)

    async def _state(self) -> tuple[bytes | None, int]:
        """The id and the length of the history. Raises StoreUnavailableError for another one."""
        async with self._client().pipeline(transaction=True) as pipeline:
            pipeline.get(self._id)
            pipeline.hlen(self._infos)
            found, length = cast("tuple[bytes | None, int]", await pipeline.execute())
        if self._history is not None and found != self._history:
            raise self._lost()
        self._history = found
        return found, length

    async def _revision(self, number: int) -> Revision | None:
        async with self._client().pipeline(transaction=True) as pipeline:
            pipeline.hget(self._infos, str(number))
            pipeline.hget(self._texts, str(number))
            info, text = cast("list[bytes | None]", await pipeline.execute())
        if info is None or text is None:
            return None
        content = await asyncio.to_thread(decompressed, text)
        return Revision(text=content, **asdict(_info(number, info)))

    async def _present(self, number: int) -> Revision:
        """A revision that the history must have. Raises _DamagedError."""
        found = await self._revision(number)
        if found is None:
            raise _DamagedError(f"revision {number} is missing")
        return found

    async def _info(self, number: int) -> RevisionInfo | None:
        info = await self._get(self._infos, str(number))
        return None if info is None else _info(number, info)

    async def _get(self, key: str, field: str) -> bytes | None:
        return await cast("Awaitable[bytes | None]", self._client().hget(key, field))

    async def _many(self, key: str, fields: list[str]) -> list[bytes | None]:
        return await cast("Awaitable[list[bytes | None]]", self._client().hmget(key, fields))

    async def _run(
        self, script: str, keys: list[str], arguments: list[str | bytes]
    ) -> list[bytes | int]:
        call = self._client().eval(script, len(keys), *keys, *arguments)
        return await cast("Awaitable[list[bytes | int]]", call)

    def _unavailable(self, what: str, remedy: str) -> StoreUnavailableError:
        message = f"the store {self.name} {what}: {remedy}, and try again"
        self._availability.failed(message)
        return StoreUnavailableError(message)

    def _lost(self) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"the store {self.name} has lost revisions that this control plane has served; restore "
            "the data of Redis, or start the control planes again with a CONFIG"
        )

    @asynccontextmanager
    async def _exchange(self) -> AsyncIterator[None]:
        """Turns failures of Redis into StoreUnavailableError."""
        try:
            yield
        except StoreUnavailableError as error:
            self._availability.failed(str(error))
            raise
        except ResponseError as error:
            # The text may name the user.
            code = next((each for each in _REMEDIES if each in str(error)), type(error).__name__)
            failure = f"refuses ({code})", _REMEDIES.get(code, "check Redis and the rights there")
            raise self._unavailable(*failure) from error
        except (RedisError, OSError) as error:
            failure = f"does not respond ({_cause(error)})", "check Redis and the network"
            raise self._unavailable(*failure) from error
        except (zlib.error, ValueError, _DamagedError) as error:
            failure = f"is damaged: {error}", "restore the data of Redis from a copy"
            raise self._unavailable(*failure) from error
        else:
            self._availability.succeeded()


def check_url(url: str) -> tuple[str, str]:
    """The URL of the server, and the prefix of the keys. Raises ValueError with a remedy."""
    parts = urlsplit(url)
    server = check_redis_url(urlunsplit(parts._replace(query="")))
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    prefix = query.pop("prefix", DEFAULT_PREFIX)
    if query or not prefix.replace("-", "").replace("_", "").isalnum() or len(prefix) > 64:
        raise ValueError(f"write {REDIS_FORM}, and at most ?prefix=NAME for the keys of a gateway")
    return server, prefix


def _credentials(environment: Mapping[str, str]) -> RedisCredentials:
    files = (environment.get(each) for each in (PASSWORD_FILE, CA, CERTIFICATE, PRIVATE_KEY))
    paths = (Path(name) if name else None for name in files)
    return RedisCredentials(environment.get(USERNAME), environment.get(PASSWORD), *paths)


def _followed_client(url: str, credentials: RedisCredentials) -> FollowedClient[Redis]:
    """Raises StoreUnavailableError for files that cannot be used, with their variables."""
    if (credentials.certificate is None) != (credentials.private_key is None):
        raise StoreUnavailableError(f"set both {CERTIFICATE} and {PRIVATE_KEY}, or none")
    try:
        return FollowedClient(credentials.files, partial(_client, url, credentials))
    except UnusableFileError as error:
        raise StoreUnavailableError(
            f"{PASSWORD_FILE}: {error}; correct the variable or the file"
        ) from None
    except OSError as error:
        file = f" ({error.filename})" if error.filename else ""
        raise StoreUnavailableError(
            f"{CA}, {CERTIFICATE} and {PRIVATE_KEY}: a file cannot be used{file}: "
            f"{error.strerror}; correct the variable or the file"
        ) from None


def _client(url: str, credentials: RedisCredentials) -> Redis:
    """Raises UnusableFileError and OSError."""
    login: dict[str, Any] = credentials.login()
    # Each option of TLS is an error without TLS.
    tls: dict[str, Any] = credentials.tls() if url.startswith("rediss:") else {}
    return Redis.from_url(
        url,
        socket_timeout=TIMEOUT,
        socket_connect_timeout=TIMEOUT,
        # Once: connections that were open when Redis restarted are closed.
        retry=Retry(NoBackoff(), 1),
        **login,
        **tls,
    )


def _cause(error: BaseException) -> str:
    """The kind of an error, and why TLS has failed. Other texts may name the user."""
    each: BaseException | None = error
    while each is not None:
        if isinstance(each, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {each.verify_message}"
        if isinstance(each, ssl.SSLError):
            return f"TLS fails: {str(each.reason).replace('_', ' ').lower()}"
        each = each.__cause__ or each.__context__
    return type(error).__name__


def _known(draft: Draft) -> dict[str, str | float]:
    """What the history shows of a revision. Earlier releases can read one without `nodes`."""
    fields = asdict(draft).items()
    return {key: value for key, value in fields if key != "text" and value is not None}


def _info(number: int, info: bytes) -> RevisionInfo:
    """The entry of a revision. Raises _DamagedError if this program has not written it."""
    try:
        entry = _Entry.model_validate_json(info)
    except ValidationError:
        raise _DamagedError(f"the entry of revision {number} is not valid") from None
    return RevisionInfo(number=number, **entry.model_dump())


def _record(key: str, content: bytes | None) -> Record | None:
    if content is None:
        return None
    number, _, value = content.partition(b":")
    return Record(key, int(number), value)
