"""Steady traffic from several keep-alive connections, noting every failure and when it happened."""

import http.client
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Load:
    """Runs between `start` and `stop`; use it as a context manager."""

    address: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b"{}"
    connections: int = 4
    answered: int = 0
    failures: list[tuple[float, str]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> "Load":
        self._threads = [threading.Thread(target=self._run) for _ in range(self.connections)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def failures_after(self, moment: float) -> list[str]:
        """What went wrong later than a reading of time.monotonic()."""
        return [what for when, what in self.failures if when > moment]

    def wait_for(self, answers: int, timeout: float = 20.0) -> None:
        """Until so many more requests were answered."""
        goal = self.answered + answers
        deadline = time.monotonic() + timeout
        while self.answered < goal:
            assert time.monotonic() < deadline, f"{self.answered} answers, {self.failures[-3:]}"
            time.sleep(0.005)

    def _run(self) -> None:
        connection = http.client.HTTPConnection(self.address, timeout=10)
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                connection.request("POST", self.path, self.body, dict(self.headers))
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self._failed(began, repr(error))
                connection.close()
                continue
            if answer.status != 200:
                self._failed(began, f"{answer.status} {text[:200]!r}")
            else:
                with self._lock:
                    self.answered += 1

    def _failed(self, began: float, what: str) -> None:
        with self._lock:
            self.failures.append((began, what))
