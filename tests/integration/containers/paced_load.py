"""A load of a constant rate, as users make it: a slow answer delays no other request."""

import asyncio
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

TIMEOUT = 20.0
"""Seconds after which a request without an answer has failed."""

MAX_OPEN = 50
"""Open requests at the same time. With more, no further ones are sent: the machine is too busy."""


@dataclass
class PacedLoad:
    """Sends requests at a rate over keep-alive connections during a with block.

    An idle connection is used again, as by a client with a pool; else a new one is opened.
    """

    address: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    rate: int
    answers: int = 0
    """Answers with status 200."""
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    """Time from the first request to the last answer."""
    _stop: threading.Event = field(default_factory=threading.Event)
    _idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "PacedLoad":
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send_all()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join(2 * TIMEOUT)

    @property
    def sent_rate(self) -> float:
        """Requests per second."""
        return (self.answers + len(self.failures)) / self.seconds

    async def _send_all(self) -> None:
        lines = [f"POST {self.path} HTTP/1.1", f"host: {self.address}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines += [f"content-length: {len(self.body)}", "", ""]
        message = "\r\n".join(lines).encode() + self.body
        began, due = time.monotonic(), 0
        open_requests: set[asyncio.Task[None]] = set()
        while not self._stop.is_set():
            while due < (time.monotonic() - began) * self.rate:
                due += 1
                if len(open_requests) == MAX_OPEN:
                    continue
                task = asyncio.create_task(self._send(message))
                open_requests.add(task)
                task.add_done_callback(open_requests.discard)
            await asyncio.sleep(1 / self.rate)
        if open_requests:
            await asyncio.wait(open_requests)
        self.seconds = time.monotonic() - began
        for _, writer in self._idle:
            writer.close()

    async def _send(self, message: bytes) -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                status, answer = await self._exchange(message)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            self.failures.append(repr(error))
            return
        if status == 200:
            self.answers += 1
        else:
            self.failures.append(f"{status} {answer[:400]!r}")

    async def _exchange(self, message: bytes) -> tuple[int, bytes]:
        host, _, port = self.address.partition(":")
        if self._idle:
            reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(message)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length:")[2].partition("\r\n")[0])
        answer = await reader.readexactly(length)
        if "connection: close" in head:
            writer.close()
        else:
            self._idle.append((reader, writer))
        return int(head.split(maxsplit=2)[1]), answer
