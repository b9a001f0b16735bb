"""The pool bounds waiting conversions, times them and keeps the event loop free."""

import asyncio
import base64
import functools
import gzip
import io
import itertools
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping

import brotli
import pytest
from PIL import Image

from extproc.convert import (
    Conversion,
    ConversionError,
    ConversionLimits,
    ConversionPool,
    ConvertedMessage,
    Converter,
    Converters,
    Signature,
)
from extproc.convert.converted_message import Steps
from extproc.convert.inference import InferenceRequest, Reading, ResponseOptions
from extproc.convert.pool import Group
from extproc.convert.tensor import Tensor
from extproc.memory_budget import MemoryBudget
from sluice.config.tensors import ImageInput, TensorInput
from sluice.contract.reasons import Reason
from tests.extproc.convert.payloads import sent
from tests.zstd import zstd

SIGNATURE = Signature("m")


def converter(
    gate: threading.Event, *, parallel: bool = False, calls: list[bytes] | None = None
) -> Converter:
    """A converter that waits for the gate to open. It refuses the body `bad`."""

    def read(body: bytes, headers: Mapping[str, str]) -> Reading:
        yield 0
        if calls is not None:
            calls.append(body)
        assert gate.wait(60)
        if body == b"bad":
            raise ConversionError(Reason.NOT_JSON, "body", "is bad")
        return InferenceRequest([Tensor("x", "UINT8", (len(body),), body)])

    limits = ConversionLimits()
    return Converter("test-grpc", "grpc", SIGNATURE, limits, 0, read, releases_lock=parallel)


def convert(
    pool: ConversionPool,
    gate: threading.Event,
    caller: str = "a",
    *,
    body: bytes = b"abc",
    parallel: bool = False,
    calls: list[bytes] | None = None,
) -> asyncio.Future[ConvertedMessage]:
    """Start a conversion that waits for the gate."""
    waiting = converter(gate, parallel=parallel, calls=calls)
    return finished(pool.for_caller(caller).convert_request(waiting, body, {}))


def finished(conversion: Conversion) -> asyncio.Future[ConvertedMessage]:
    """The result of a conversion that does not run on the event loop."""
    assert isinstance(conversion, Awaitable)

    async def result() -> ConvertedMessage:
        converted = await conversion
        assert converted is not None
        return converted

    return asyncio.ensure_future(result())


async def until(condition: Callable[[], bool]) -> None:
    """Run the event loop until the condition is true."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  (a thread changes it, through the loop)
            await asyncio.sleep(0)


async def refusal(job: asyncio.Future[ConvertedMessage]) -> ConversionError:
    """The error of a conversion that is refused."""
    with pytest.raises(ConversionError) as caught:
        await job
    return caught.value


def on_loop(test: Callable[[], Coroutine[None, None, None]]) -> Callable[[], None]:
    """Run a test on an event loop of its own."""

    @functools.wraps(test)
    def run() -> None:
        asyncio.run(test())

    # pytest must not find the wrapped coroutine function.
    del run.__wrapped__
    return run


def on_loop_with_arguments(test: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    """The same for a test with parameters."""

    @functools.wraps(test)
    def run(**arguments: object) -> None:
        asyncio.run(test(**arguments))

    return run


def open_gate() -> threading.Event:
    gate = threading.Event()
    gate.set()
    return gate


@on_loop
async def test_large_bodies_are_converted_off_the_event_loop() -> None:
    gate, pool = threading.Event(), ConversionPool(threads=1)
    job = convert(pool, gate)
    await asyncio.sleep(0)
    assert pool.pending == 1
    gate.set()
    assert (await job).body.endswith(b"abc")
    assert pool.pending == 0
    pool.close()


@on_loop
async def test_small_bodies_are_converted_on_the_event_loop() -> None:
    pool = ConversionPool(threads=1)
    threads = []

    def read(body: bytes, headers: Mapping[str, str]) -> Reading:
        yield 0
        threads.append(threading.current_thread())
        return InferenceRequest([Tensor("x", "UINT8", (len(body),), body)])

    small = Converter("test-grpc", "grpc", SIGNATURE, ConversionLimits(), 1000, read)
    pool.for_caller("a").convert_request(small, b"abc", {})
    assert len(threads) == 1
    await finished(pool.for_caller("a").convert_request(small, b"a" * 1000, {}))
    assert threads[0] is threading.main_thread()
    assert threads[1] is not threading.main_thread()
    pool.close()


@on_loop
async def test_a_full_queue_refuses_with_retry_after() -> None:
    gate, pool = threading.Event(), ConversionPool(threads=1, queue=2)
    jobs = [convert(pool, gate, caller) for caller in "abc"]
    await asyncio.sleep(0)
    caught = await refusal(convert(pool, gate, "d"))
    assert (caught.status, caught.reason) == (503, "conversion_queue_full")
    assert caught.retry_after == 1
    assert pool.refused == 1
    gate.set()
    assert len(await asyncio.gather(*jobs)) == 3
    assert (await convert(pool, gate)).body
    pool.close()


@on_loop
async def test_a_caller_that_fills_the_queue_makes_room_for_another() -> None:
    gate, pool = threading.Event(), ConversionPool(threads=1, queue=4)
    jobs = [convert(pool, gate, caller) for caller in "abcbc"]
    await asyncio.sleep(0)
    honest = convert(pool, gate, "honest")
    assert (await refusal(jobs[3])).reason == "conversion_queue_full"
    gate.set()
    assert (await honest).body
    pool.close()


@on_loop
async def test_a_caller_with_much_thread_time_waits_behind_others() -> None:
    order: list[str] = []
    release = threading.Semaphore(0)

    def read(body: bytes, headers: Mapping[str, str]) -> Reading:
        yield 0
        assert release.acquire(timeout=10)
        order.append(body.decode())
        return InferenceRequest([Tensor("x", "UINT8", (len(body),), body)])

    ticks = itertools.count()
    pool = ConversionPool(threads=1, clock=lambda: float(next(ticks)))
    blocking = Converter("test-grpc", "grpc", SIGNATURE, ConversionLimits(), 0, read)
    jobs = [
        finished(pool.for_caller(name[0]).convert_request(blocking, name.encode(), {}))
        for name in ("a1", "a2", "a3", "b1")
    ]
    for done in range(1, 5):
        release.release()
        await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        await until(lambda: sum(job.done() for job in jobs) == done)  # noqa: B023
    assert order == ["a1", "b1", "a2", "a3"]
    pool.close()


@on_loop
async def test_a_caller_leaves_one_thread_to_others() -> None:
    gate, pool = threading.Event(), ConversionPool(threads=2)
    held = [convert(pool, gate, "a", parallel=True) for _ in range(3)]
    await asyncio.sleep(0)
    assert (await convert(pool, open_gate(), "b", parallel=True)).body
    assert not any(job.done() for job in held)
    gate.set()
    assert len(await asyncio.gather(*held)) == 3
    pool.close()


@on_loop
async def test_work_that_holds_the_interpreter_lock_has_a_thread_of_its_own() -> None:
    gate, pool = threading.Event(), ConversionPool(threads=2)
    held = [convert(pool, gate, caller) for caller in "ab"]
    await asyncio.sleep(0)
    assert (await convert(pool, open_gate(), "c", parallel=True)).body
    assert not any(job.done() for job in held)
    gate.set()
    await asyncio.gather(*held)
    pool.close()


@on_loop
async def test_a_short_body_does_not_wait_for_a_long_one() -> None:
    gate, pool = threading.Event(), ConversionPool()
    held = convert(pool, gate, body=bytes(300_000))
    await asyncio.sleep(0)
    assert (await convert(pool, open_gate())).body
    assert not held.done()
    gate.set()
    await held
    pool.close()


@pytest.mark.parametrize("name", [b"b64", b"\\u0062\\u0036\\u0034"])
def test_a_picture_in_a_small_document_is_decoded_off_the_event_loop(name: bytes) -> None:
    image = ImageInput.model_validate({"width": 4, "height": 4})
    declared = TensorInput.model_validate(
        {"name": "image", "datatype": "UINT8", "shape": (-1, 4, 4, 3), "image": image}
    )
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    body = b'{"image": [{"%b": "%b"}]}' % (name, base64.b64encode(buffer.getvalue()))
    waits: list[float | None] = []

    async def run() -> None:
        pool = ConversionPool(observe=lambda _name, _work, wait: waits.append(wait))
        converter = Converters(Signature("m", inputs=(declared,)), "grpc").choose(
            "application/json"
        )
        assert converter is not None
        await finished(pool.for_caller("a").convert_request(converter, body, {}))
        pool.close()

    asyncio.run(run())
    assert waits[0] is not None


def picture_converter(datatype: str = "FP32", side: int = 64) -> Converter:
    """A converter for JPEGs, which become tensors of `side` x `side` pixels."""
    image = ImageInput.model_validate({"width": side, "height": side})
    declared = TensorInput.model_validate(
        {"name": "i", "datatype": datatype, "shape": (-1, side, side, 3), "image": image}
    )
    chosen = Converters(Signature("m", inputs=(declared,)), "grpc").choose("image/jpeg")
    assert chosen is not None
    return chosen


def jpeg(width: int = 64, height: int = 64, **options: object) -> bytes:
    """A gray JPEG."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (90, 90, 90)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


SHORT = jpeg()
PADDED = SHORT[:2] + b"\xff\xfe\x07\xd2" + b"\xff" * 2000 + SHORT[2:]
"""A comment whose bytes may be markers."""


@on_loop
async def test_a_small_jpeg_is_decoded_on_the_event_loop() -> None:
    pool = ConversionPool()
    converted = pool.for_caller("a").convert_request(picture_converter(), SHORT, {})
    assert isinstance(converted, ConvertedMessage)
    (tensor,) = sent(converted).raw_input_contents
    assert len(tensor) == 64 * 64 * 3 * 4
    pool.close()


@pytest.mark.parametrize(
    ("body", "headers", "side"),
    [
        (jpeg(65, 64), {}, 64),
        (jpeg(640, 640), {}, 640),
        (jpeg(300, 300, progressive=True), {}, 300),
        (PADDED, {}, 64),
        (SHORT + bytes(1 << 16), {}, 64),
        (gzip.compress(SHORT), {"content-encoding": "gzip"}, 64),
    ],
    ids=["resized", "large", "several scans", "many segments", "large file", "compressed"],
)
@on_loop_with_arguments
async def test_other_images_are_decoded_on_a_thread(
    body: bytes, headers: dict[str, str], side: int
) -> None:
    waits: list[float | None] = []
    pool = ConversionPool(observe=lambda _name, _work, wait: waits.append(wait))
    chosen = picture_converter("UINT8", side)
    converted = await finished(pool.for_caller("a").convert_request(chosen, body, headers))
    assert converted.body == chosen.convert_request(body, headers).body
    assert waits[0] is not None
    pool.close()


@on_loop
async def test_a_small_jpeg_without_memory_waits_as_others() -> None:
    memory = MemoryBudget(1 << 20)
    pool = ConversionPool(memory=memory)
    assert memory.reserve((1 << 20) - 60_000)
    job = finished(pool.for_caller("a").convert_request(picture_converter(), SHORT, {}))
    await until(lambda: pool.waits_for_memory)
    memory.release((1 << 20) - 60_000)
    assert (await job).body
    assert memory.used == 0
    pool.close()


@on_loop
async def test_a_small_jpeg_whose_tensor_never_fits_is_refused() -> None:
    pool = ConversionPool(memory=MemoryBudget(40_000))
    job = finished(pool.for_caller("a").convert_request(picture_converter(), SHORT, {}))
    assert (await refusal(job)).reason == "body_too_large"
    pool.close()


@on_loop
async def test_a_caller_that_converts_all_the_time_uses_threads_for_small_jpegs() -> None:
    # The pool reads the clock before it chooses, before the conversion and after it.
    times = itertools.accumulate(itertools.cycle((0, 0, 1)))
    pool = ConversionPool(clock=lambda: float(next(times)))
    chosen, caller = picture_converter(), pool.for_caller("a")
    conversions = 0
    while isinstance(later := caller.convert_request(chosen, SHORT, {}), ConvertedMessage):
        conversions += 1
    assert conversions == 10  # the half-life of the usage: 10 s at 1 s for each
    assert isinstance(pool.for_caller("b").convert_request(chosen, SHORT, {}), ConvertedMessage)
    await finished(later)
    pool.close()


@on_loop
async def test_a_broken_small_jpeg_is_refused_at_once() -> None:
    pool = ConversionPool()
    for body in (SHORT[:200], SHORT[:-200]):
        with pytest.raises(ConversionError) as caught:
            pool.for_caller("a").convert_request(picture_converter(), body, {})
        assert caught.value.reason == "broken_image"
    assert pool.counts["image-grpc"].failed == 2
    pool.close()


@on_loop
async def test_a_caller_that_leaves_is_dropped_from_the_queue() -> None:
    memory = MemoryBudget(1600)
    gate, pool = threading.Event(), ConversionPool(threads=1, memory=memory)
    calls: list[bytes] = []
    running = convert(pool, gate, calls=calls)
    waiting = convert(pool, gate, body=b"left", calls=calls)
    await asyncio.sleep(0)
    used = memory.used
    waiting.cancel()
    await asyncio.wait([waiting])
    assert (pool.pending, memory.used) == (1, used - len(b"left"))
    gate.set()
    await running
    assert calls == [b"abc"]
    assert memory.used == 0
    pool.close()


@on_loop
async def test_a_running_conversion_keeps_its_place_when_its_caller_leaves() -> None:
    memory = MemoryBudget(1600)
    gate, pool = threading.Event(), ConversionPool(threads=1, memory=memory)
    running = convert(pool, gate)
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])
    assert pool.pending == 1
    assert memory.used > 0
    gate.set()
    assert (await convert(pool, gate)).body
    assert memory.used == 0
    pool.close()


@on_loop
async def test_a_conversion_that_waits_too_long_is_refused_before_it_starts() -> None:
    gate, pool = threading.Event(), ConversionPool(threads=1)
    calls: list[bytes] = []
    running = convert(pool, gate, "a", calls=calls)
    await until(lambda: bool(calls))
    pool.set_timeout(0.02)
    late = convert(pool, gate, "b", body=b"late", calls=calls)
    caught = await refusal(late)
    assert (caught.status, caught.reason) == (503, "conversion_queue_full")
    assert caught.retry_after == 1
    gate.set()
    await running
    assert calls == [b"abc"]
    pool.close()


@on_loop
async def test_a_conversion_that_takes_too_long_is_refused_and_keeps_its_thread() -> None:
    memory = MemoryBudget(1600)
    gate, pool = threading.Event(), ConversionPool(threads=1, memory=memory)
    pool.set_timeout(0.02)
    caught = await refusal(convert(pool, gate))
    assert (caught.status, caught.reason, caught.retry_after) == (503, "conversion_timeout", 1)
    assert (pool.pending, pool.refused) == (1, 1)
    assert memory.used > 0
    gate.set()
    await until(lambda: pool.pending == 0)
    assert memory.used == 0
    pool.set_timeout()
    assert (await convert(pool, gate)).body
    pool.close()


@on_loop
async def test_a_conversion_reserves_memory_while_it_runs() -> None:
    memory = MemoryBudget(1600)
    gate, pool = threading.Event(), ConversionPool(threads=1, memory=memory)
    job = convert(pool, gate, body=b"a" * 250)
    await asyncio.sleep(0)
    assert memory.used >= 250
    gate.set()
    await job
    assert memory.used == 0
    pool.close()


@on_loop
async def test_decoders_are_counted_with_the_window_that_a_sender_may_choose() -> None:
    """16 MiB in brotli and 8 MiB in zstd, also for a short body."""
    pool = ConversionPool(memory=MemoryBudget(8 << 20))
    limits = ConversionLimits(max_body=1 << 20)
    chosen = Converters(SIGNATURE, "grpc", limits).choose("application/json")
    assert chosen is not None
    body = b'{"inputs":[{"name":"x","datatype":"UINT8","shape":[1],"data":[7]}]}'

    def compressed(coding: str, data: bytes) -> asyncio.Future[ConvertedMessage]:
        conversion = pool.for_caller("a").convert_request(
            chosen, data, {"content-encoding": coding}
        )
        return finished(conversion)

    assert (await compressed("gzip", gzip.compress(body))).body
    assert (await refusal(compressed("br", brotli.compress(body)))).reason == "body_too_large"
    assert (await refusal(compressed("zstd", zstd.compress(body)))).reason == "body_too_large"
    pool.close()


@on_loop
async def test_a_conversion_waits_for_memory_of_others() -> None:
    memory = MemoryBudget(1600)
    pool = ConversionPool(threads=1, memory=memory)
    assert memory.reserve(800)
    job = convert(pool, open_gate(), body=b"a" * 250)
    await until(lambda: pool.waits_for_memory)
    assert not job.done()
    assert (await convert(pool, open_gate(), "b")).body
    memory.release(800)
    assert (await job).body
    assert memory.used == 0
    pool.close()


@on_loop
async def test_a_conversion_that_gets_no_memory_in_time_is_refused() -> None:
    memory = MemoryBudget(1600)
    pool = ConversionPool(threads=1, memory=memory)
    pool.set_timeout(0.02)
    assert memory.reserve(800)
    caught = await refusal(convert(pool, open_gate(), body=b"a" * 250))
    assert (caught.status, caught.reason, caught.retry_after) == (503, "memory_exhausted", 1)
    assert memory.used == 800
    pool.close()


@on_loop
async def test_bodies_that_wait_do_not_keep_each_other_from_running() -> None:
    memory = MemoryBudget(1600)
    pool = ConversionPool(threads=1, memory=memory)
    # With three bodies, the spare of 400 would not stay free. The transport holds 300.
    assert memory.reserve(300)

    def steps() -> Steps:
        yield 100
        yield 800
        return ConvertedMessage(b"done", "")

    jobs = [
        asyncio.ensure_future(pool.run("test", "a", 100, steps(), Group.LONG)) for _ in range(3)
    ]
    first, second, last = await asyncio.gather(*jobs, return_exceptions=True)
    assert isinstance(first, ConvertedMessage)
    assert isinstance(second, ConvertedMessage)
    assert isinstance(last, ConversionError)
    assert last.reason == "memory_exhausted"
    assert memory.used == 300
    pool.close()


@on_loop
async def test_a_conversion_that_needs_more_than_the_budget_never_runs() -> None:
    memory = MemoryBudget(1600)
    pool = ConversionPool(threads=1, memory=memory)
    # A body of 300 bytes needs 1200. The transport holds 300 more, and a spare must stay free.
    for size in (300, 401, 1601):
        calls: list[bytes] = []
        caught = await refusal(convert(pool, open_gate(), body=b"a" * size, calls=calls))
        assert (caught.status, caught.reason) == (413, "body_too_large")
        assert calls == []
    assert memory.used == 0
    pool.close()


@on_loop
async def test_a_closed_pool_releases_the_memory_of_a_conversion_that_needs_more() -> None:
    memory = MemoryBudget(1600)
    gate, pool = threading.Event(), ConversionPool(threads=1, memory=memory)

    def steps() -> Steps:
        yield 100
        gate.wait(60)
        yield 800
        raise AssertionError("the pool is closed")

    job = asyncio.ensure_future(pool.run("test", "a", 100, steps(), Group.LONG))
    await until(lambda: memory.used > 0)
    pool.close()
    gate.set()
    await asyncio.wait([job], timeout=10)
    assert job.cancelled()
    assert (memory.used, pool.pending) == (0, 0)


@on_loop
async def test_a_caller_with_large_waiting_bodies_makes_room_for_another() -> None:
    memory = MemoryBudget(1600)
    gate, pool = threading.Event(), ConversionPool(threads=1, memory=memory)
    held = [convert(pool, gate, "a", body=b"a" * 190) for _ in range(3)]
    await asyncio.sleep(0)
    assert memory.reserve(1600 - memory.used)
    honest = convert(pool, gate, "b", body=b"b" * 100)
    assert (await refusal(held[2])).reason == "memory_exhausted"
    assert not honest.done()
    assert (await refusal(convert(pool, gate, "b", body=b"b" * 600))).reason == "memory_exhausted"
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
    await convert(pool, open_gate())
    await refusal(convert(pool, open_gate(), body=b"bad"))
    counts = pool.counts["test-grpc"]
    assert (counts.count, counts.failed, counts.bytes_in) == (2, 1, 6)
    assert counts.bytes_out > 3
    assert [(name, work) for name, work, _ in times] == [("test-grpc", 1.0)] * 2
    assert all(wait is not None and wait > 0 for _, _, wait in times)
    pool.close()


def test_a_worker_without_converters_imports_neither_numpy_nor_pillow() -> None:
    libraries = ("numpy", "PIL", "simplejpeg", "brotli", "backports.zstd")
    code = f"import sys, extproc.convert; print([m for m in {libraries} if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert printed.stdout.strip() == b"[]"


@on_loop
async def test_a_response_that_can_never_be_converted_is_the_fault_of_the_model_server() -> None:
    pool = ConversionPool(memory=MemoryBudget(4 << 20))
    headers, options = {"grpc-status": "0"}, ResponseOptions()
    caller = pool.for_caller("a")
    with pytest.raises(ConversionError) as caught:
        await finished(
            caller.convert_response(converter(open_gate()), options, 200, headers, bytes(3 << 20))
        )
    assert (caught.value.status, caught.value.reason) == (502, "response_too_large")
    pool.close()
