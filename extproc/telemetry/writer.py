"""Carries log lines from the event loop to an output, on a thread of its own.

The event loop only ever appends to a bounded queue: whether the output is slow, blocked or broken,
what does not fit is dropped and counted, and no request waits.
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
"""Seconds without another attempt after an output failed."""

GATHER = 0.1
"""Seconds that lines gather: each waking of the thread takes the interpreter from the requests."""

MAX_WRITE = 1 << 20
"""Bytes written, and lost if that fails, at once."""

CLOSE_TIMEOUT = 1.0
"""Seconds that closing waits for what is queued; a blocked pipe must not keep a worker alive."""


_COUNTING = threading.Lock()
"""Writers that follow one another share their series, and may both be at work."""


class LogWriter:
    """`open_output` is called on the thread, and again after a failure.

    `limit` is in bytes, of what is queued and being written together.
    """

    def __init__(self, open_output: Callable[[], Output], limit: int, metrics: Metrics) -> None:
        self._open_output = open_output
        self._limit = limit
        self._queue: deque[tuple[bytes, int]] = deque()
        self._bytes = 0
        self._closed = False
        self._idle = False
        self._hurry = threading.Event()
        self._changed = threading.Condition()
        self._full = metrics.counter(catalog.LOG_DROPPED, "queue_full")
        self._failed = metrics.counter(catalog.LOG_DROPPED, "output")
        self._written = metrics.counter(catalog.LOG_LINES)
        self._waiting = metrics.gauge(catalog.LOG_QUEUE_BYTES)
        self._waiting.set(0)
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def put(self, lines: bytes, count: int) -> None:
        """Queue so many whole lines, or drop them all."""
        with self._changed:
            if self._bytes + len(lines) > self._limit:
                self._full.add(count)
                return
            self._bytes += len(lines)
            self._queue.append((lines, count))
            self._waiting.set(self._bytes)
            if self._idle:
                self._changed.notify()
            elif self._bytes > self._limit // 2:
                self._hurry.set()

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Take no more, and give what is queued so many seconds to be written."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._hurry.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        output: Output | None = None
        retry_at = 0.0
        while self._wait():
            lines, count = self._take()
            try:
                if output is None and time.monotonic() >= retry_at:
                    output = self._open_output()
                if output is not None:
                    output.write(lines)
                with _COUNTING:
                    (self._failed if output is None else self._written).add(count)
            except OSError as error:
                with _COUNTING:
                    self._failed.add(count)
                log.error("the access log cannot be written: %s", error)
                _close(output)
                output, retry_at = None, time.monotonic() + RETRY_DELAY
            with self._changed:
                self._bytes -= len(lines)
                self._waiting.set(self._bytes)
        _close(output)

    def _wait(self) -> bool:
        """Until there are lines to write; whether there are any, or it is over."""
        with self._changed:
            self._idle = True
            while not self._queue and not self._closed:
                self._changed.wait()
            self._idle = False
        if not self._closed:
            self._hurry.wait(GATHER)
            self._hurry.clear()
        return bool(self._queue)

    def _take(self) -> tuple[bytes, int]:
        """What has been queued so far, up to `MAX_WRITE` bytes and whole batches."""
        taken, size, count = [], 0, 0
        with self._changed:
            while self._queue and size < MAX_WRITE:
                lines, number = self._queue.popleft()
                taken.append(lines)
                size += len(lines)
                count += number
        return b"".join(taken), count


def _close(output: Output | None) -> None:
    if output is not None:
        output.close()
