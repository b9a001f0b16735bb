"""Processes of a test session: each has a log, and all end with the session."""

import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)

STOP_TIMEOUT = 20.0
"""Seconds from SIGTERM to SIGKILL."""
SHOWN = 3_000
"""Characters of a log that the error about a process shows."""


class Process:
    """A process whose output goes to `folder/NAME.log`. It ends when this process ends."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            # In a session of its own, it does not get the SIGINT of Ctrl-C: fixtures stop it.
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=None if environment is None else {**os.environ, **environment},
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def require_running(self) -> None:
        """Fail the test with the end of the log if the process has ended."""
        status = self._process.poll()
        if status is not None:
            end = self.log.read_text(errors="replace")[-SHOWN:]
            pytest.fail(f"{self.name} ended with {status} ({self.log}):\n{end}")

    def kill(self) -> None:
        """End the process at once, for one that takes seconds to end and keeps nothing."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End the process, and wait for its end. May be called again."""
        if self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _end_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
