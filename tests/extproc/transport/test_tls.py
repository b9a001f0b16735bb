"""TLS and mTLS over both transports, and ALPN where the transport is ours."""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import grpc
import grpc.aio
import pytest
import uvloop

from extproc.framing import frame
from extproc.rpc import unary
from extproc.transport import Tls, serve
from extproc.transport.http2 import frames
from extproc.transport.http2.fields import literal

from .certificates import Authority
from .conftest import Start, running


def _credentials(authority: Authority, client: tuple[Path, Path] | None) -> grpc.ChannelCredentials:
    certificate, key = (path.read_bytes() for path in client) if client else (None, None)
    return grpc.ssl_channel_credentials(authority.path.read_bytes(), key, certificate)


async def _call(address: str, credentials: grpc.ChannelCredentials) -> bytes:
    async with grpc.aio.secure_channel(address, credentials) as client:
        answer: bytes = await client.unary_unary("/test/Unary")(b"ab" * 50_000, timeout=10)
        return answer


def test_a_client_that_trusts_the_authority_is_served(start: Start, tmp_path: Path) -> None:
    async def test() -> None:
        authority = Authority(tmp_path)
        async with start(tls=Tls(*authority.issue("server"))) as server:
            answer = await _call(server.address, _credentials(authority, None))
            assert answer == b"ba" * 50_000

    asyncio.run(test())


def test_mtls_serves_only_clients_that_the_authority_signed(start: Start, tmp_path: Path) -> None:
    async def test() -> None:
        authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
        tls = Tls(*authority.issue("server"), client_ca=authority.path)
        async with start(tls=tls) as server:
            known = _credentials(authority, authority.issue("client"))
            assert await _call(server.address, known) == b"ba" * 50_000
            for certificate in (None, stranger.issue("other")):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await _call(server.address, _credentials(authority, certificate))
                assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
            assert server.server.counters.streams_opened == 1

    asyncio.run(test())


@pytest.mark.parametrize(("offered", "is_served"), [(["h2"], True), (["http/1.1"], False)])
def test_a_client_must_agree_on_h2(tmp_path: Path, offered: list[str], *, is_served: bool) -> None:
    async def test() -> None:
        authority = Authority(tmp_path)
        context = ssl.create_default_context(cafile=str(authority.path))
        context.set_alpn_protocols(offered)
        async with running(tls=Tls(*authority.issue("server"))) as server:
            host, port = server.address.split(":")
            try:
                reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
                first = await reader.read(100)
                writer.close()
            except (ssl.SSLError, ConnectionError):
                first = b""
            assert (first != b"") is is_served

    asyncio.run(test())


def test_a_client_without_tls_gets_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tls=Tls(*Authority(tmp_path).issue("server"))) as server:
            host, port = server.address.split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            assert b"\0\0\x12\x04" not in await reader.read()
            writer.close()

    asyncio.run(test())


def test_files_that_cannot_be_used_are_errors_at_start(tmp_path: Path) -> None:
    certificate, _ = Authority(tmp_path).issue("server")
    with pytest.raises(OSError, match="key"):
        Tls(certificate, tmp_path / "no.key").context()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_what_is_answered_later_does_not_wait_for_the_client_to_send_on(
    tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def test() -> None:
        authority = Authority(tmp_path)
        context = ssl.create_default_context(cafile=str(authority.path))
        context.set_alpn_protocols(["h2"])
        asked, may_answer = asyncio.Semaphore(0), asyncio.Semaphore(0)

        async def held(message: bytes) -> bytes:
            asked.release()
            await may_answer.acquire()
            return message[::-1]

        tls = Tls(*authority.issue("server"))
        services = {"/test/Held": unary(held)}
        server = serve("asyncio", services, "127.0.0.1:0", tls=tls)
        host, port = (await server.start()).split(":")
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        writer.write(frames.PREFACE + frames.settings({}) + _call_held(1) + _call_held(3))
        received = b""
        async with asyncio.timeout(5):
            await asked.acquire()
            await asked.acquire()
            for answers in (1, 2):
                may_answer.release()
                while received.count(b"ba") < answers:
                    received += await reader.read(1 << 16)
        writer.close()
        await server.close()

    with closing(loop()) as running_loop:
        running_loop.run_until_complete(test())


def _call_held(stream_id: int) -> bytes:
    block = b"\x83\x87" + literal(b":path", b"/test/Held")
    block += literal(b"content-type", b"application/grpc")
    head = frames.frame(frames.HEADERS, frames.END_HEADERS, stream_id, block)
    return head + frames.frame(frames.DATA, frames.END_STREAM, stream_id, frame(b"ab"))
