"""The profiler explains why it cannot take a profile."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import pytest

from extproc.telemetry.profile import MAX_SECONDS, ProfileError, Profiler


@pytest.fixture
def idle() -> Iterator[int]:
    """The process id of a Python process that waits."""
    program = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


@pytest.mark.anyio
async def test_an_idle_worker_has_no_samples(idle: int) -> None:
    with pytest.raises(ProfileError, match="idle") as refused:
        await Profiler(lambda _: idle).record(0, 1, "svg")
    assert refused.value.status == 503


@pytest.mark.anyio
async def test_a_worker_that_does_not_run_is_reported() -> None:
    with pytest.raises(ProfileError, match="worker 3 does not run") as refused:
        await Profiler(lambda _: None).record(3, 1, "svg")
    assert refused.value.status == 404


@pytest.mark.anyio
async def test_a_second_profile_at_the_same_time_is_refused(idle: int) -> None:
    profiler = Profiler(lambda _: idle)
    first = asyncio.create_task(profiler.record(0, 1, "svg"))
    second = asyncio.create_task(profiler.record(0, 1, "svg"))
    with pytest.raises(ProfileError, match="in progress") as refused:
        await second
    assert refused.value.status == 409
    await asyncio.wait([first])
    # The profiler is free again: this profile fails for another reason.
    with pytest.raises(ProfileError, match="idle"):
        await profiler.record(0, 1, "svg")
    assert isinstance(first.exception(), ProfileError)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("seconds", "output_format"), [(0, "svg"), (MAX_SECONDS + 1, "svg"), (1, "exe")]
)
async def test_length_and_format_are_validated(seconds: int, output_format: str) -> None:
    with pytest.raises(ProfileError) as refused:
        await Profiler(lambda _: 1).record(0, seconds, output_format)
    assert refused.value.status == 400
