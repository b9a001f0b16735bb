"""The pool bounds what waits, times what runs, and keeps the event loop free."""

import asyncio
import functools
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


def converter(gate: threading.Event, thread_from: int = 0) -> Converter:
    """Converts anything, once the gate is open."""

    def source(body: bytes, headers: Mapping[str, str]) -> InferenceRequest:
        assert gate.wait(10)
        if body == b"bad":
            raise ConversionError(Reason.NOT_JSON, "body", "is bad")
        return InferenceRequest([Tensor("x", "UINT8", (len(body),), body)])

    return Converter("test-grpc", "grpc", SIGNATURE, ConversionLimits(), thread_from, source)


def on_loop(test: Callable[[], Coroutine[None, None, None]]) -> Callable[[], None]:
    """Run a test on an event loop of its own."""

    @functools.wraps(test)
    def run() -> None:
        asyncio.run(test())

    # Else pytest sees the coroutine function that is wrapped.
    del run.__wrapped__
    return run


def opened() -> threading.Event:
    gate = threading.Event()
    gate.set()
    return gate


@on_loop
async def test_heavy_conversions_leave_the_loop_free() -> None:
    gate, pool = threading.Event(), ConversionPool(threads=1)
    job = asyncio.ensure_future(pool.convert_request(converter(gate), b"abc", {}))
    await asyncio.sleep(0)
    assert pool.pending == 1
    gate.set()
    assert (await job).body.endswith(b"abc")
    pool.close()


@on_loop
async def test_light_conversions_take_no_thread() -> None:
    pool = ConversionPool(threads=1)
    names = []

    def source(body: bytes, headers: Mapping[str, str]) -> InferenceRequest:
        names.append(threading.current_thread())
        return InferenceRequest([Tensor("x", "UINT8", (len(body),), body)])

    light = Converter("test-grpc", "grpc", SIGNATURE, ConversionLimits(), 1000, source)
    await pool.convert_request(light, b"abc", {})
    await pool.convert_request(light, b"a" * 1000, {})
    assert names[0] is threading.main_thread()
    assert names[1] is not threading.main_thread()
    pool.close()


@on_loop
async def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
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
async def test_bytes_are_bounded_too_but_one_body_may_always_pass() -> None:
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
async def test_a_caller_that_goes_away_frees_its_place_in_the_queue() -> None:
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
async def test_failures_and_sizes_are_counted_by_converter_and_times_told() -> None:
    times: list[tuple[str, float, float | None]] = []
    pool = ConversionPool(threads=1, observe=lambda *told: times.append(told))
    await pool.convert_request(converter(opened()), b"abc", {})
    with pytest.raises(ConversionError):
        await pool.convert_request(converter(opened()), b"bad", {})
    counts = pool.counts["test-grpc"]
    assert (counts.count, counts.failed, counts.bytes_in) == (2, 1, 6)
    assert counts.bytes_out > 3
    assert [name for name, _, _ in times] == ["test-grpc", "test-grpc"]
    assert all(work > 0 and wait is not None and wait > 0 for _, work, wait in times)
    pool.close()


def test_a_worker_that_converts_nothing_never_imports_numpy_or_pillow() -> None:
    heavy = ("numpy", "PIL", "simplejpeg", "brotli")
    code = f"import sys, extproc.convert; print([m for m in {heavy} if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert printed.stdout.strip() == b"[]"
