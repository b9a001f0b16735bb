"""Cameras of tests: RTSP servers that serve a film. A test may end and start them."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PYTHON = "/usr/bin/python3"
PACKAGES = ("gir1.2-gst-rtsp-server-1.0", "gstreamer1.0-plugins-good")
"""Debian packages that the server needs, beside python3-gi."""
_SERVER = Path(__file__).parent / "rtsp_server.py"
_CHECK = """
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer
Gst.init(None)
assert all(map(Gst.ElementFactory.find, ("qtdemux", "appsink", "rtph264pay", "rtpbin")))
"""


def missing() -> str | None:
    """Why no server can run here; None if it can."""
    try:
        subprocess.run([PYTHON, "-c", _CHECK], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return f"no GStreamer RTSP server: apt-get install python3-gi {' '.join(PACKAGES)}"
    return None


def require_server() -> None:
    """Skip the tests of a module where no server can run. In CI, they fail instead."""
    reason = missing()
    if reason is not None and os.environ.get("CI"):
        pytest.fail(reason)
    if reason is not None:
        pytest.skip(reason, allow_module_level=True)


@dataclass(slots=True)
class Camera:
    """A server process. A test may kill it, and start it again at the same port."""

    film: Path
    port: int
    password: str | None = None
    loops: int = 0
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/film"

    def start(self) -> None:
        """Start the process. Returns when it listens."""
        argv = [PYTHON, str(_SERVER), str(self.film), "--port", str(self.port)]
        if self.password is not None:
            argv += ["--password", self.password]
        if self.loops:
            argv += ["--loops", str(self.loops)]
        # The Python of the system has packages of its own.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "listening\n", "the RTSP server has not started"

    def kill(self) -> None:
        """End the process at once, as a camera that loses its power."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextlib.contextmanager
def camera(
    film: Path, port: int, *, password: str | None = None, loops: int = 0
) -> Iterator[Camera]:
    """A running camera with a film. User name: `viewer`. `loops`: how often it shows the film."""
    started = Camera(film, port, password, loops)
    started.start()
    try:
        yield started
    finally:
        started.kill()


if __name__ == "__main__":
    sys.exit(missing())
