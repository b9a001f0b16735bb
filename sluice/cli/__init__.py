"""The command line: `sluice COMMAND`. Each module registers the commands of one concern."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from sluice.cli.commands import EXIT_USAGE, CommandError
from sluice.cli.packages import check_packages
from sluice.config import ConfigError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    options = parser().parse_args(arguments)
    try:
        check_packages(options.packages)
        status: int = options.run(options)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    except CommandError as error:
        print(f"{options.prog}: {error}", file=sys.stderr)
        return error.status
    except BrokenPipeError:
        # `sluice schema | head`: the reader left, which is no error; keep the interpreter's own
        # flush at exit from finding that out again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    # Not above: multiprocessing imports the script `sluice`, and thereby this module, once more in
    # every callout worker, where the commands would take 2 MB for nothing.
    from sluice.cli import config, credentials, explain, profile, run, status

    root = argparse.ArgumentParser(prog="sluice", description="An AI inference gateway.")
    root.add_argument("--version", action="version", version=version("sluice-gateway"))
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (run, status, explain, profile, config, credentials):
        module.register(commands)
    return root
