"""The code blocks of the documentation, and a shell that runs them as a reader would."""

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.integration.gateway import eventually

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")]

START_TIMEOUT = 60.0
BLOCK_TIMEOUT = 60.0
"""Seconds after which a block has hung, and its processes are killed."""

_DONE = "--- block done ---"


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page. `line` is the line of its first line in the page."""

    page: str
    line: int
    language: str
    text: str

    @property
    def key(self) -> tuple[str, str]:
        """Page and first line: what tables of blocks name."""
        return self.page, self.text.partition("\n")[0]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    """All blocks of these languages, by page and line; without languages, all blocks."""
    found = [block for page in sorted(PAGES) for block in _blocks_of(page)]
    return [block for block in found if not languages or block.language in languages]


def _blocks_of(page: Path) -> Iterator[Block]:
    opened: tuple[int, str] | None = None
    text: list[str] = []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fence = re.fullmatch(r" *```(\S*)", line)
        if fence is None:
            text.append(line)
        elif opened is None:
            opened, text = (number + 1, fence[1]), []
        else:
            yield Block(str(page.relative_to(ROOT)), *opened, "\n".join(text))
            opened = None
    assert opened is None, f"{page}: a fence is not closed"


class Shell:
    """A bash session. Its variables and its working folder last from block to block."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._environment = {**os.environ, **environment}
        self._backgrounds: list[subprocess.Popen[str]] = []
        self._bash = subprocess.Popen(
            ["bash", "-e", "-o", "pipefail"],
            cwd=folder, env=self._environment, text=True, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.run('curl() { command curl $CURL_FAIL -sS --max-time 20 "$@"; }')

    def run(self, text: str, *, refused: bool = False) -> str:
        """Run a block, and return its output. A command that fails is an AssertionError.

        `refused`: a response with an error status is what the page promises.
        """
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        fail = "" if refused else "--fail-with-body"
        watchdog = threading.Timer(BLOCK_TIMEOUT, self._bash.kill)
        watchdog.start()
        output = ""
        try:
            with contextlib.suppress(BrokenPipeError):
                self._bash.stdin.write(f"CURL_FAIL={fail}\n{text}\necho; echo '{_DONE}'\n")
                self._bash.stdin.flush()
            for line in self._bash.stdout:
                if line.rstrip() == _DONE:
                    return output
                output += line
        finally:
            watchdog.cancel()
        raise AssertionError(f"a command fails in:\n{text}\n\noutput:\n{output}")

    def start(self, text: str, ready: str) -> None:
        """Run a block that does not end, in the working folder, until it prints `ready`."""
        folder = Path(self.run("pwd").strip())
        log = folder / f"background-{len(self._backgrounds)}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                ["bash", "-e", "-o", "pipefail", "-c", text],
                cwd=folder, env=self._environment, text=True, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        self._backgrounds.append(process)

        def is_ready() -> bool:
            printed = log.read_text()
            assert process.poll() is None, f"it has ended:\n{text}\n\noutput:\n{printed}"
            return ready in printed

        eventually(is_ready, START_TIMEOUT)

    def stop_backgrounds(self) -> None:
        """What Ctrl-C in the other terminals does."""
        for process in self._backgrounds:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
        for process in self._backgrounds:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End all processes."""
        self.stop_backgrounds()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.wait()


@contextlib.contextmanager
def shell(folder: Path, environment: Mapping[str, str]) -> Iterator[Shell]:
    """A shell during a with block."""
    session = Shell(folder, environment)
    try:
        yield session
    finally:
        session.close()
