"""The outputs of the access log rotate files and write whole lines."""

import os
import threading
from dataclasses import dataclass
from pathlib import Path

from extproc.telemetry.outputs import RotatedFile, StreamOutput, open_output
from sluice.config.telemetry import Rotation

ROTATION = Rotation()


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_each_worker_has_its_own_file(tmp_path: Path) -> None:
    for worker in range(2):
        output = open_output(str(tmp_path / "access.log"), worker, ROTATION, Clock())
        output.write(b"%d\n" % worker)
        output.close()
    assert (tmp_path / "access-0.log").read_bytes() == b"0\n"
    assert (tmp_path / "access-1.log").read_bytes() == b"1\n"


def test_a_file_rotates_by_size_and_keeps_the_configured_number(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    file = RotatedFile(path, Rotation(max_size=1 << 12, keep=2), Clock())
    for number in range(5):
        file.write(b"%d" % number * 4000 + b"\n")
    file.close()
    assert [path.read_bytes()[:1], *(Path(f"{path}.{n}").read_bytes()[:1] for n in (1, 2))] == [
        b"4", b"3", b"2",
    ]  # fmt: skip
    assert not Path(f"{path}.3").exists()


def test_a_file_that_keeps_no_old_files_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    file = RotatedFile(path, Rotation(max_size=1 << 12, keep=0), Clock())
    file.write(b"1" * 4000 + b"\n")
    file.write(b"2" * 4000 + b"\n")
    file.close()
    assert path.read_bytes()[:1] == b"2"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_rotates_by_age_across_restarts(tmp_path: Path) -> None:
    path, clock = tmp_path / "access.log", Clock(1_000_000.0)
    rotation = Rotation(max_age=1000)
    file = RotatedFile(path, rotation, clock)
    file.write(b"first\n")
    clock.now += 999
    file.write(b"same period\n")
    file.close()
    os.utime(path, (clock.now, clock.now))
    file = RotatedFile(path, rotation, clock)
    file.write(b"still\n")
    clock.now += 1
    file.write(b"next\n")
    file.close()
    assert path.read_bytes() == b"next\n"
    assert Path(f"{path}.1").read_bytes() == b"first\nsame period\nstill\n"


def test_a_file_that_is_moved_away_is_created_again(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    file = RotatedFile(path, ROTATION, Clock())
    file.write(b"before\n")
    path.rename(tmp_path / "moved")
    file.write(b"after\n")
    file.close()
    assert path.read_bytes() == b"after\n"


def test_lines_of_several_writers_to_a_pipe_never_mix(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    streams = [StreamOutput(os.open(pipe, os.O_WRONLY)) for _ in range(2)]
    chunks = [b"".join(letter * length + b"\n" for length in range(900, 1000)) * 3
              for letter in (b"a", b"b")]  # fmt: skip
    threads = [
        threading.Thread(target=stream.write, args=(chunk,))
        for stream, chunk in zip(streams, chunks, strict=True)
    ]
    for thread in threads:
        thread.start()
    read = b""
    while len(read) < sum(map(len, chunks)):
        read += os.read(reader, 65536)
    for thread in threads:
        thread.join()
    for stream in streams:
        stream.close()
    os.close(reader)
    assert all(len(set(line)) == 1 for line in read.splitlines())
    assert sorted(read.splitlines()) == sorted(b"".join(chunks).splitlines())
