"""Sends copies of requests to the versions that mirror others, and compares the answers.

A copy is sent after the client's request has ended, as a task that nothing waits for. The number of
tasks of a version and the memory of all copies have bounds: what does not fit is dropped and
counted. Answers are compared on one thread, so large ones do not stop the event loop.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from extproc.convert import ConversionLimits
from extproc.convert.memory_needed import response_memory
from extproc.memory_budget import MemoryBudget
from extproc.mirror.answer import Answer
from extproc.mirror.client import (
    AnswerTooLargeError,
    InvalidCopyError,
    NoAnswerError,
    UnreachableError,
    send,
)
from extproc.mirror.comparison import compare
from extproc.mirror.counts import Counts
from extproc.mirror.request import copied_body, copied_headers, copied_path
from extproc.policy.compiled import CompiledMirror, ModelPolicy, Policy

MEMORY_SHARE: Final = 4
"""Copies take at most this part of the memory of a worker."""


@dataclass(frozen=True, slots=True)
class ObservedRequest:
    """A request of a client that `stable` has answered, as Envoy shows it.

    `headers` are those of the request, with pseudo headers. `memory`: the bytes that both bodies
    have reserved in `Copies.memory`; `Copies.send` releases them.
    """

    model: ModelPolicy
    mirror: CompiledMirror
    headers: Mapping[str, bytes]
    body: bytes
    answer: Answer
    memory: int


def mirror_of(
    policy: Policy | None, model: str, cluster: str
) -> tuple[ModelPolicy, CompiledMirror] | None:
    """The mirror of a model, if the cluster is that of its stable version."""
    found = None if policy is None else policy.models.get(model.encode())
    if found is None or found.mirror is None or found.stable.cluster != cluster:
        return None
    return found, found.mirror


class Copies:
    """The copies of one worker. All methods must be called on the event loop."""

    def __init__(self, memory: MemoryBudget) -> None:
        self.counts = Counts()
        self.memory = MemoryBudget(memory.limit // MEMORY_SHARE, memory)
        self._running: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread: ThreadPoolExecutor | None = None

    def has_room(self, mirror: CompiledMirror) -> bool:
        """Whether another copy may be sent now."""
        return self._running[mirror.target.cluster] < mirror.settings.max_concurrent

    def send(self, observed: ObservedRequest, policy: Policy | None) -> None:
        """Send a copy of the request in the background, and compare the answers.

        `policy`: the present policy of the Envoy that has shown the request.
        """
        cluster = observed.mirror.target.cluster
        if policy is None or policy.copies is None or not self.has_room(observed.mirror):
            self.memory.release(observed.memory)
            self.counts.dropped(cluster, "busy")
            return
        self._running[cluster] += 1
        task = asyncio.get_running_loop().create_task(self._run(policy, policy.copies, observed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Give up all copies."""
        for task in self._tasks:
            task.cancel()
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _run(self, policy: Policy, socket: str, observed: ObservedRequest) -> None:
        cluster = observed.mirror.target.cluster
        reserved = _Reserved(self.memory, observed)
        try:
            async with asyncio.timeout(observed.mirror.settings.timeout):
                answer = await self._answer(policy, socket, observed, reserved)
        except (NoAnswerError, TimeoutError):
            self.counts.failed(cluster)
        except UnreachableError:
            self.counts.dropped(cluster, "unreachable")
        except AnswerTooLargeError:
            self.counts.dropped(cluster, "too_large")
        except InvalidCopyError:
            self.counts.dropped(cluster, "invalid")
        else:
            await self._compare(observed, answer, reserved)
        finally:
            reserved.release()
            self._running[cluster] -= 1
            if not self._running[cluster]:
                del self._running[cluster]

    async def _answer(
        self, policy: Policy, socket: str, observed: ObservedRequest, reserved: "_Reserved"
    ) -> Answer:
        path = copied_path(observed.headers[":path"].decode("latin-1"), observed)
        return await send(
            socket.removeprefix("unix:"),
            observed.headers[":method"].decode("latin-1"),
            path,
            copied_headers(policy, observed),
            copied_body(path, observed),
            reserved.take,
        )

    async def _compare(
        self, observed: ObservedRequest, answer: Answer, reserved: "_Reserved"
    ) -> None:
        cluster = observed.mirror.target.cluster
        if answer.failed:
            self.counts.failed(cluster)
            return
        longer = max(len(answer.body), len(observed.answer.body))
        if not reserved.reserve(response_memory(longer)):
            self.counts.dropped(cluster, "memory")
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "mirror")
        limits = ConversionLimits(max_response=observed.mirror.settings.max_body)
        result = await asyncio.get_running_loop().run_in_executor(
            self._thread, compare, observed.answer, answer, observed.mirror.outputs, limits
        )
        self.counts.compared(cluster, result)


class _Reserved:
    """The memory of one copy."""

    def __init__(self, memory: MemoryBudget, observed: ObservedRequest) -> None:
        self._memory, self._size = memory, observed.memory
        self._room = observed.mirror.settings.max_body

    def take(self, size: int) -> bool:
        """Reserve memory for a part of the answer."""
        self._room -= size
        return self._room >= 0 and self.reserve(size)

    def reserve(self, size: int) -> bool:
        if not self._memory.reserve(size):
            return False
        self._size += size
        return True

    def release(self) -> None:
        self._memory.release(self._size)
