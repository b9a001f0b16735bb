"""A child process of the runner: start, readiness probe, restart and stop."""

import asyncio
import ctypes
import logging
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sluice.config.addresses import connectable, split_host_port
from sluice.restart import RestartBackoff

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)

PROBE_INTERVAL = 0.05


class ChildExitedError(Exception):
    """A child process ended before it was ready."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A process to run. It is ready when every address of `listens` accepts connections."""

    name: str
    argv: Sequence[str]
    listens: Sequence[str] = ()
    environment: Mapping[str, str] | None = None
    stop_timeout: float = 5.0


@dataclass(slots=True)
class ChildProcess:
    """A child process. After `keep_running`, it is restarted when it ends, until `stop`."""

    spec: ProcessSpec
    _process: asyncio.subprocess.Process | None = None
    _restarts: asyncio.Task[None] | None = None
    _stopping: bool = False

    async def start(self) -> None:
        """Start the process. Raises OSError if the program cannot be executed."""
        # A child in a separate session does not get the SIGINT of Ctrl-C: the runner stops its
        # children in order. If the runner dies, the kernel sends SIGTERM to the child.
        self._process = await asyncio.create_subprocess_exec(
            *self.spec.argv,
            stdin=asyncio.subprocess.DEVNULL,
            env=self.spec.environment,
            start_new_session=True,
            preexec_fn=_request_sigterm_if_parent_dies,
        )

    @property
    def is_started(self) -> bool:
        """Whether `start` has been called."""
        return self._process is not None

    async def wait_until_ready(self) -> None:
        """Wait until the process accepts connections. Raises ChildExitedError if it ends first."""
        assert self._process is not None
        exited = asyncio.ensure_future(self._process.wait())
        listening = asyncio.ensure_future(self._listening())
        try:
            await asyncio.wait({exited, listening}, return_when=asyncio.FIRST_COMPLETED)
            if not listening.done():
                status = _exit_text(exited.result())
                raise ChildExitedError(f"{self.spec.name} ended with {status} before it was ready")
        finally:
            exited.cancel()
            listening.cancel()

    async def ended(self) -> str:
        """Wait until the process ends. Returns its status as text. `keep_running` excludes it."""
        assert self._process is not None
        return _exit_text(await self._process.wait())

    def keep_running(self) -> None:
        """Restart the process whenever it ends, until `stop` is called."""
        self._restarts = asyncio.create_task(self._keep_running())

    async def stop(self) -> None:
        """Send SIGTERM, and SIGKILL after `stop_timeout`. Can be called in every state."""
        self._stopping = True
        if self._restarts is not None:
            self._restarts.cancel()
        process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self.spec.stop_timeout)
        except TimeoutError:
            log.warning(
                "%s did not stop within %.0f s: killing it", self.spec.name, self.spec.stop_timeout
            )
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _keep_running(self) -> None:
        backoff = RestartBackoff()
        clock = asyncio.get_running_loop().time
        while not self._stopping:
            assert self._process is not None
            started = clock()
            status = await self._process.wait()
            log.error("%s ended with %s: restarting it", self.spec.name, _exit_text(status))
            await asyncio.sleep(backoff.delay_after(clock() - started))
            await self.start()

    async def _listening(self) -> None:
        for address in self.spec.listens:
            while not await accepts(address):  # noqa: ASYNC110 (polled)
                await asyncio.sleep(PROBE_INTERVAL)


async def accepts(address: str) -> bool:
    """Whether a process accepts connections at `host:port` or `unix:/path`."""
    try:
        if address.startswith("unix:"):
            _, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
        else:
            host, port = split_host_port(address)
            _, writer = await asyncio.open_connection(connectable(host), int(port))
    except OSError:
        return False
    writer.close()
    return True


def is_free(address: str) -> bool:
    """Whether a process can listen on the address.

    A Unix socket is replaced, so it is free if its folder can be written.
    """
    if address.startswith("unix:"):
        return os.access(Path(address.removeprefix("unix:")).parent, os.W_OK | os.X_OK)
    host, port = split_host_port(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError:
            return False
    return True


def _exit_text(status: int) -> str:
    """An exit status as text: `status 1` or `SIGKILL`."""
    return signal.Signals(-status).name if status < 0 else f"status {status}"


def _request_sigterm_if_parent_dies() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
