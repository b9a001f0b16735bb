"""Profiles running workers with py-spy, which reads their memory from outside.

Only one profile is taken at a time, and its duration is limited, so that profiling does not slow
down the workers noticeably.
"""

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import which

MAX_SECONDS = 60
SAMPLE_RATE = 100
"""Samples per second."""

EXTRA_TIME = 15.0
"""Seconds that py-spy may take in addition to the profile: it reads symbols and draws the graph."""

_FORMATS: dict[str, tuple[str, str]] = {
    "svg": ("flamegraph", "image/svg+xml"),
    "speedscope": ("speedscope", "application/json"),
}
"""py-spy's name and the media type, by format."""


class ProfileError(Exception):
    """A profile could not be taken. `status` is the HTTP status of the response."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class RecordedProfile:
    """A flame graph, or a file for speedscope.app."""

    media_type: str
    content: bytes


class Profiler:
    """Takes profiles. `worker_pid` returns a worker's process id; None while it does not run."""

    def __init__(self, worker_pid: Callable[[int], int | None]) -> None:
        self._worker_pid = worker_pid
        self._busy = False

    async def record(self, worker: int, seconds: int, output_format: str) -> RecordedProfile:
        """Profile a worker for this many seconds. Raises ProfileError."""
        if output_format not in _FORMATS:
            raise ProfileError(400, f"format must be one of {', '.join(_FORMATS)}")
        if not 1 <= seconds <= MAX_SECONDS:
            raise ProfileError(400, f"seconds must be between 1 and {MAX_SECONDS}")
        pid = self._worker_pid(worker)
        if pid is None:
            raise ProfileError(404, f"worker {worker} does not run")
        if self._busy:
            raise ProfileError(409, "another profile is in progress")
        self._busy = True
        try:
            return await _record(pid, seconds, output_format)
        finally:
            self._busy = False


async def _record(pid: int, seconds: int, output_format: str) -> RecordedProfile:
    name, media_type = _FORMATS[output_format]
    with tempfile.TemporaryDirectory(prefix="sluice-profile-") as directory:
        file = Path(directory) / "profile"
        process = await asyncio.create_subprocess_exec(
            find_py_spy(), "record", "--pid", str(pid), "--duration", str(seconds),
            "--rate", str(SAMPLE_RATE), "--format", name, "--output", str(file), "--nonblocking",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(seconds + EXTRA_TIME):
                _, errors = await process.communicate()
        except TimeoutError:
            raise ProfileError(500, "py-spy did not finish in time") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode != 0 or not file.exists():
            raise _error(errors.decode(errors="replace"))
        return RecordedProfile(media_type, file.read_bytes())


def _error(stderr: str) -> ProfileError:
    """Extract the reason from py-spy's error output: `Error: ...`, followed by a stack trace."""
    if "No stack counts found" in stderr:
        return ProfileError(503, "the worker was idle, so there are no samples")
    reasons = [line for line in stderr.splitlines() if line.startswith("Error:")]
    return ProfileError(500, f"py-spy failed: {reasons[0] if reasons else 'no reason given'}")


def find_py_spy() -> str:
    """The path of py-spy, of this environment if it has one. Raises ProfileError."""
    in_environment = Path(sys.executable).parent / "py-spy"
    found = str(in_environment) if in_environment.exists() else which("py-spy")
    if found is None:
        raise ProfileError(501, "py-spy is not installed: install sluice-gateway[profile]")
    return found
