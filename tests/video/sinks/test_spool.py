"""Events on disk: they survive the process, in order and within their bounds."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.gateway import free_ports
from tests.video.sinks.events import delivered, event, failing, running, until
from tests.video.sinks.web_server import web_server
from video.sinks.spool import SpoolQueue
from video.sinks.spool_log import SpoolLog
from video.sinks.spool_records import confirmation_record, event_record, read_records
from video.sinks.transport import StoredEvent

MIN_SIZE = 1 << 16


def stored(number: int, size: int = 0) -> StoredEvent:
    return StoredEvent(f"door/{number}", f"{number}".encode() + bytes(size))


def opened(folder: Path, max_size: int = 1 << 20, max_events: int = 100) -> SpoolQueue:
    queue = SpoolQueue(folder, max_size, max_events)
    queue.open()
    return queue


def numbers(queue: SpoolQueue, batch: int = 1000) -> list[int]:
    """Take everything out of the queue."""
    found = []
    while events := queue.oldest(batch, 1 << 20):
        found += [int(each.id.partition("/")[2]) for each in events]
        queue.confirm(len(events))
    return found


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.spool"))


def test_events_that_were_not_confirmed_are_there_after_a_restart(tmp_path: Path) -> None:
    queue = opened(tmp_path)
    for number in range(10):
        queue.append(stored(number))
    assert [each.id for each in queue.oldest(4, 1 << 20)] == [stored(i).id for i in range(4)]
    queue.confirm(4)
    queue.oldest(2, 1 << 20)  # not confirmed
    queue.close()

    queue = opened(tmp_path)
    assert queue.waiting == 6
    queue.append(stored(10))
    assert numbers(queue) == list(range(4, 11))
    queue.close()

    queue = opened(tmp_path)
    assert (queue.waiting, numbers(queue)) == (0, [])


def test_a_batch_is_bounded_by_events_and_bytes(tmp_path: Path) -> None:
    queue = opened(tmp_path)
    for number in range(5):
        queue.append(stored(number, 1000))
    assert len(queue.oldest(2, 1 << 20)) == 2
    assert len(queue.oldest(10, 2500)) == 2
    assert len(queue.oldest(10, 1)) == 1


def test_files_whose_events_are_confirmed_are_removed(tmp_path: Path) -> None:
    queue = opened(tmp_path)
    for number in range(1000):
        queue.append(stored(number, 1000))
    assert len(segments(tmp_path)) > 5
    assert numbers(queue, 10) == list(range(1000))
    assert sum(path.stat().st_size for path in segments(tmp_path)) < 100


def test_a_steady_flow_keeps_the_files_small(tmp_path: Path) -> None:
    queue = opened(tmp_path)
    for number in range(2000):
        queue.append(stored(number, 500))
        assert [each.id for each in queue.oldest(10, 1 << 20)] == [f"door/{number}"]
        queue.confirm(1)
        assert sum(path.stat().st_size for path in segments(tmp_path)) < 3 * MIN_SIZE


def test_a_queue_is_full_by_the_size_of_its_files(tmp_path: Path) -> None:
    queue = opened(tmp_path, max_size=MIN_SIZE)
    number = 0
    while not queue.full:
        queue.append(stored(number, 1000))
        number += 1
    assert number == pytest.approx(MIN_SIZE / 1000, rel=0.1)
    assert numbers(queue) == list(range(number))
    assert not queue.full


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    st.lists(st.integers(0, 3000), min_size=1, max_size=30),
    st.integers(0, 30),
    st.data(),
)
def test_a_torn_end_loses_no_event_before_it(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    confirmed: int,
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    queue = opened(folder)
    for number, size in enumerate(sizes):
        queue.append(stored(number, size))
    taken = queue.oldest(confirmed, 1 << 30) if confirmed else []
    if taken:
        queue.confirm(len(taken))
    queue.close()
    found = segments(folder)
    if not found:
        return
    content = found[-1].read_bytes()
    cut = data.draw(st.integers(0, len(content)))
    os.truncate(found[-1], cut)

    queue = opened(folder)
    rest = numbers(queue)
    # A confirmation that was torn lets the sink get events again.
    assert rest == list(range(rest[0], rest[-1] + 1)) if rest else True
    assert not rest or rest[0] <= len(taken)
    with found[-1].open("rb") if found[-1].exists() else open(os.devnull, "rb") as file:  # noqa: PTH123
        assert all(record.end <= cut or record.event is None for record in read_records(file, 0))
    queue.append(stored(1000))
    assert numbers(queue) == [1000]
    queue.close()


def test_events_are_appended_after_a_segment_that_was_torn_at_its_begin(tmp_path: Path) -> None:
    queue = opened(tmp_path)
    while len(segments(tmp_path)) < 2:
        queue.append(stored(queue.waiting, 1000))
    count = queue.waiting - 1
    queue.close()
    os.truncate(segments(tmp_path)[-1], 5)

    queue = opened(tmp_path)
    assert queue.waiting == count
    queue.append(stored(count))
    queue.close()
    assert numbers(opened(tmp_path)) == list(range(count + 1))


@given(st.binary(max_size=200))
def test_any_bytes_give_records_or_an_end(tmp_path_factory: Any, content: bytes) -> None:
    path = tmp_path_factory.mktemp("records") / "file"
    begin = event_record(1, stored(1)) + confirmation_record(1)
    path.write_bytes(begin + content)
    with path.open("rb") as file:
        records = list(read_records(file, 0))
    assert [record.number for record in records[:2]] == [1, 1]
    assert records[0].event == stored(1)


def test_events_after_damage_in_the_middle_are_delivered(tmp_path: Path) -> None:
    queue = opened(tmp_path)
    for number in range(200):
        queue.append(stored(number, 1000))
    queue.close()
    first = segments(tmp_path)[0]
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 1
    first.write_bytes(content)

    queue = opened(tmp_path)
    found = numbers(queue, 7)
    assert found == sorted(set(found))
    assert found[-1] == 199
    assert 100 < len(found) < 200
    assert queue.waiting == 0


def test_only_one_process_may_use_a_spool(tmp_path: Path) -> None:
    log = SpoolLog(tmp_path, MIN_SIZE)
    with pytest.raises(OSError, match="another process uses"):
        SpoolLog(tmp_path, MIN_SIZE)
    log.close()
    SpoolLog(tmp_path, MIN_SIZE).close()


def test_events_that_the_disk_does_not_take_are_delivered_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = opened(tmp_path, max_events=3)
    queue.append(stored(0))

    def full(file: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        queue.append(stored(1))
        queue.append(stored(2))
        assert queue.error == "spool: No space left on device"
        assert not queue.full
        queue.append(stored(3))
        assert queue.full
        assert [each.id for each in queue.oldest(10, 1000)] == ["door/0"]
        queue.confirm(1)
        assert [each.id for each in queue.oldest(10, 1000)] == ["door/1"]
        # The disk has room again while the event is on its way.
    queue.append(stored(4))
    assert queue.error == ""
    queue.confirm(1)
    assert not queue.full
    assert numbers(queue) == [2, 3, 4]
    queue.close()
    assert numbers(opened(tmp_path)) == []


def test_the_spool_of_a_stream_and_a_sink_has_a_folder_of_its_own(tmp_path: Path) -> None:
    config = {
        "webhook": {"url": "http://127.0.0.1:1/"},
        "spool": {"folder": str(tmp_path)},
    }

    async def run() -> None:
        async with running(config, seconds=0) as sink:
            sink.put(event(0), None)
            await failing(sink)

    asyncio.run(run())
    assert segments(tmp_path / "door" / "0-webhook")


def test_a_spool_that_cannot_be_opened_is_an_error_until_it_can(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    folder.write_text("a file where the folder should be")

    async def run(url: str) -> None:
        config = {"webhook": {"url": url}, "spool": {"folder": str(folder)}}
        async with running(config) as sink:
            sink.put(event(0), None)
            assert (await failing(sink)).startswith("spool: ")
            folder.unlink()
            await delivered(sink, 1)
            await until(lambda: not sink.status().error)

    with web_server() as server:
        asyncio.run(run(server.url))
        assert server.frames == [0]


PRODUCER = """
import asyncio, sys
from tests.video.sinks.events import event, new_sink

async def main(url, folder):
    sink = new_sink({"webhook": {"url": url, "max_events": 5}, "spool": {"folder": folder}})
    await sink.start()
    for number in range(1_000_000):
        sink.put(event(number), None)
        print(number, flush=True)
        await asyncio.sleep(0)

asyncio.run(main(*sys.argv[1:]))
"""


def test_no_event_is_lost_if_the_process_is_killed(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/"
    folder = str(tmp_path)

    async def rest() -> None:
        config = {"webhook": {"url": url}, "spool": {"folder": folder}}
        async with running(config) as sink:
            await until(lambda: sink.status().delivered and not sink.status().waiting)

    with web_server(port) as server:
        command = [sys.executable, "-c", PRODUCER, url, folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as producer:
            assert producer.stdout is not None
            last = -1
            for line in producer.stdout:
                last = int(line)
                if len(server.requests) > 20 and last > 300:
                    producer.send_signal(signal.SIGKILL)
                    last = max(last, *map(int, producer.stdout.read().split("\n")[:-2] or [0]))
                    break
        asyncio.run(rest())
    assert server.frames[: last + 1] == list(range(last + 1))
    repeated = [frame for each in server.requests for frame in each.frames]
    assert len(repeated) - len(set(repeated)) <= 10


def test_a_spool_that_is_opened_after_its_end_is_free_for_the_next_process(tmp_path: Path) -> None:
    queue = SpoolQueue(tmp_path, MIN_SIZE, 10)
    queue.close()
    queue.open()
    SpoolLog(tmp_path, MIN_SIZE).close()
