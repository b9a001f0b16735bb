"""The pool bounds waiting conversions, times them and keeps the event loop free."""

import asyncio
import functools
import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping

import pytest

from extproc.convert import ConversionError, ConversionLimits, ConversionPool, Converter, Signature
from extproc.convert.inference import InferenceRequest
from extproc.convert.tensor import Tensor
from sluice.contract.reasons import Reason

SIGNATURE = Signature("m")


def converter(gate: threading.Event, min_thread_size: int = 0) -> Converter:
    """A converter that waits for the gate to open. It refuses the body `bad`."""

    def read(body: bytes, headers: Mapping[str, str]) -> InferenceRequest:
        assert gate.wait(10)
        if body == b"bad":
            raise ConversionError(Reason.NOT_JSON, "body", "is bad")
        return InferenceRequest([Tensor("x", "UINT8", (len(body),), body)])

    return Converter("test-grpc", "grpc", SIGNATURE, ConversionLimits(), min_thread_size, read)


def on_loop(test: Callable[[], Coroutine[None, None, None]]) -> Callable[[], None]:
    """Run a test on an event loop of its own."""

    @functools.wraps(test)
    def run() -> None:
        asyncio.run(test())

    # pytest must not find the wrapped coroutine function.
    del run.__wrapped__
    return run


def open_gate() -> threading.Event:
    gate = threading.Event()
    gate.set()
    return gate


@on_loop
async def test_large_bodies_are_converted_off_the_event_loop() -> None:
    gate, pool = threading.Event(), ConversionPool(threads=1)
    job = asyncio.ensure_future(pool.convert_request(converter(gate), b"abc", {}))
    await asyncio.sleep(0)
    assert pool.pending == 1
    gate.set()
    assert (await job).body.endswith(b"abc")
    pool.close()


@on_loop
async def test_small_bodies_are_converted_on_the_event_loop() -> None:
    pool = ConversionPool(threads=1)
    threads = []

    def read(body: bytes, headers: Mapping[str, str]) -> InferenceRequest:
        threads.append(threading.current_thread())
        return InferenceRequest([Tensor("x", "UINT8", (len(body),), body)])

    small = Converter("test-grpc", "grpc", SIGNATURE, ConversionLimits(), 1000, read)
    await pool.convert_request(small, b"abc", {})
    await pool.convert_request(small, b"a" * 1000, {})
    assert threads[0] is threading.main_thread()
    assert threads[1] is not threading.main_thread()
    pool.close()


@on_loop
async def test_a_full_queue_refuses_with_retry_after() -> None:
    gate, pool = threading.Event(), ConversionPool(threads=1, queue=2)
    jobs = [
        asyncio.ensure_future(pool.convert_request(converter(gate), b"abc", {})) for _ in range(3)
    ]
    await asyncio.sleep(0)
    with pytest.raises(ConversionError) as caught:
        await pool.convert_request(converter(gate), b"abc", {})
    assert (caught.value.status, caught.value.reason) == (503, "conversion_queue_full")
    assert caught.value.retry_after == 1
    assert pool.refused == 1
    gate.set()
    assert len(await asyncio.gather(*jobs)) == 3
    assert (await pool.convert_request(converter(gate), b"abc", {})).body
    pool.close()


@on_loop
async def test_bytes_are_bounded_but_an_idle_pool_accepts_any_body() -> None:
    gate, pool = threading.Event(), ConversionPool(threads=1, queue=10, max_bytes=10)
    first = asyncio.ensure_future(pool.convert_request(converter(gate), b"a" * 50, {}))
    await asyncio.sleep(0)
    with pytest.raises(ConversionError) as caught:
        await pool.convert_request(converter(gate), b"a", {})
    assert caught.value.status == 503
    gate.set()
    await first
    pool.close()


@on_loop
async def test_a_cancelled_caller_frees_its_place_in_the_queue() -> None:
    gate, pool = threading.Event(), ConversionPool(threads=1, queue=1)
    running = asyncio.ensure_future(pool.convert_request(converter(gate), b"abc", {}))
    waiting = asyncio.ensure_future(pool.convert_request(converter(gate), b"abc", {}))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    next_in_line = asyncio.ensure_future(pool.convert_request(converter(gate), b"def", {}))
    gate.set()
    await running
    assert (await next_in_line).body.endswith(b"def")
    pool.close()


@on_loop
async def test_conversions_are_counted_and_timed_by_converter() -> None:
    times: list[tuple[str, float, float | None]] = []
    ticks = itertools.count()
    pool = ConversionPool(
        threads=1,
        clock=lambda: float(next(ticks)),
        observe=lambda name, work, wait: times.append((name, work, wait)),
    )
    await pool.convert_request(converter(open_gate()), b"abc", {})
    with pytest.raises(ConversionError):
        await pool.convert_request(converter(open_gate()), b"bad", {})
    counts = pool.counts["test-grpc"]
    assert (counts.count, counts.failed, counts.bytes_in) == (2, 1, 6)
    assert counts.bytes_out > 3
    assert times == [("test-grpc", 1.0, 1.0), ("test-grpc", 1.0, 1.0)]
    pool.close()


def test_a_worker_without_converters_imports_neither_numpy_nor_pillow() -> None:
    libraries = ("numpy", "PIL", "simplejpeg", "brotli")
    code = f"import sys, extproc.convert; print([m for m in {libraries} if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert printed.stdout.strip() == b"[]"
