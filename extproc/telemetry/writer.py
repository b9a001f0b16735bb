"""Writes log lines on a thread of its own, so that a slow output never blocks the event loop.

The event loop only appends to a bounded queue. Lines that do not fit are dropped and counted.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from extproc.telemetry import catalog
from extproc.telemetry.metrics import Metrics
from extproc.telemetry.outputs import Output

log = logging.getLogger(__name__)

RETRY_DELAY = 1.0
"""Seconds after a failure before the output is opened again."""

GATHER_TIME = 0.1
"""Seconds that the thread waits for more lines before it writes.

Each time it wakes up, it takes the interpreter lock from the event loop.
"""

MAX_WRITE = 1 << 20
"""Maximum bytes of one write. A failed write loses at most these lines."""

CLOSE_TIMEOUT = 1.0
"""Seconds that `close` waits for queued lines: a blocked pipe must not keep a worker alive."""

_COUNTER_LOCK = threading.Lock()
"""Protects the counters: while a writer replaces another one, the threads of both use them."""


class LogWriter:
    """Queues lines and writes them to an output.

    The thread calls `open_output` before the first write, and again after a failure. `limit` bounds
    the bytes that are queued or being written. `clock` returns seconds.
    """

    def __init__(
        self,
        open_output: Callable[[], Output],
        limit: int,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_output = open_output
        self._limit = limit
        self._clock = clock
        self._queue: deque[tuple[bytes, int]] = deque()
        self._bytes = 0
        self._closed = False
        self._idle = False
        self._write_now = threading.Event()
        self._changed = threading.Condition()
        self._dropped_full = metrics.counter(catalog.LOG_DROPPED, "queue_full")
        self._dropped_failed = metrics.counter(catalog.LOG_DROPPED, "output")
        self._written = metrics.counter(catalog.LOG_LINES)
        self._queue_bytes = metrics.gauge(catalog.LOG_QUEUE_BYTES)
        self._queue_bytes.set(0)
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def put(self, lines: bytes, count: int) -> None:
        """Queue `count` whole lines, or drop all of them if they do not fit."""
        with self._changed:
            if self._bytes + len(lines) > self._limit:
                self._dropped_full.add(count)
                return
            self._bytes += len(lines)
            self._queue.append((lines, count))
            self._queue_bytes.set(self._bytes)
            if self._idle:
                self._changed.notify()
            elif self._bytes > self._limit // 2:
                self._write_now.set()

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Stop the thread after it has written the queue; wait for it at most `timeout` seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._write_now.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        output: Output | None = None
        retry_at = float("-inf")
        while self._wait_for_lines():
            lines, count = self._take()
            try:
                if output is None and self._clock() >= retry_at:
                    output = self._open_output()
                if output is not None:
                    output.write(lines)
                with _COUNTER_LOCK:
                    (self._dropped_failed if output is None else self._written).add(count)
            except OSError as error:
                log.error("cannot write the access log: %s", _reason(error))
                _close(output)
                output, retry_at = None, self._clock() + RETRY_DELAY
                with _COUNTER_LOCK:
                    self._dropped_failed.add(count)
            with self._changed:
                self._bytes -= len(lines)
                self._queue_bytes.set(self._bytes)
        _close(output)

    def _wait_for_lines(self) -> bool:
        """Wait until there are lines to write; return False if the writer is closed instead."""
        with self._changed:
            self._idle = True
            while not self._queue and not self._closed:
                self._changed.wait()
            self._idle = False
        if not self._closed:
            self._write_now.wait(GATHER_TIME)
            self._write_now.clear()
        return bool(self._queue)

    def _take(self) -> tuple[bytes, int]:
        """Take batches from the queue until they reach `MAX_WRITE` bytes."""
        batches, size, count = [], 0, 0
        with self._changed:
            while self._queue and size < MAX_WRITE:
                lines, line_count = self._queue.popleft()
                batches.append(lines)
                size += len(lines)
                count += line_count
        return b"".join(batches), count


def _reason(error: OSError) -> str:
    if error.filename is None:
        return error.strerror or str(error)
    return (
        f"{error.filename}: {error.strerror}; telemetry.access_log.output needs a folder that "
        "exists and that the callout can write"
    )


def _close(output: Output | None) -> None:
    if output is not None:
        output.close()
