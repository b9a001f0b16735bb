"""Profiles of live workers, taken from outside by py-spy: no restart, and no code in the worker.

One at a time and for a minute at most, so that nobody can slow the workers down with it.
"""

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Literal

MAX_SECONDS = 60
RATE = 100
"""Samples a second: a hundredth of a core at most."""

GRACE = 15.0
"""Seconds beyond the profile's length: py-spy reads symbols first and draws afterwards."""

Format = Literal["svg", "speedscope"]

_FORMATS: dict[str, tuple[str, str]] = {
    "svg": ("flamegraph", "image/svg+xml"),
    "speedscope": ("speedscope", "application/json"),
}

Pid = Callable[[int], int | None]
"""The process of a worker; None while there is none."""


class ProfileError(Exception):
    """There is no profile; `status` is the HTTP status that says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class RecordedProfile:
    """A drawing, or a file for speedscope.app."""

    media_type: str
    content: bytes


class Profiler:
    """Takes profiles of the workers that `pid` tells of."""

    def __init__(self, pid: Pid) -> None:
        self._pid = pid
        self._busy = False

    async def record(self, worker: int, seconds: int, form: str) -> RecordedProfile:
        """Watch a worker for so many seconds. Raises ProfileError."""
        if form not in _FORMATS:
            raise ProfileError(400, f"the formats are {', '.join(_FORMATS)}")
        if not 1 <= seconds <= MAX_SECONDS:
            raise ProfileError(400, f"a profile takes 1 to {MAX_SECONDS} seconds")
        pid = self._pid(worker)
        if pid is None:
            raise ProfileError(404, f"there is no worker {worker} now")
        if self._busy:
            raise ProfileError(409, "another profile is being taken")
        self._busy = True
        try:
            return await _record(pid, seconds, form)
        finally:
            self._busy = False


async def _record(pid: int, seconds: int, form: str) -> RecordedProfile:
    name, media_type = _FORMATS[form]
    with tempfile.TemporaryDirectory(prefix="sluice-profile-") as directory:
        file = Path(directory) / "profile"
        process = await asyncio.create_subprocess_exec(
            _py_spy(), "record", "--pid", str(pid), "--duration", str(seconds),
            "--rate", str(RATE), "--format", name, "--output", str(file), "--nonblocking",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(seconds + GRACE):
                _, errors = await process.communicate()
        except TimeoutError:
            raise ProfileError(500, "py-spy did not finish in time") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode != 0 or not file.exists():
            raise _failure(errors.decode(errors="replace"))
        return RecordedProfile(media_type, file.read_bytes())


def _failure(errors: str) -> ProfileError:
    """Why there is no profile, from what py-spy said: `Error: ...` and then a stack of its own."""
    if "No stack counts found" in errors:
        return ProfileError(503, "the worker had nothing to do: there is nothing to draw")
    reasons = [line for line in errors.splitlines() if line.startswith("Error:")]
    return ProfileError(500, f"py-spy failed: {reasons[0] if reasons else 'no reason given'}")


def _py_spy() -> str:
    beside = Path(sys.executable).parent / "py-spy"
    found = str(beside) if beside.exists() else which("py-spy")
    if found is None:
        raise ProfileError(501, "py-spy is not here: install sluice-gateway[profile]")
    return found
