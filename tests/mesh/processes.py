"""Processes of a test session: each has a log, and all end with the session."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

STOP_TIMEOUT = 20.0
"""Seconds until a process that has not ended is killed."""
SHOWN = 3_000
"""Characters of a log that the error about a process shows."""


class Process:
    """A process whose output goes to `folder/NAME.log`. It ends when this process ends.

    `end_signal`: SIGKILL for a process that keeps nothing and takes seconds to end.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        end_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self._end_signal = end_signal
        self.log = folder / f"{name}.log"
        folder.mkdir(parents=True, exist_ok=True)
        # Not `preexec_fn`: it may block for ever in a process with several threads.
        bound = ["setpriv", "--pdeathsig", end_signal.name.removeprefix("SIG"), *argv]
        with self.log.open("ab") as log:
            # In a session of its own, it does not get the SIGINT of Ctrl-C: fixtures stop it.
            self._process = subprocess.Popen(
                bound,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=None if environment is None else {**os.environ, **environment},
                start_new_session=True,
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

    def signal(self, number: int) -> None:
        """Send the process a signal."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """The exit status of a process that ends."""
        return self._process.wait(STOP_TIMEOUT)

    def stop(self) -> None:
        """End the process, and wait for its end. May be called again."""
        if self._process.poll() is not None:
            return
        self._process.send_signal(self._end_signal)
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
