"""One child process, kept running: started, probed for readiness, restarted, stopped."""

import asyncio
import ctypes
import logging
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from sluice.config.values import split_host_port

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)

PROBE_INTERVAL = 0.05
RESTART_DELAY = 0.2
MAX_RESTART_DELAY = 5.0
STABLE_AFTER = 10.0
"""Seconds: a child that ran so long is restarted without an increased delay."""


class ChildExitedError(Exception):
    """A child ended before it was ready."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What to run. It is ready when every address of `listens` accepts a connection."""

    name: str
    argv: Sequence[str]
    listens: Sequence[str] = ()
    environment: Mapping[str, str] | None = None
    stop_timeout: float = 5.0


@dataclass(slots=True)
class Child:
    """A process that runs from `start` to `stop`, and again whenever it dies in between."""

    spec: Spec
    _process: asyncio.subprocess.Process | None = None
    _keeper: asyncio.Task[None] | None = None
    _stopping: bool = field(default=False)

    async def start(self) -> None:
        """Start the process. Raises OSError where it cannot be executed."""
        await self._spawn()

    async def ready(self) -> None:
        """Wait until it listens everywhere it should. Raises ChildExitedError if it ends first."""
        assert self._process is not None
        exited = asyncio.ensure_future(self._process.wait())
        listening = asyncio.ensure_future(self._listening())
        try:
            await asyncio.wait({exited, listening}, return_when=asyncio.FIRST_COMPLETED)
            if not listening.done():
                raise ChildExitedError(f"{self.spec.name} ended with {describe(exited.result())}")
        finally:
            exited.cancel()
            listening.cancel()

    def keep(self) -> None:
        """From now on, restart it when it ends."""
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL after `stop_timeout`. Safe to call at any time."""
        self._stopping = True
        if self._keeper is not None:
            self._keeper.cancel()
        process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self.spec.stop_timeout)
        except TimeoutError:
            log.warning("%s did not stop in %.0f s: killed", self.spec.name, self.spec.stop_timeout)
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _spawn(self) -> None:
        # A session of its own: Ctrl-C in the terminal reaches only the runner, which stops its
        # children in order; and the kernel stops a child whose runner was killed.
        self._process = await asyncio.create_subprocess_exec(
            *self.spec.argv,
            stdin=asyncio.subprocess.DEVNULL,
            env=self.spec.environment,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )

    async def _keep(self) -> None:
        delay = RESTART_DELAY
        clock = asyncio.get_running_loop().time
        while not self._stopping:
            assert self._process is not None
            started = clock()
            status = await self._process.wait()
            delay = RESTART_DELAY if clock() - started > STABLE_AFTER else delay
            log.error("%s ended with %s: restarting", self.spec.name, describe(status))
            await asyncio.sleep(delay)
            delay = min(delay * 2, MAX_RESTART_DELAY)
            await self._spawn()

    async def _listening(self) -> None:
        for address in self.spec.listens:
            while not await accepts(address):  # noqa: ASYNC110 (another process: no event tells)
                await asyncio.sleep(PROBE_INTERVAL)


async def accepts(address: str) -> bool:
    """Whether something accepts connections at `host:port` or `unix:/path`."""
    try:
        if address.startswith("unix:"):
            _, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
        else:
            host, port = split_host_port(address)
            _, writer = await asyncio.open_connection(_reachable(host), int(port))
    except OSError:
        return False
    writer.close()
    return True


def is_free(address: str) -> bool:
    """Whether a TCP address can be listened on; Unix sockets are replaced, hence always free."""
    if address.startswith("unix:"):
        return True
    host, port = split_host_port(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError:
            return False
    return True


def describe(status: int) -> str:
    """An exit status in words: `status 1` or `SIGKILL`."""
    return signal.Signals(-status).name if status < 0 else f"status {status}"


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (compared, not bound)


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
