"""A load generator that records every failed request and when that request was sent."""

import http.client
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Load:
    """Sends requests on several keep-alive connections during a with block."""

    address: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b"{}"
    connections: int = 4
    responses: int = 0
    """Responses with status 200."""
    failures: list[tuple[float, str]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _progress: threading.Condition = field(default_factory=threading.Condition)

    def __enter__(self) -> "Load":
        self._threads = [threading.Thread(target=self._run) for _ in range(self.connections)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def wait_for(self, responses: int, timeout: float = 60.0) -> None:
        """Waits until this many more requests have had a response with status 200."""
        with self._progress:
            goal = self.responses + responses
            reached = self._progress.wait_for(lambda: self.responses >= goal, timeout)
            assert reached, f"{self.responses} of {goal} responses, {self.failures[-3:]}"

    def _run(self) -> None:
        connection = http.client.HTTPConnection(self.address, timeout=10)
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                connection.request("POST", self.path, self.body, dict(self.headers))
                response = connection.getresponse()
                body = response.read()
            except (OSError, http.client.HTTPException) as error:
                self._fail(began, repr(error))
                connection.close()
                continue
            if response.status != 200:
                self._fail(began, f"{response.status} {body[:200]!r}")
            else:
                with self._progress:
                    self.responses += 1
                    self._progress.notify_all()

    def _fail(self, began: float, failure: str) -> None:
        with self._progress:
            self.failures.append((began, failure))
