"""Measures how long work holds the interpreter lock in one piece.

`longest_hold` measures any function. `python -m bench.lock_hold` prints a table of the worst bodies
for each reader and writer of client data (`bench.worst_bodies`, `bench.worst_images`): the longest
hold, the CPU time and the growth of memory. Each body is measured in a process of its own.
"""

import argparse
import contextlib
import multiprocessing
import multiprocessing.connection
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.worst_bodies import Build

POLL_SECONDS = 0.0005
"""Time between two readings of the clock, if no other thread holds the lock."""

NOISE_SECONDS = 0.02
"""A hold below this bound is not measured again. Python code gives the lock away every 5 ms."""

ROUNDS = 3
"""Maximum measurements. The result is the shortest one, because other processes delay a reading."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The cost of some work."""

    seconds: float
    """CPU time of the longest piece of work during which no other thread could run."""
    cpu_seconds: float
    """CPU time of the whole work."""
    peak_bytes: int
    """Growth of the process's resident memory at its peak, in the first measurement."""


def longest_hold(work: Callable[[], object]) -> Hold:
    """Run `work` on a thread, and measure its longest hold of the interpreter lock.

    The work includes freeing its result. It must be repeatable; its exceptions are ignored. The
    resolution is about 5 ms, the switch interval of the interpreter.
    """
    first = best = _measure(work)
    for _ in range(ROUNDS - 1):
        if best.seconds <= NOISE_SECONDS:
            break
        best = min(best, _measure(work), key=lambda hold: hold.seconds)
    return Hold(best.seconds, best.cpu_seconds, first.peak_bytes)


def _measure(work: Callable[[], object]) -> Hold:
    before = _reset_peak()
    begin, done = threading.Event(), threading.Event()
    used: list[float] = []

    def run() -> None:
        begin.wait()
        started = time.thread_time()
        with contextlib.suppress(Exception):  # a refusal of the body
            work()
        used.append(time.thread_time() - started)
        done.set()
        # The clock of a thread exists until the thread ends.
        read_all.wait()

    read_all = threading.Event()
    thread = threading.Thread(target=run)
    thread.start()
    assert thread.ident is not None
    clock = time.pthread_getcpuclockid(thread.ident)
    longest, last = 0.0, time.clock_gettime(clock)
    begin.set()
    while not done.is_set():
        # The end of the sleep needs the lock. So all CPU time since the last reading belongs to
        # one hold, or the thread has released the lock and the piece is short.
        time.sleep(POLL_SECONDS)
        now = time.clock_gettime(clock)
        longest, last = max(longest, now - last), now
    read_all.set()
    thread.join()
    return Hold(longest, used[0], max(0, _memory("VmHWM") - before))


def _reset_peak() -> int:
    """Reset the peak of the resident memory, and return the memory now (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--match", default="", help="measure only cases whose name contains this")
    parser.add_argument("--timeout", type=float, default=30, help="seconds for each case")
    options = parser.parse_args()
    print(f"{'':<58}{'MB':>6}{'hold ms':>9}{'CPU ms':>8}{'peak MiB':>9}  outcome")
    for name in _cases():
        if options.match in name:
            _print_case(name, options.timeout)


def _cases() -> "Mapping[str, Build]":
    from bench import worst_bodies, worst_images

    return {**worst_bodies.CASES, **worst_images.CASES}


def _print_case(name: str, timeout: float) -> None:
    # In a new process, memory that an earlier case has freed does not hide the growth.
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure_case, args=(name, sender))
    process.start()
    row = receiver.recv() if receiver.poll(timeout) else f"more than {timeout:.0f} s"
    process.kill()
    process.join()
    print(f"{name:<58}{row}", flush=True)


def _measure_case(name: str, sender: multiprocessing.connection.Connection) -> None:
    case = _cases()[name]()
    hold = longest_hold(case.work)
    sender.send(
        f"{case.size / 1e6:>6.1f}{hold.seconds * 1e3:>9.0f}{hold.cpu_seconds * 1e3:>8.0f}"
        f"{hold.peak_bytes / 2**20:>9.0f}  {case.outcome}"
    )


if __name__ == "__main__":
    main()
