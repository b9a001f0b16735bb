"""Feeds random hostile input to every reader of client data: `make fuzz`.

Each target runs in a process of its own. An input fails if a reader raises an unexpected exception,
crashes or hangs, or holds the interpreter lock for longer than 100 ms of CPU time. The memory of a
process must stay below the bound of a worker. The number of an input determines it:
`--target NAME --first N --count 1` repeats an input.
"""

import argparse
import asyncio
import faulthandler
import logging
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from bench.lock_hold import longest_hold
from bench.processes import resident_bytes

HANG_SECONDS = 600
"""Time for 1,000 inputs after which the traceback is printed and the process ends."""

MAX_HOLD = 0.1
"""Seconds of CPU time."""

SUSPECT_SECONDS = 0.04
"""CPU time of an input from which its hold of the lock is measured."""

MAX_MEMORY = 400_000_000
"""Bytes of resident memory of a worker."""


class Fuzzer(Protocol):
    """Makes numbered inputs."""

    def work(self, number: int) -> Callable[[], object]:
        """Make an input. The result feeds it to the reader, and raises if the reader fails."""


@dataclass(slots=True)
class Result:
    """The result of one target. Each input is given by its number."""

    target: str
    count: int = 0
    seconds: float = 0.0
    slowest: tuple[float, int] = (0.0, 0)
    """CPU seconds, and the input."""
    longest_hold: tuple[float, int] = (0.0, 0)
    """Seconds of the longest measured hold of the lock, and the input."""
    memory: int = 0
    """Peak bytes of resident memory, without the memory for making an input."""

    @property
    def passed(self) -> bool:
        return self.longest_hold[0] <= MAX_HOLD and self.memory <= MAX_MEMORY

    def __str__(self) -> str:
        return (
            f"{self.target:<12}{self.count:>10,}{self.count / self.seconds:>10,.0f}"
            f"{self.slowest[0] * 1000:>10.0f} (input {self.slowest[1]})"
            f"{self.longest_hold[0] * 1000:>10.0f} (input {self.longest_hold[1]})"
            f"{self.memory / 1e6:>8.0f} MB" + ("" if self.passed else "  FAILED")
        )


@dataclass(frozen=True, slots=True)
class Target:
    """One reader of client data. `share` is its part of all inputs."""

    share: float
    open: Callable[[], Fuzzer]


class _Checks:
    """Feeds small inputs: making one costs little."""

    def __init__(self, check: Callable[[int], object]) -> None:
        self._check = check

    def work(self, number: int) -> Callable[[], object]:
        return partial(self._check, number)


def _converters(*families: str) -> Fuzzer:
    from tests.extproc.convert.fuzzing import Fuzzer

    return _Checks(Fuzzer(*families).check)


def _large_bodies() -> Fuzzer:
    from tests.extproc.convert.large_fuzzing import Fuzzer

    return Fuzzer()


def _streams() -> Fuzzer:
    from tests.extproc.services.ext_proc.fuzzing import Fuzzer

    return _Checks(Fuzzer().check)


def _http2() -> Fuzzer:
    from tests.extproc.transport.fuzzing import Target, input_of

    target = Target(asyncio.new_event_loop())
    return _Checks(lambda number: target.check(input_of(number)))


def _policies() -> Fuzzer:
    from tests.extproc.policy.fuzzing import Fuzzer

    return _Checks(Fuzzer().check)


def _tokens() -> Fuzzer:
    from tests.extproc.auth.fuzzing import Fuzzer

    return _Checks(Fuzzer().check)


def _configs() -> Fuzzer:
    from tests.sluice.config.fuzzing import Fuzzer

    return _Checks(Fuzzer().check)


def _videos(demuxer: str) -> Fuzzer:
    from tests.video.sources.fuzzing import Fuzzer

    return _Checks(Fuzzer(demuxer, limit_memory=True).check)


TARGETS: Mapping[str, Target] = {
    "bodies": Target(0.37, partial(_converters, "tensors", "compressed", "responses")),
    "pictures": Target(0.2, partial(_converters, "images")),
    "large": Target(0.002, _large_bodies),
    "streams": Target(0.15, _streams),
    "http2": Target(0.2, _http2),
    "policies": Target(0.03, _policies),
    "tokens": Target(0.03, _tokens),
    "configs": Target(0.002, _configs),
    "mpegts": Target(0.004, partial(_videos, "mpegts")),
    "mp4": Target(0.004, partial(_videos, "mp4")),
    "h264": Target(0.004, partial(_videos, "h264")),
    "hevc": Target(0.004, partial(_videos, "hevc")),
    "mjpeg": Target(0.004, partial(_videos, "mjpeg")),
}


def run(name: str, first: int, count: int) -> Result:
    """Feed inputs to one target. An unexpected exception names its input."""
    # Pillow warns about damaged metadata, and the services log refused tokens and policies.
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    fuzzer = TARGETS[name].open()
    result, began = Result(name), time.monotonic()
    for number in range(first, first + count):
        if (number - first) % 1000 == 0:
            faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        try:
            _feed(fuzzer.work(number), number, result)
        except BaseException as error:
            error.add_note(f"target {name}, input {number}")
            raise
    faulthandler.cancel_dump_traceback_later()
    result.count, result.seconds = count, time.monotonic() - began
    return result


def _feed(work: Callable[[], object], number: int, result: Result) -> None:
    settled = resident_bytes(os.getpid())
    started = time.thread_time()
    work()
    seconds = time.thread_time() - started
    result.slowest = max(result.slowest, (seconds, number))
    result.memory = max(result.memory, settled)
    if seconds > SUSPECT_SECONDS:
        hold = longest_hold(work)
        result.longest_hold = max(result.longest_hold, (hold.seconds, number))
        result.memory = max(result.memory, settled + hold.peak_bytes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2_000_000, help="inputs of all targets")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--target", choices=TARGETS, action="append", help="feed only this target")
    options = parser.parse_args()
    targets = options.target or list(TARGETS)
    shares = sum(TARGETS[name].share for name in targets)
    counts = {n: max(1, round(options.count * TARGETS[n].share / shares)) for n in targets}
    context = multiprocessing.get_context("spawn")
    print("target          inputs  a second    CPU ms                 hold ms            memory")
    passed = True
    with ProcessPoolExecutor(os.cpu_count(), context, max_tasks_per_child=1) as pool:
        runs = [pool.submit(run, name, options.first, counts[name]) for name in targets]
        for finished in as_completed(runs):
            result = finished.result()
            passed = passed and result.passed
            print(result, flush=True)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
