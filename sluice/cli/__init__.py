"""The command line, `sluice COMMAND`. Each module registers the commands of one concern."""

import argparse
import os
import sys
from collections.abc import Sequence
from functools import cache

_MAX_LINE = 5000
"""Maximum characters of a line of an error."""

_EPILOG = """\
start here:
  sluice up --demo            run a gateway with example models
  sluice docs get-started     from there to a config of your own
  sluice docs                 all pages of the documentation
  sluice COMMAND --help       the options of a command
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit status."""
    # Imported late, as all modules here: containers run this command every few seconds, and most of
    # its time would be the imports of other commands.
    if arguments is None and sys.argv[1:2] == ["probe"]:
        from sluice import probe

        return probe.main(sys.argv[2:])
    if arguments is None and os.getpid() == 1:
        from sluice.init_process import run_as_init

        return run_as_init(lambda: _run(None))
    return _run(arguments)


def _run(arguments: Sequence[str] | None) -> int:
    from sluice.cli.commands import CommandError
    from sluice.cli.exit_status import ExitStatus
    from sluice.cli.packages import check_packages
    from sluice.config import ConfigError
    from sluice.output import write_error

    if arguments is None and len(sys.argv) == 1:
        parser().print_help(sys.stderr)
        return ExitStatus.USAGE
    options = parser().parse_args(arguments)
    try:
        check_packages(options.packages)
        status: int = options.run(options)
    except ConfigError as error:
        _print_error(str(error))
        return ExitStatus.USAGE
    except CommandError as error:
        _print_error(f"{options.prog}: {error}")
        if error.hint is not None:
            _print_error(f"hint: {error.hint}")
        return error.status
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    except BrokenPipeError:
        # The reader has closed the pipe, as in `sluice schema | head`. This is not an error. stdout
        # is replaced because the interpreter flushes stdout at exit, which would fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        _print_error(f"{options.prog}: {write_error(error)}")
        return ExitStatus.FAILED
    return status


def _print_error(text: str) -> None:
    """Print an error. Texts of files and servers in it may have control sequences of terminals."""
    from sluice.printable import printable

    for line in text.split("\n"):
        print(printable(line, _MAX_LINE), file=sys.stderr)


@cache
def parser() -> argparse.ArgumentParser:
    """The parser of the command line. To create it takes longer than many a command."""
    # Imported late: in every callout worker, multiprocessing imports the script `sluice`, which
    # imports this module. Workers do not need the commands, which take memory.
    from importlib.metadata import version

    from sluice.cli import (
        apply,
        canary,
        certs,
        completion,
        config,
        context,
        credentials,
        envoy,
        events,
        explain,
        export,
        files,
        get,
        history,
        jwks,
        probe,
        profile,
        run,
        status,
        traffic,
        video,
        video_service,
    )
    from sluice.cli.commands import CommandParser, Parser

    root = Parser(
        prog="sluice", description="An AI inference gateway.", epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    root.add_argument("--version", action="version", version=version("sluice-gateway"))
    root.set_defaults(root=root)
    commands = root.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=CommandParser
    )
    for module in (
        files, run, video_service, envoy, status, get, apply, history, canary, traffic, events,
        explain, video, profile, probe, context, config, export, credentials, certs, jwks,
        completion,
    ):  # fmt: skip
        module.register(commands)
    return root
