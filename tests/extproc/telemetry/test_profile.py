"""Profiles that cannot be taken say why."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from extproc.telemetry.profile import ProfileError, Profiler


@pytest.fixture
def idle() -> Iterator[int]:
    """A Python process that waits."""
    program = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


@pytest.mark.anyio
async def test_an_idle_worker_gives_nothing_to_draw(idle: int) -> None:
    with pytest.raises(ProfileError, match="nothing to do") as refused:
        await Profiler(lambda _: idle).record(0, 1, "svg")
    assert refused.value.status == 503


@pytest.mark.anyio
async def test_a_worker_that_is_gone_is_named() -> None:
    with pytest.raises(ProfileError, match="no worker 3") as refused:
        await Profiler(lambda _: None).record(3, 1, "svg")
    assert refused.value.status == 404
