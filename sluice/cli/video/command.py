"""`sluice video`: analyses one video by hand, and shows what the model finds.

The command does what the video service does for a stream of the config: it reads the camera or the
file, and sends sampled frames to the gateway.
"""

import argparse
from pathlib import Path

from sluice.cli.addresses import address
from sluice.cli.commands import CommandError, Subcommands, UsageError, command
from sluice.cli.gateway import gateway_options
from sluice.cli.numbers import seconds
from sluice.cli.video import arguments
from sluice.data import data_path
from sluice.extras import VIDEO_HINT, missing_for_video

DEMO_FILM = "digits.mp4"
DEMO_MODEL = "digits"
DEMO_REGION = "0.2,0.075,0.6,0.8"
"""The part of the film that has the digit."""


def register(commands: Subcommands) -> None:
    """Add this module's command."""
    parser = command(
        commands, "video", _video,
        "analyse a camera or a video file by a model, and show what it finds",
        ("video", "protos"),
    )  # fmt: skip
    parser.add_argument(
        "source", metavar="SOURCE", nargs="?", type=arguments.source,
        help="a camera as rtsp://HOST/PATH, or a file: MP4, MPEG-TS, H.264, H.265 or MJPEG",
    )  # fmt: skip
    parser.add_argument("--model", metavar="MODEL", help="name of the model, which needs `video`")
    parser.add_argument(
        "--demo", action="store_true",
        help="analyse the example film, in a loop, by the model digits of `sluice up --demo`",
    )  # fmt: skip
    _frame_options(parser)
    _camera_options(parser)
    parser.add_argument(
        "--for", dest="limit", type=seconds(0.1), metavar="TIME",
        help="end after this time, such as 30s; default: at the end of the video, or at Ctrl-C",
    )  # fmt: skip
    parser.add_argument(
        "--json", action="store_true",
        help="print each event as a line of JSON; default if stdout is no terminal",
    )  # fmt: skip
    _listener_options(parser)
    gateway_options(parser)


def _frame_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--version", metavar="VERSION", help="version of the model; default: the gateway chooses it"
    )
    parser.add_argument(
        "--rate", type=arguments.rate, metavar="RATE",
        help="frames per second to analyse; default: all frames",
    )  # fmt: skip
    parser.add_argument(
        "--region", type=arguments.region, metavar="L,T,W,H",
        help="part of each frame: left, top, width and height in shares of the frame",
    )  # fmt: skip
    parser.add_argument(
        "--size", type=arguments.size, metavar="WxH",
        help="maximum size of frames in pixels, for models that take JPEG",
    )  # fmt: skip
    parser.add_argument(
        "--unordered", action="store_true", help="show events as results come, not in frame order"
    )
    parser.add_argument(
        "--real-time", action="store_true",
        help="play a file at its own speed, and drop frames while the model is slower, as with a "
        "camera; default: wait for the model",
    )  # fmt: skip
    parser.add_argument(
        "--loop", action="store_true", help="play a file again and again; implies --real-time"
    )


def _camera_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--transport", choices=("tcp", "udp"), default="tcp",
        help="transport of the frames of a camera; default: %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--camera-user", metavar="NAME",
        help="user of the camera; the environment variable SLUICE_CAMERA_PASSWORD has the password",
    )  # fmt: skip
    parser.add_argument(
        "--camera-password-file", metavar="FILE", type=Path, help="file with the password"
    )


def _listener_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--gateway", metavar="ADDRESS", type=address,
        help="address of the listener as host:port; default: that of the config in force",
    )  # fmt: skip
    parser.add_argument(
        "--gateway-ca", metavar="FILE", type=Path,
        help="CA of the listener's certificate; default: those of the system",
    )  # fmt: skip
    parser.add_argument(
        "--bearer-file", metavar="FILE", type=Path,
        help="file with the token for the model (`sluice token`); default: the environment "
        "variable SLUICE_TOKEN",
    )  # fmt: skip
    parser.add_argument(
        "--api-key-file", metavar="FILE", type=Path,
        help="file with the API key for the model; default: the environment variable "
        "SLUICE_API_KEY",
    )  # fmt: skip


def _video(options: argparse.Namespace) -> int:
    _complete(options)
    if missing := missing_for_video():
        raise CommandError(f"{' and '.join(missing)} is not installed", hint=VIDEO_HINT)
    # Imported late: PyAV is not installed with every gateway.
    from sluice.cli.video.run import run

    return run(options)


def _complete(options: argparse.Namespace) -> None:
    """Set the options of the demo. Raises UsageError if options are missing or contradict."""
    if options.demo:
        if options.source is not None or options.model is not None:
            raise UsageError("--demo has its own video and model")
        options.source, options.model = data_path("examples") / DEMO_FILM, DEMO_MODEL
        options.region, options.loop = arguments.region(DEMO_REGION), True
    if options.source is None:
        raise UsageError("give a SOURCE and --model MODEL, or use --demo")
    if options.model is None:
        raise UsageError("give the model: --model MODEL")
    if isinstance(options.source, Path):
        if options.camera_user is not None:
            raise UsageError("--camera-user needs a camera: rtsp://HOST/PATH")
    elif options.real_time or options.loop:
        raise UsageError("--real-time and --loop need a file")
    if options.camera_user is None and options.camera_password_file is not None:
        raise UsageError("--camera-password-file needs --camera-user NAME")
    options.real_time = options.real_time or options.loop
