"""TLS and mTLS over both transports, and ALPN of our own transport."""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import grpc
import grpc.aio
import pytest
import uvloop

from extproc.framing import length_prefixed
from extproc.rpc import unary
from extproc.transport import Tls, serve
from extproc.transport.http2 import frames
from extproc.transport.http2.header_blocks import encode_literal

from .certificates import CertificateAuthority
from .conftest import Start, running


def _credentials(
    authority: CertificateAuthority, client: tuple[Path, Path] | None
) -> grpc.ChannelCredentials:
    certificate, key = (path.read_bytes() for path in client) if client else (None, None)
    return grpc.ssl_channel_credentials(authority.path.read_bytes(), key, certificate)


async def _call(address: str, credentials: grpc.ChannelCredentials) -> bytes:
    async with grpc.aio.secure_channel(address, credentials) as client:
        response: bytes = await client.unary_unary("/test/Reverse")(b"ab" * 50_000, timeout=10)
        return response


def test_a_client_that_trusts_the_authority_is_served(start: Start, tmp_path: Path) -> None:
    async def test() -> None:
        authority = CertificateAuthority(tmp_path)
        async with start(tls=Tls(*authority.issue("server"))) as server:
            response = await _call(server.address, _credentials(authority, None))
            assert response == b"ba" * 50_000

    asyncio.run(test())


def test_mtls_serves_only_clients_with_a_certificate_of_the_authority(
    start: Start, tmp_path: Path
) -> None:
    async def test() -> None:
        authority, stranger = (
            CertificateAuthority(tmp_path),
            CertificateAuthority(tmp_path, "stranger"),
        )
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
def test_a_client_must_negotiate_h2(tmp_path: Path, offered: list[str], *, is_served: bool) -> None:
    async def test() -> None:
        authority = CertificateAuthority(tmp_path)
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


def test_a_client_without_tls_is_not_served(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tls=Tls(*CertificateAuthority(tmp_path).issue("server"))) as server:
            host, port = server.address.split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            assert b"\0\0\x12\x04" not in await reader.read()
            writer.close()

    asyncio.run(test())


def test_a_missing_key_file_is_named_in_the_error(tmp_path: Path) -> None:
    certificate, _ = CertificateAuthority(tmp_path).issue("server")
    with pytest.raises(OSError, match="key"):
        Tls(certificate, tmp_path / "no.key").context()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_later_response_is_sent_without_further_data_from_the_client(
    tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def test() -> None:
        authority = CertificateAuthority(tmp_path)
        context = ssl.create_default_context(cafile=str(authority.path))
        context.set_alpn_protocols(["h2"])
        called, may_respond = asyncio.Semaphore(0), asyncio.Semaphore(0)

        async def wait(message: bytes) -> bytes:
            called.release()
            await may_respond.acquire()
            return message[::-1]

        tls = Tls(*authority.issue("server"))
        services = {"/test/Wait": unary(wait)}
        server = serve("asyncio", services, "127.0.0.1:0", tls=tls)
        host, port = (await server.start()).split(":")
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        writer.write(frames.PREFACE + frames.settings({}) + _call_wait(1) + _call_wait(3))
        received = b""
        async with asyncio.timeout(60):
            await called.acquire()
            await called.acquire()
            for responses in (1, 2):
                may_respond.release()
                while received.count(b"ba") < responses:
                    received += await reader.read(1 << 16)
        writer.close()
        await server.close()

    with closing(loop()) as running_loop:
        running_loop.run_until_complete(test())


def _call_wait(stream_id: int) -> bytes:
    block = b"\x83\x87" + encode_literal(b":path", b"/test/Wait")
    block += encode_literal(b"content-type", b"application/grpc")
    head = frames.frame(frames.HEADERS, frames.END_HEADERS, stream_id, block)
    return head + frames.frame(frames.DATA, frames.END_STREAM, stream_id, length_prefixed(b"ab"))
