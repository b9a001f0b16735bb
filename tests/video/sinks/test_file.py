"""Events in files: whole, rotated, and complete after faults."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.internal.decoder import _DecodeVarint  # type: ignore[attr-defined]
from hypothesis import given
from hypothesis import strategies as st

from protos import video_pb2 as pb
from tests.video.sinks.events import delivered, event, failing, running
from video.results.encoding import encode_delimited, encode_ndjson
from video.sinks.file import FileTransport, whole_lines, whole_messages
from video.sinks.transport import DeliveryError, StoredEvent

MIN_SIZE = 1 << 16


def frames(path: Path) -> list[int]:
    return [json.loads(line)["frame"] for line in path.read_bytes().splitlines()]


def messages(data: bytes) -> list[int]:
    position, found = 0, []
    while position < len(data):
        size, position = _DecodeVarint(data, position)
        found.append(pb.AnalysisResult.FromString(data[position : position + size]).frame)
        position += size
    return found


def write(path: Path, count: int, *, first: int = 0, size: int = 1, **config: object) -> None:
    async def run() -> None:
        async with running({"file": {"path": str(path), **config}}) as sink:
            for number in range(first, first + count):
                sink.put(event(number, size), None)

    asyncio.run(run())


def test_events_are_appended_in_order(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "events"
    write(path, 50)
    write(path, 10, first=50)
    assert frames(path) == list(range(60))


def test_the_name_of_the_stream_stands_in_the_path(tmp_path: Path) -> None:
    write(tmp_path / "{stream}.ndjson", 1)
    assert frames(tmp_path / "door.ndjson") == [0]


def test_messages_are_appended_in_order(tmp_path: Path) -> None:
    path = tmp_path / "events"
    write(path, 20, format="protobuf")
    assert messages(path.read_bytes()) == list(range(20))


def test_full_files_are_renamed_and_the_newest_ones_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "events"
    for round_ in range(10):
        write(path, 10, first=10 * round_, size=1000, max_size=MIN_SIZE, keep=2)
    kept = [path.with_name("events.2"), path.with_name("events.1"), path]
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    assert all(each.stat().st_size <= MIN_SIZE for each in kept)
    found = [number for each in kept for number in frames(each)]
    assert found == list(range(found[0], 100))


def test_a_torn_line_is_removed_when_the_file_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(encode_ndjson(event(0)) + encode_ndjson(event(1))[:20])
    write(path, 1, first=2)
    assert frames(path) == [0, 2]


def test_a_torn_message_is_removed_when_the_file_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(encode_delimited(event(0)) + encode_delimited(event(1))[:-1])
    write(path, 1, first=2, format="protobuf")
    assert messages(path.read_bytes()) == [0, 2]


@given(st.lists(st.integers(0, 300), max_size=5), st.data())
def test_the_whole_part_of_a_file_ends_with_an_event(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("cut") / "events"
    for encode, whole in ((encode_ndjson, whole_lines), (encode_delimited, whole_messages)):
        events = [encode(event(i, size)) for i, size in enumerate(sizes)]
        ends = [sum(map(len, events[:i])) for i in range(len(events) + 1)]
        cut = data.draw(st.integers(0, ends[-1]))
        path.write_bytes(b"".join(events)[:cut])
        assert whole(path, cut) == max(end for end in ends if end <= cut)


def test_a_file_that_was_moved_is_created_again(tmp_path: Path) -> None:
    path = tmp_path / "events"

    async def run() -> None:
        async with running({"file": {"path": str(path)}}) as sink:
            sink.put(event(0), None)
            await delivered(sink, 1)
            path.rename(tmp_path / "moved")
            sink.put(event(1), None)

    asyncio.run(run())
    assert (frames(tmp_path / "moved"), frames(path)) == ([0], [1])


def test_a_path_that_is_no_regular_file_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    async def run() -> str:
        async with running({"file": {"path": str(tmp_path / "pipe")}}, seconds=0) as sink:
            sink.put(event(0), None)
            return await failing(sink)

    # Opening a pipe that nobody reads fails before its kind is known.
    assert asyncio.run(run()).startswith(f"{tmp_path}/pipe: ")


def test_a_folder_that_becomes_writable_gets_the_events(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.write_text("a file where the folder should be")

    async def run() -> None:
        async with running({"file": {"path": str(folder / "events")}}) as sink:
            sink.put(event(0), None)
            assert "folder/events: " in await failing(sink)
            folder.unlink()
            sink.put(event(1), None)

    asyncio.run(run())
    assert frames(folder / "events") == [0, 1]


def test_a_batch_that_finds_no_room_on_the_disk_leaves_no_part_behind(tmp_path: Path) -> None:
    """A limit of the file size has the same effect as a full disk: a part is written."""
    path = tmp_path / "events"
    code = f"""
import resource, signal
from pathlib import Path
from video.sinks.rotated_file import RotatedFile
from video.sinks.file import whole_lines
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (15, resource.RLIM_INFINITY))
file = RotatedFile(Path({str(path)!r}), 1 << 20, 3, whole_lines)
file.append(b"0123456789\\n")
try:
    file.append(b"0123456789\\n")
except OSError as error:
    print(error.strerror)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
file.append(b"after\\n")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "File too large\n"
    assert path.read_text() == "0123456789\nafter\n"


def test_an_error_names_the_file(tmp_path: Path) -> None:
    transport = FileTransport(tmp_path, "ndjson", MIN_SIZE, 1)
    with pytest.raises(DeliveryError, match="Is a directory"):
        asyncio.run(transport.send([StoredEvent("a", b"{}\n")]))
