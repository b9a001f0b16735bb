"""The run of `sluice video`, until the end of the video, a time limit, or an interrupt."""

import argparse
import asyncio
import logging
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from sluice.cli.commands import CommandError
from sluice.cli.exit_status import ExitStatus
from sluice.cli.video.runner import CameraRunner, Ending, FileRunner, Runner
from sluice.cli.video.screen import JsonScreen, Screen, live_screen
from sluice.cli.video.target import Target, camera_password, find_target
from sluice.contract.video import VideoReason
from video.conversion import FrameConverter
from video.inference.gateway import GatewayClient
from video.source import FrameSource, SourceError
from video.sources import Credentials, Sampling, SourceLimits, open_file, open_rtsp
from video.streams.parts import StreamParts
from video.streams.settings import StreamSettings
from video.streams.status import StreamStatus
from video.streams.stream import Stream

REFRESH: Final = 0.25
"""Seconds between two views."""

GRACE: Final = 2.0
"""Seconds that requests in flight have when the command ends."""

IDLE_TIMEOUT: Final = 10.0
"""Seconds without a frame of a camera."""

NAME: Final = "command-line"
"""The name of the stream in events."""

_STATUSES: Final = {
    VideoReason.WRONG_CREDENTIALS: ExitStatus.NOT_ALLOWED,
    VideoReason.CREDENTIALS_EXPIRED: ExitStatus.NOT_ALLOWED,
    VideoReason.FORBIDDEN: ExitStatus.NOT_ALLOWED,
    VideoReason.UNKNOWN_MODEL: ExitStatus.USAGE,
}
"""The exit statuses of reasons for which a stream ends; others are failures."""

_HINTS: Final = {
    VideoReason.WRONG_CREDENTIALS: "give --camera-user NAME and the password of the camera",
    VideoReason.CREDENTIALS_EXPIRED: "create a token with `sluice token`, for --bearer-file",
    VideoReason.FORBIDDEN: "`sluice explain` says who may use the model",
    VideoReason.GATEWAY_UNREACHABLE: "start the gateway, or name its listener with --gateway",
}


def run(options: argparse.Namespace) -> int:
    """Analyse the video. Returns the exit status. Raises CommandError."""
    target = find_target(options)
    open_source = _opener(options, target)
    # The view and the events say why a stream connects again.
    logging.getLogger("video").setLevel(logging.ERROR)
    try:
        ending, status, interrupted = asyncio.run(_analyse(options, target, open_source))
    except SourceError as error:
        raise CommandError(error) from error
    if interrupted:
        return ExitStatus.INTERRUPTED
    if not ending.reason and status.error and not status.counts.results:
        # Each frame has failed, for example because the gateway is not there.
        reason, _, detail = status.error.partition(": ")
        ending = Ending(reason, detail)
    if ending.reason:
        reason = VideoReason(ending.reason)
        raise CommandError(
            ending.detail, hint=_HINTS.get(reason), status=_STATUSES.get(reason, ExitStatus.FAILED)
        )
    return ExitStatus.OK


def _opener(options: argparse.Namespace, target: Target) -> Callable[[], FrameSource]:
    """The function that opens the camera or the file."""
    assert target.model.video is not None
    limits = SourceLimits(None, None, None, target.model.video.max_pixels, IDLE_TIMEOUT)
    sampling = Sampling(options.rate)
    if not isinstance(options.source, Path):
        login = None
        if options.camera_user is not None:
            password = camera_password(options.camera_password_file)
            login = Credentials(options.camera_user, password)
        return partial(open_rtsp, options.source, options.transport, login, sampling, limits)
    loops = 0 if options.loop else 1
    source, paced = options.source, options.real_time
    return partial(open_file, source, sampling, limits, paced=paced, loops=loops)


async def _analyse(
    options: argparse.Namespace, target: Target, open_source: Callable[[], FrameSource]
) -> tuple[Ending, StreamStatus, bool]:
    """Why the stream has ended, its last status, and whether the command was interrupted."""
    is_file = isinstance(options.source, Path)
    settings = StreamSettings(
        name=NAME,
        model_name=target.name,
        model=target.model,
        version=options.version,
        rate=options.rate,
        region=options.region,
        size=options.size,
        ordered=not options.unordered,
        overload="wait" if is_file and not options.real_time else "drop",
    )
    gateway = GatewayClient(target.address, target.tls)
    try:
        with ThreadPoolExecutor(1, "conversion") as executor, ExitStack() as shown:
            parts = StreamParts(gateway, executor, _converter)
            stream = Stream(settings, parts, upload=is_file)
            screen: Screen
            if options.json or not sys.stdout.isatty():
                screen = JsonScreen(stream)
            else:
                screen = shown.enter_context(live_screen(_shown(options.source), stream))
            runner: Runner
            if is_file:
                runner = FileRunner(stream, open_source(), target.headers)
            else:
                runner = CameraRunner(stream, open_source, target.headers)
            ending, interrupted = await _until_end(runner, screen, options.limit)
            await screen.finish()
            stream.close()
    finally:
        await gateway.close()
    return ending, stream.status(), interrupted


async def _until_end(runner: Runner, screen: Screen, limit: float | None) -> tuple[Ending, bool]:
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted.set)
    deadline = None if limit is None else time.monotonic() + limit
    running = asyncio.create_task(runner.run())
    stopped = False
    while not running.done():
        screen.refresh()
        expired = deadline is not None and time.monotonic() >= deadline
        if not stopped and (expired or screen.closed or interrupted.is_set()):
            stopped = True
            runner.stop(GRACE)
        waiting = asyncio.create_task(interrupted.wait())
        await asyncio.wait(
            (running,) if stopped else (running, waiting),
            timeout=REFRESH,
            return_when=asyncio.FIRST_COMPLETED,
        )
        waiting.cancel()
    return await running, interrupted.is_set()


def _converter(settings: StreamSettings) -> FrameConverter:
    model = settings.model
    assert model.video is not None
    assert model.video_input is not None
    return FrameConverter(model.video_input, settings.region, settings.size, model.video.max_pixels)


def _shown(source: str | Path) -> str:
    """A source without a query, which may have credentials."""
    if isinstance(source, Path):
        return str(source)
    parts = urlsplit(source)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
