"""Commands at a real terminal (pty)."""

import os
import pty
import subprocess
import sys
from collections.abc import Callable, Mapping


class Terminal:
    """A command whose stdin, stdout and stderr are a terminal."""

    def __init__(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self._terminal, child = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sluice.cli", *arguments],
            stdin=child, stdout=child, stderr=child,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120", **(environment or {})},
        )  # fmt: skip
        os.close(child)
        self.output = ""

    def read(self, enough: Callable[[str], bool] = lambda _: False) -> str:
        """The output until it is enough, or until the command ends."""
        while not enough(self.output):
            try:
                self.output += os.read(self._terminal, 65536).decode()
            except OSError:  # the command has ended
                break
        return self.output

    def write(self, text: str) -> None:
        """Type at the keyboard."""
        os.write(self._terminal, text.encode())

    def end(self) -> int:
        """The exit status."""
        self.read()
        os.close(self._terminal)
        return self.process.wait(60)
